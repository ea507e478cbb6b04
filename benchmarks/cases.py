"""What is measured, and what was: plain values that travel between processes.  Imports nothing but the standard
library, because the interpreter of a peer need not have torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median, quantiles

OURS = ("mlcalc", "mlcalc-torch", "mlcalc-compile")
PEERS = {
    "mlcalc": "this package, kernels='auto'",
    "mlcalc-torch": "this package, kernels='torch': the same equations by autograd",
    "mlcalc-compile": "this package, kernels='compile'",
    "pyg": "PyTorch Geometric's ViSNet, forces without the graph of the double backward",
    "pyg-as-shipped": "the same as its forward() computes forces, create_graph=True",
    "naive": "the published equations in plain torch, edge by edge, autograd",
    "mlip": "InstaDeep's mlip (JAX), ViSNet of equal size with its own random weights",
}
FITS, TOO_LARGE, ABSENT, FAILED = "ok", "does not fit", "not installed", "failed"


@dataclass(frozen=True)
class Case:
    """One code on one system: a process of its own."""

    system: str
    structures: str  # path of an extended XYZ file with all structures, evaluated together
    network: str  # name of a recipe
    peer: str  # one of PEERS, or "reference"
    dtype: str  # "float32" or "float64"
    threads: int
    memory_gib: float  # it may allocate that much
    results: str = ""  # path of the .npz file for energies and forces
    device: str = "cpu"  # or "cuda"
    seed: int = 0  # of the weights

    @property
    def label(self) -> str:
        return f"{self.system} {self.network} {self.dtype} {self.peer}"


@dataclass
class Measurement:
    """What came of a case."""

    case: Case
    status: str = FITS
    reason: str = ""
    path: str = ""  # which of the engine's paths ran
    atoms: int = 0
    edges: int = 0
    first_call_s: float = 0.0  # first call of all, on a few atoms: compilation and loading
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0  # of one call, beyond the process before it
    energy_error: float | None = None  # eV per atom, largest of all structures
    force_error: float | None = None  # eV/Å, largest component
    reference: str = ""  # what the errors refer to

    @property
    def wall(self) -> float:
        """Median, s."""
        return median(self.wall_s) if self.wall_s else float("nan")

    @property
    def cpu(self) -> float:
        """Median, s."""
        return median(self.cpu_s) if self.cpu_s else float("nan")

    @property
    def spread(self) -> float:
        """Distance of the quartiles of the wall time, relative to the median."""
        if len(self.wall_s) < 2:
            return float("nan")
        first, _, third = quantiles(self.wall_s, n=4, method="inclusive")
        return (third - first) / self.wall
