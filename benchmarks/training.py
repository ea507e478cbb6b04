"""What a training step costs: `python -m benchmarks.training [--repeats 7] [--threads 2] [--dtype float32]`.

fused: the gradient of the loss from first derivatives by kernels, at displaced copies of the structures.
autograd: the same by twofold automatic differentiation of the same network.
pyg: PyTorch Geometric's ViSNet of equal size (channels, layers, heads, radial functions, cutoff), trained as its users
train it, on the same edges; left out where it is not installed.
Batches of 8 aspirins with the bundled network and of 4 copper crystals of 107 or 108 atoms with theirs, from the data
beside the checkout; the loss holds energies and forces.  The optimizer comes to the same for all and is left out.  All
in turns.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from benchmarks.networks import Recipe, model
from benchmarks.peers import PyG
from benchmarks.report import table
from benchmarks.roofline import machine
from mlcalc import load_model
from mlcalc.kernels import fused_gradients
from mlcalc.models import Network, Prediction
from mlcalc.training import read_frames
from mlcalc.training.config import LossConfig
from mlcalc.training.data import Frame
from mlcalc.training.samples import Sample, join_samples, make_sample, prediction_loss
from mlcalc.training.step import loss_gradient

DATA = Path(__file__).parents[2] / "shared" / "data"
LOSS = LossConfig(energy=30.0, forces=1.0)
_PEER = {"num_heads": 8, "lmax": 1}  # what PyG's ViSNet has and HVNet has not


@dataclass(frozen=True)
class Case:
    """A network and the batch that it learns from."""

    name: str
    model: str
    file: str
    frames: Callable[[list[Frame]], list[Frame]]


CASES = (
    Case("8 aspirins", "aspirin-visnet", "rmd17/aspirin_train.npz", lambda frames: frames[:8]),
    Case(
        "4 Cu crystals", "cu-hvnet", "mlearn_Cu/Cu_train.xyz",
        lambda frames: [frame for frame in frames if len(frame.atoms) in (107, 108)][:4],
    ),
)  # fmt: skip


def steps(case: Case, dtype: torch.dtype) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """The steps by name, and why others are missing."""
    network = load_model(case.model).to(dtype).requires_grad_(True).train()
    frames = case.frames(read_frames(DATA / case.file))
    batch = join_samples([make_sample(frame, network.cutoff) for frame in frames])
    ways: dict[str, Callable[[], Any]] = {}
    missing: dict[str, str] = {}
    kernels = fused_gradients(network, dtype)
    if isinstance(kernels, str):
        missing["fused"] = kernels
    else:
        ways["fused"] = lambda: loss_gradient(network, batch, LOSS, kernels)
    ways["autograd"] = lambda: loss_gradient(network, batch, LOSS, None)
    if importlib.util.find_spec("torch_geometric") is None:
        missing["pyg"] = "torch_geometric is not installed"
    else:
        ways["pyg"] = pyg_step(network, batch, dtype)
    return ways, missing


def pyg_step(network: Network, batch: Sample, dtype: torch.dtype) -> Callable[[], Any]:
    """A step of PyTorch Geometric's ViSNet of the size of the network."""
    config = network.config
    names = ("hidden_channels", "num_layers", "num_rbf", "cutoff", "num_heads", "lmax")
    sizes = {name: getattr(config, name, _PEER.get(name)) for name in names}
    recipe = Recipe("peer", "molecular", "visnet", {**sizes, "variant": "original"})
    peer = PyG(model(recipe, network.elements, batch.graph), dtype, create_graph=True)
    peer.network.train()
    parameters = list(peer.network.parameters())

    def step() -> list[Tensor]:
        positions = batch.graph.positions.to(dtype).requires_grad_(True)
        energy = peer.energy(batch.graph, positions)
        (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=True)
        result = Prediction(energy=energy.double(), forces=-gradient.double())
        loss = prediction_loss(result, replace(batch, energy=energy.detach().double()), LOSS)
        return list(torch.autograd.grad(loss, parameters, allow_unused=True))

    return step


def error(case: Case, dtype: torch.dtype, found: dict[str, Tensor]) -> float:
    """Of a gradient, relative to the norm of that by autograd in float64."""
    network = load_model(case.model).to(torch.float64).requires_grad_(True).train()
    frames = case.frames(read_frames(DATA / case.file))
    batch = join_samples([make_sample(frame, network.cutoff) for frame in frames])
    _, exact = loss_gradient(network, batch, LOSS, None)
    off, size = (
        torch.cat([x.flatten() for x in part]).norm()
        for part in ([found[name].double() - value for name, value in exact.items()], exact.values())
    )
    return float(off / size)


def samples(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of each way, taken in turns.

    Each is the second of two calls: in a training the step before was one of the same kind, and left its memory warm.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(1 + repeats):
        for name, step in ways.items():
            step()
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: values[1:] for name, values in taken.items()}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--repeats", default=7, type=click.IntRange(2), help="Samples of each, taken in turns.")
@click.option("--threads", default=2, type=click.IntRange(1), help="Threads of torch and of the fused kernels.")
@click.option("--dtype", default="float32", type=click.Choice(["float32", "float64"]), help="Precision.")
@click.option("--only", type=click.Choice([case.model for case in CASES]), help="The case of one model.")
def main(repeats: int, threads: int, dtype: str, only: str | None) -> None:
    """Times of training steps by kernels, by autograd and of PyTorch Geometric."""
    torch.set_num_threads(threads)
    kind: torch.dtype = getattr(torch, dtype)
    here = machine(threads)
    click.echo(f"{here.name}; {threads} threads; {dtype}; torch {here.torch}; medians of {repeats} samples\n")
    rows, notes = [], []
    for case in CASES:
        if only not in (None, case.model):
            continue
        ways, missing = steps(case, kind)
        notes += [f"{case.name}, {name}: {reason}" for name, reason in missing.items()]
        taken = samples(ways, repeats)
        ours = np.median(np.array(taken.get("fused", taken["autograd"])), axis=0)
        for name, values in taken.items():
            wall, cpu = zip(*values, strict=True)
            first, _, third = quantiles(wall, n=4, method="inclusive")
            off = "" if name == "pyg" else f"{error(case, kind, ways[name]()[1]):.1e}"
            spread = f"{100 * (third - first) / median(wall):.0f} %"
            times = f"{median(wall) / ours[0]:.2f}, {median(cpu) / ours[1]:.2f}"
            figures = [f"{1e3 * median(wall):.4g}", spread, f"{1e3 * median(cpu):.4g}", times]
            rows.append([case.name, case.model, name, *figures, off])
    header = "batch | size of | step | wall ms | spread | CPU ms | times fused (wall, CPU) | error of the gradient"
    click.echo(table(header.split(" | "), rows))
    for note in notes:
        click.echo(note)


if __name__ == "__main__":
    main()
