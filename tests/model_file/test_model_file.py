"""Model files: what is saved comes back bit for bit, and a save that fails leaves no trace."""

from __future__ import annotations

import copy
import json
import re
import resource
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from ase import Atoms
from ase.build import bulk
from model_bytes import PairNet, PairNetConfig, register_pair_net, signed, split
from small_networks import random_network, small_settings
from structures import graph_of
from torch import nn

from mlcalc.errors import ModelFileError, UnknownElementError
from mlcalc.model_file.header import read_model_info
from mlcalc.model_file.info import ModelInfo
from mlcalc.model_file.model_file import load_model, save_model
from mlcalc.models import HVNet, HVNetConfig, build_network, network_settings, predict, registry
from mlcalc.models.errors import ModelError

NETWORKS = list(small_settings())
COPPER = HVNetConfig(elements=("Cu",), cutoff=4.0, hidden_channels=8, num_layers=1, num_rbf=4, energy_shift=(-3.7,))
INFO = ModelInfo(
    name="cu-test",
    description="Für Tests, in Å",
    envelope={"temperature_K": [300, 1400], "phases": ["fcc", "liquid"]},
    provenance={"data": "none", "licence": "CC0", "seed": 3},
    errors={"energy_mae_meV": 1.5},
)


def copper(dtype: torch.dtype = torch.float32) -> HVNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return HVNet(COPPER).to(dtype)


def bits(network: nn.Module) -> dict[str, tuple[torch.dtype, tuple[int, ...], bytes]]:
    return {k: (v.dtype, tuple(v.shape), v.numpy().tobytes()) for k, v in network.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("kind", "settings"), NETWORKS, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(NETWORKS)])
def test_a_loaded_network_is_the_saved_one(
    tmp_path: Path, kind: str, settings: dict[str, Any], dtype: torch.dtype
) -> None:
    network = random_network(kind, settings).to(dtype)
    save_model(network, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert bits(loaded) == bits(network)
    assert network_settings(loaded) == network_settings(network)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    graph = graph_of(
        Atoms(settings["elements"], positions=np.arange(3.0 * len(settings["elements"])).reshape(-1, 3)), 4
    )
    ours, theirs = predict(loaded, graph), predict(network, graph)
    torch.testing.assert_close(ours.energies, theirs.energies, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(ours.forces, theirs.forces, rtol=1e-12, atol=1e-12)


def test_saving_and_loading_leave_everything_else_alone(tmp_path: Path) -> None:
    network = copper().train().requires_grad_(True)
    before, random_state, numpy_state = bits(network), torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    atoms = bulk("Cu", cubic=True)
    copied = atoms.copy()
    save_model(network, tmp_path / "a.safetensors", info=INFO, golden=[atoms])
    load_model(tmp_path / "a.safetensors")
    assert bits(network) == before
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert atoms == copied
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_file_loads_the_same_under_another_default_dtype(tmp_path: Path) -> None:
    save_model(copper(), tmp_path / "a.safetensors")
    try:
        torch.set_default_dtype(torch.float64)
        loaded = load_model(tmp_path / "a.safetensors")
    finally:
        torch.set_default_dtype(torch.float32)
    assert bits(loaded) == bits(copper())


def test_equal_networks_give_equal_files_of_the_published_format(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(copper(), tmp_path / f"{name}.safetensors", info=INFO)
    content = (tmp_path / "a.safetensors").read_bytes()
    assert content == (tmp_path / "b.safetensors").read_bytes()
    assert split(signed(*split(content))) == split(content)  # the hash as the description of the format defines it
    table = {name: entry["data_offsets"] for name, entry in split(content)[0].items() if name != "__metadata__"}
    assert sorted(table) == sorted(table, key=table.__getitem__)
    tensors = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(tensors[name], value) for name, value in copper().state_dict().items())
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert json.loads(file.metadata()["mlcalc"])["settings"]["elements"] == ["Cu"]
        assert "hvnet potential for Cu, cutoff 4.0 Å" in file.metadata()["about"]


def test_the_info_comes_back_completed(tmp_path: Path) -> None:
    save_model(copper(), tmp_path / "a.safetensors", info=replace(INFO, kind="wrong", cutoff=9.0))
    info: ModelInfo = load_model(tmp_path / "a.safetensors").info
    given = ("name", "description", "units", "precision", "neighbor_convention", "envelope", "provenance", "errors")
    assert {name: getattr(info, name) for name in given} == {name: getattr(INFO, name) for name in given}
    assert (info.kind, info.elements, info.cutoff, info.energy_shift) == ("hvnet", ("Cu",), 4.0, (-3.7,))
    assert (info.dtype, info.format_version, len(info.sha256)) == ("float32", 1, 64)
    assert info.settings["num_rbf"] == 4
    assert info == read_model_info(tmp_path / "a.safetensors")
    assert copy.deepcopy(load_model(tmp_path / "a.safetensors")).info == info
    save_model(copper(), tmp_path / "anonymous.safetensors")
    assert read_model_info(tmp_path / "anonymous.safetensors").name == "anonymous"


def test_golden_structures_hold_the_float64_answer(tmp_path: Path) -> None:
    strained = bulk("Cu", a=3.7)
    strained.info["name"] = "strained Cu"
    save_model(copper(), tmp_path / "a.safetensors", golden=[strained])
    golden = read_model_info(tmp_path / "a.safetensors").golden
    assert golden[-1].name == "strained Cu"
    assert any(g.pbc == (True, True, True) for g in golden[:-1])
    assert any(len(g.numbers) == 1 for g in golden)
    for structure in golden:
        reference = predict(copper(torch.float64), graph_of(structure.atoms(), COPPER.cutoff))
        assert structure.energy == pytest.approx(float(reference.energy[0]), abs=1e-10)
        assert np.allclose(structure.forces, reference.forces, rtol=0, atol=1e-10)
    assert max(np.abs(g.forces).max() for g in golden) > 1e-3  # zeros would compare equal with anything


def _nan(network: HVNet) -> HVNet:
    with torch.no_grad():
        network.embed.weight[0, 3] = float("nan")
    return network


def _mixed(network: HVNet) -> HVNet:
    network.embed.double()
    return network


@pytest.mark.parametrize(
    ("network", "options", "text"),
    [
        (_nan(copper()), {}, r"embed.weight' holds 1 NaN .* of 8.*earlier checkpoint"),
        (copper(), {"path": "model.pt"}, r"must be named \*.safetensors"),
        (copper(), {"path": "nowhere/model.safetensors"}, r"could not be written .*No such file.*folder exists"),
        (copper(), {"info": ModelInfo(errors={"a": np.float32(1)})}, r"as JSON \(.*float32.*use texts, finite numbers"),
        (copper(), {"info": ModelInfo(errors={"a": float("nan")})}, r"as JSON \(.*use texts, finite numbers"),
        (copper(), {"info": ModelInfo(name=3)}, r"'name' .* is a int, not str"),
        (copper(), {"info": ModelInfo(units="Ha, Bohr")}, r"units 'Ha, Bohr'.* 'eV, Å' only: convert"),
        (_mixed(copper()), {}, r"mixes weights of dtypes float32, float64: convert"),
        (copper().bfloat16(), {}, r"bfloat16.*use float32 or float64"),
        (copper(), {"golden": [Atoms("Cu")] * 300}, r"30\d golden structures are more than the 256"),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path: Path, network: HVNet, options: dict[str, Any], text: str) -> None:
    target = (
        tmp_path / options.pop("path", "model.safetensors") if "path" in options else tmp_path / "model.safetensors"
    )
    with pytest.raises(ModelFileError, match=text):
        save_model(network, target, **options)
    assert not list(tmp_path.iterdir())


def test_golden_structures_must_suit_the_model_and_the_model_be_registered(tmp_path: Path) -> None:
    with pytest.raises(UnknownElementError, match="Ag"):
        save_model(copper(), tmp_path / "a.safetensors", golden=[bulk("Ag")])
    with pytest.raises(ModelError, match=r"Linear is not a registered architecture.*hvnet"):
        save_model(nn.Linear(1, 1), tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_failing_save_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_model(copper(), path)
    old = path.read_bytes()
    with pytest.raises(ModelFileError, match="NaN"):
        save_model(_nan(copper()), path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:  # as on a full disk: only the first 4000 bytes can be written
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
        with pytest.raises(ModelFileError, match=r"File too large.*unchanged.*free space"):
            save_model(copper(torch.float64), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


WRITER = """
import sys, torch
from mlcalc.model_file.model_file import save_model
from mlcalc.models import HVNet, HVNetConfig
networks = [HVNet(HVNetConfig(elements=("Cu",), hidden_channels=n, num_layers=1)) for n in (4, 64)]
while True:
    for network in networks:
        save_model(network, sys.argv[1])
    print("saved", flush=True)
"""


def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, cwd=Path.cwd()) as writer:
        assert writer.stdout.readline() == b"saved\n"
        channels = Counter[int]()
        while min(channels[4], channels[64]) < 10:
            channels[read_model_info(path).settings["hidden_channels"]] += 1
        writer.send_signal(signal.SIGKILL)
    load_model(path)
    save_model(copper(), path)  # what the killed writer may have left behind is in nobody's way
    assert load_model(path).info.settings["hidden_channels"] == 8


@pytest.fixture
def third_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ARCHITECTURES", dict(registry._ARCHITECTURES))
    register_pair_net()


@pytest.mark.usefixtures("third_architecture")
def test_a_new_architecture_is_saved_and_loaded_without_any_other_change(tmp_path: Path) -> None:
    network = build_network(
        "pair-net", {"elements": ["Cu"], "cutoff": 4.5, "width": 6, "energy_shift": [-3.0]}
    ).double()
    save_model(network, tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    assert type(loaded) is PairNet
    assert loaded.scale.dtype == torch.float64
    assert loaded.config == PairNetConfig(("Cu",), 4.5, 6, (-3.0,))
    assert bits(loaded) == bits(network)


def test_an_architecture_nobody_registered_is_refused(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_ARCHITECTURES", dict(registry._ARCHITECTURES))
        register_pair_net()
        save_model(PairNet(PairNetConfig(("Cu",), energy_shift=(0.0,))), tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match=r"kind 'pair-net'; this version knows hpnet, .*, visnet.*[Uu]pgrade"):
        load_model(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("hvnet", {"variant": "dgl", "legacy_mic": True}, "; of these the nearest image of each pair only"),
        (
            "visnet",
            {"variant": "original", "max_num_neighbors": 16},
            "; of these the first 16 sources by index, .*itself",
        ),
        ("visnet", {"variant": "original"}, ""),
    ],
)
def test_the_header_says_which_neighbors_count(tmp_path: Path, kind: str, settings: dict[str, Any], words: str) -> None:
    sizes = {"elements": ("Cu",), "cutoff": 4.0, "hidden_channels": 8, "num_layers": 2, "num_rbf": 6}
    sizes |= {"num_heads": 2} if kind == "visnet" else {}
    save_model(build_network(kind, sizes | settings), tmp_path / "a.safetensors")
    info = read_model_info(tmp_path / "a.safetensors")
    assert re.fullmatch(
        f"full list, every image within the cutoff{words}.*" if words else "full list, .*cutoff",
        info.neighbor_convention,
    )
    again = load_model(tmp_path / "a.safetensors")
    save_model(again, tmp_path / "b.safetensors", info=again.info)
    assert read_model_info(tmp_path / "b.safetensors").neighbor_convention == info.neighbor_convention
