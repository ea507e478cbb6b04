"""Networks made to run on graphs of fixed sizes, and the choice of the fastest way that gives the right numbers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from mlcalc.gpu.gradients import Gradients, energy_gradients
from mlcalc.gpu.kernels import KERNELS, fusion_obstacle, prepare_kernels
from mlcalc.gpu.padding import Sizes, pad, padded_sizes
from mlcalc.gpu.partition import PartitionedHVNet, Parts, needs_parts, part_sizes, parts_of
from mlcalc.gpu.precision import matmul_precision
from mlcalc.gpu.recording import Recorder
from mlcalc.graphs.trial import largest_error, trial_graph
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.models import Graph, HVNet, Potential

_AGREEMENT = {"float64": 1e-8, "ieee": 1e-3, "tf32": 0.1}  # of the trial, relative to its largest numbers


@dataclass(frozen=True, eq=False)
class Choice:
    """A network that passed its trial, or none of them, and why the faster ones were not taken."""

    network: StaticNetwork | None
    kernels: str
    why: str


def choose(potential: Potential, device: torch.device, dtype: torch.dtype, *, matmul: str, kernels: str) -> Choice:
    """The network with these kernels, or for "auto" with the fastest ones that it has.

    Each choice is recorded and run once on a small structure, and taken only if it gives what the plain network gives
    there.  ConfigError for kernels that nobody knows or that the network does not have.
    """
    if kernels not in ("auto", *KERNELS):
        raise ConfigError(f"kernels = {kernels!r} is not known on a GPU: choose one of auto, {', '.join(KERNELS)}")
    if kernels != "auto" and (obstacle := fusion_obstacle(potential, kernels)):
        raise ConfigError(f"kernels = {kernels!r} cannot be used: {obstacle}. Leave it at 'auto'")
    refused: list[str] = []
    for kind in ("triton", "torch") if kernels == "auto" else (kernels,):
        if reason := fusion_obstacle(potential, kind):
            refused.append(f"not by {kind} kernels: {reason}")
            continue
        network = StaticNetwork(placed(potential, device, dtype), kind)
        with matmul_precision(matmul):
            reason = _trial(network, placed(potential, device, dtype), device, dtype, matmul)
        if not reason:
            return Choice(network, kind, "; ".join(refused))
        refused.append(f"not by {kind} kernels: {reason}")
    return Choice(None, "", "; ".join(refused))


def _trial(network: StaticNetwork, plain: Potential, device: torch.device, dtype: torch.dtype, matmul: str) -> str:
    """What went wrong when the network was recorded and run; empty if nothing did."""
    graph = trial_graph(plain).to(device)
    try:
        sizes, part_sizes = network.sizes(graph)
        padded, parts = pad(graph, sizes, plain.cutoff), network.parts(graph, part_sizes, sizes)
        found = Recorder(device).record(lambda: network.gradients(padded, parts, strain=True))()
        reference = energy_gradients(plain, graph, strain=True)
        error = _largest_error(found, reference, len(graph.numbers))
    except torch.OutOfMemoryError:
        raise
    except Exception as failure:  # compilers of kernels raise errors of all kinds
        return f"{type(failure).__name__}: {str(failure).strip().splitlines()[0] if str(failure).strip() else ''}"
    limit = _AGREEMENT["float64" if dtype == torch.float64 else matmul]
    return "" if error <= limit else f"their numbers differ from those of the plain network by {error:.1e}"


def _largest_error(found: Gradients, reference: Gradients, atoms: int) -> float:
    """Of energy, forces and strain gradient, relative to the largest of each or to one; NaN if any is NaN."""
    pairs = [(found.energy[:1], reference.energy), (found.forces[:atoms], reference.forces)]
    if found.strain is not None and reference.strain is not None:
        pairs.append((found.strain[:1], reference.strain))
    return largest_error(pairs)


class StaticNetwork:
    """A network that runs on padded graphs of fixed sizes without looking at a number."""

    def __init__(self, potential: Potential, kernels: str = "torch") -> None:
        self.potential = potential
        self.partition = PartitionedHVNet(potential) if needs_parts(potential) else None
        prepare_kernels(cast("nn.Module", potential), kernels)

    def sizes(self, graph: Graph) -> tuple[Sizes, tuple[int, ...]]:
        """Padded sizes of the graph, and of its parts by element where the network needs these."""
        whole = padded_sizes(len(graph.numbers), graph.edges.shape[1], graph.n_structures)
        return whole, part_sizes(graph, self._elements) if self.partition is not None else ()

    def parts(self, graph: Graph, sizes: tuple[int, ...], padded: Sizes) -> Parts | None:
        """The graph's parts by element on the graph's device, where the network needs them."""
        return parts_of(graph, self._elements, sizes, padded) if self.partition is not None else None

    def gradients(self, graph: Graph, parts: Parts | None, *, strain: bool) -> Gradients:
        """Energies and gradients of a padded graph."""
        if self.partition is not None:
            self.partition.parts = parts
        return energy_gradients(self.potential, graph, strain=strain)

    @property
    def _elements(self) -> HVNet:
        return cast("HVNet", self.potential)


def placed(potential: Potential, device: torch.device, dtype: torch.dtype) -> Potential:
    """A copy of the potential on the device, in the precision, that nothing is learned by."""
    network = copy.deepcopy(cast("nn.Module", potential)).to(device, dtype).eval().requires_grad_(False)
    return cast("Potential", network)
