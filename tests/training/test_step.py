"""The gradient of the loss from first derivatives of energies is that of twofold automatic differentiation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.io import write
from checks import defined
from plain_gradients import PlainGradients, labeled, relative_error
from small_networks import PUBLISHED, named_settings, random_network, variant
from small_training import SETTINGS, emt_frames
from structures import crystal, samples
from torch import Tensor

from mlcalc.kernels import fused_gradients
from mlcalc.kernels.gradients import TangentKernels
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.models import Graph, Network, Prediction
from mlcalc.training import Trainer, load_training_config, step
from mlcalc.training.config import LossConfig
from mlcalc.training.samples import Sample, loss_of
from mlcalc.training.step import loss_gradient

LOSS = LossConfig(energy=3.0, forces=1.0, stress=2.0)
LIMIT = {torch.float64: 1e-6, torch.float32: 1e-3}
NETWORKS = {name: (kind, settings) for name, kind, settings in named_settings()}
ORIGINALS = {name for name, _, _ in PUBLISHED}
# these divide vectors by their largest or their mean norm: at a site where all vanish by symmetry, noise by noise
SINGULAR = ("visnet original edge max_min HCO", "visnet original node rms HCO")


def trainable(network: Any) -> Network:
    return network.requires_grad_(True).train()  # type: ignore[no-any-return]


def structures(name: str, network: Any) -> list[Atoms]:
    several = [*samples(network.elements), crystal(network.elements, atoms=4, seed=7)]
    if name in SINGULAR:
        del several[2]
    return defined(network, several)


def error(network: Network, batch: Sample, loss: LossConfig = LOSS, dtype: torch.dtype = torch.float64) -> float:
    """Of the scheme in this precision against double backward in float64."""
    reference = trainable(variant(network))
    value, expected = loss_gradient(reference, batch, loss, None)
    rounded = trainable(variant(network, dtype=dtype))
    found_value, found = loss_gradient(rounded, batch, loss, PlainGradients(rounded))
    assert found_value == pytest.approx(value, rel=1e-10 if dtype == torch.float64 else 1e-3)
    return relative_error(found, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_equal_to_double_backward(name: str) -> None:
    network = random_network(*NETWORKS[name])
    batch = labeled(structures(name, network), network.cutoff)
    assert error(network, batch) < LIMIT[torch.float64]


@pytest.mark.parametrize("name", [name for name in NETWORKS if name.startswith("hvnet ") and name not in ORIGINALS])
@pytest.mark.parametrize("dtype", LIMIT, ids=str)
def test_differences_are_near_enough_in_the_precision_of_training(name: str, dtype: torch.dtype) -> None:
    """For those networks whose kernels are trained by differences; ViSNet's give exact tangents."""
    network = random_network(*NETWORKS[name])
    batch = labeled(structures(name, network), network.cutoff)
    assert error(network, batch, dtype=dtype) < LIMIT[dtype]


@pytest.mark.parametrize("part", ["energy", "forces", "stress"])
def test_every_part_of_the_loss(part: str) -> None:
    network = random_network(*NETWORKS["hvnet HCO"])
    batch = labeled(structures("hvnet HCO", network), network.cutoff)
    loss = replace(LossConfig(energy=0.0, forces=0.0, stress=0.0), **{part: 2.0})
    assert error(network, batch, loss) < LIMIT[torch.float64]
    assert loss_of(network, batch, loss) > 0


def test_structures_without_edges_or_without_any_direction() -> None:
    """A lone atom has no forces; in a molecule of two atoms that are far apart nothing changes either."""
    network = random_network(*NETWORKS["hvnet HCO"])
    apart = Atoms("HO", [[0, 0, 0], [30.0, 0, 0]])
    batch = labeled([Atoms("C"), apart, *samples(network.elements)], network.cutoff)
    assert error(network, batch) < LIMIT[torch.float64]
    alone = labeled([Atoms("C"), apart], network.cutoff)
    assert error(network, alone) < 1e-12  # no difference is taken


def test_frozen_networks_have_gradients_by_kernels_too() -> None:
    """What a gradient is does not depend on what autograd was told to record."""
    network = random_network(*NETWORKS["hvnet Cu"])
    batch = labeled(structures("hvnet Cu", network), network.cutoff)
    found = loss_gradient(network, batch, LOSS, PlainGradients(network))[1]
    expected = loss_gradient(trainable(variant(network)), batch, LOSS, None)[1]
    assert relative_error(found, expected) < LIMIT[torch.float64]


class _Stale(PlainGradients):
    def refresh(self, network: Network) -> None:
        pass


def test_weights_that_change_are_taken_over() -> None:
    network = trainable(random_network(*NETWORKS["hvnet Cu"]))
    batch = labeled(structures("hvnet Cu", network), network.cutoff)
    fresh, stale = PlainGradients(network), _Stale(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.01)
    expected = loss_gradient(network, batch, LOSS, None)[1]
    assert relative_error(loss_gradient(network, batch, LOSS, fresh)[1], expected) < LIMIT[torch.float64]
    assert relative_error(loss_gradient(network, batch, LOSS, stale)[1], expected) > LIMIT[torch.float32]


def _other_side(graph: Graph, slopes: Prediction, size: float) -> Any:
    copies, seeds = _COPIES(graph, slopes, size)
    return copies, seeds.roll(graph.n_structures)


def _without_strain(graph: Graph, slopes: Prediction) -> Any:
    direction, strain = _DIRECTION(graph, slopes)
    return direction, 0 * strain


def _whole_shear(graph: Graph, slopes: Prediction) -> Any:
    direction, strain = _DIRECTION(graph, slopes)
    return direction, strain * (2 - torch.eye(3, dtype=torch.float64))


def _without_energy(graph: Graph, slopes: Prediction, size: float) -> Any:
    return _COPIES(graph, replace(slopes, energy=None), size)


_COPIES, _DIRECTION = step._displaced_copies, step._direction


@pytest.mark.parametrize(
    ("function", "twin"),
    [
        ("_displaced_copies", _other_side),
        ("_displaced_copies", _without_energy),
        ("_direction", _without_strain),
        ("_direction", _whole_shear),
    ],
)
def test_broken_twins_are_caught(function: str, twin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(*NETWORKS["hvnet Cu"])
    batch = labeled(structures("hvnet Cu", network), network.cutoff)
    assert error(network, batch) < LIMIT[torch.float64]
    monkeypatch.setattr(step, function, twin)
    assert error(network, batch) > LIMIT[torch.float32]


def test_the_step_is_where_neither_truncation_nor_rounding_rules() -> None:
    """Ten times longer displacements have a hundred times the error: the scheme is of second order."""
    network = random_network(*NETWORKS["visnet lmax 2 HCO"])
    batch = labeled(structures("visnet lmax 2 HCO", network), network.cutoff)
    with pytest.MonkeyPatch.context() as patch:
        errors = []
        for size in (1e-4, 1e-3):
            patch.setitem(step.STEPS, torch.float64, size)
            errors.append(error(network, batch))
    assert errors[1] / errors[0] == pytest.approx(100, rel=0.1)


def run(folder: Path, name: str, changes: dict[str, Any]) -> tuple[list[float], Tensor]:
    """Loss of every epoch, and the weights at the end."""
    trainer = Trainer(load_training_config(folder / "small.toml", changes), folder / name)
    losses = []
    while not trainer.finished:
        trainer._step()
        if trainer.state.step % trainer.steps_per_epoch == 0:
            losses.append(trainer.state.epoch_loss)
            trainer.state.epoch_loss = 0.0
    trainer.close()
    return losses, torch.cat([parameter.detach().flatten() for parameter in trainer.network.parameters()])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "frames.xyz", emt_frames(20))
    (tmp_path / "small.toml").write_text(SETTINGS, encoding="utf-8")
    return tmp_path


def test_a_whole_training_is_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what rounding makes of it; without the strain it is another one."""
    epochs = {"optimizer.epochs": 6, "model.num_layers": 2}
    exact, weights = run(folder, "autograd", {**epochs, "optimizer.gradients": "autograd"})
    losses, fused = run(folder, "fused", {**epochs, "optimizer.gradients": "fused"})
    assert exact[-1] < 0.8 * exact[0]
    assert losses == pytest.approx(exact, rel=0.01)
    assert relative_distance(fused, weights) < 0.01
    monkeypatch.setattr(step, "_direction", _without_strain)
    losses, broken = run(folder, "broken", {**epochs, "optimizer.gradients": "fused"})
    assert losses != pytest.approx(exact, rel=0.01)
    assert relative_distance(broken, weights) > 0.05


def relative_distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_a_run_keeps_its_kind_of_gradients(folder: Path) -> None:
    config = load_training_config(folder / "small.toml", {"optimizer.gradients": "autograd"})
    first = Trainer(config, folder / "run")
    assert first.kernels is None
    first._save()
    first.close()
    with pytest.raises(ConfigError, match=r"with optimizer.gradients = 'autograd', now it is 'fused': restore"):
        Trainer(load_training_config(folder / "small.toml"), folder / "run")
    Trainer(config, folder / "run").close()


def test_networks_without_kernels_are_trained_by_autograd(folder: Path) -> None:
    changes: dict[str, Any] = {"model.variant": "dgl", "model.neighbor_norm": 1.0, "loss.stress": 0.0}
    assert Trainer(load_training_config(folder / "small.toml", changes), folder / "auto").kernels is None
    with pytest.raises(ConfigError, match=r'"fused" is not possible .*variant \'dgl\' of HVNet\): give "auto" or'):
        Trainer(
            load_training_config(folder / "small.toml", {**changes, "optimizer.gradients": "fused"}), folder / "run"
        )
    with pytest.raises(ConfigError, match="gradients = 'exact' is not allowed: give 'auto' or 'fused' or 'autograd'"):
        load_training_config(folder / "small.toml", {"optimizer.gradients": "exact"})


@pytest.mark.parametrize("name", ["hvnet HCO", "hvnet painn HCO", "visnet lmax 1 HCO", "visnet lmax 2 Cu"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_fused_kernels_give_the_gradient_of_double_backward(name: str, dtype: torch.dtype) -> None:
    """The kernels themselves, exact tangents where they have them, in what a training step calls."""
    network = trainable(random_network(*NETWORKS[name]))
    batch = labeled(structures(name, network), network.cutoff)
    expected = loss_gradient(network, batch, LOSS, None)[1]
    rounded = trainable(variant(network, dtype=dtype))
    kernels = fused_gradients(rounded, dtype)
    assert not isinstance(kernels, str), kernels
    assert isinstance(kernels, TangentKernels) is name.startswith("visnet")
    found = loss_gradient(rounded, batch, LOSS, kernels)[1]
    assert relative_error(found, expected) < LIMIT[dtype]
