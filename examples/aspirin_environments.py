"""What a ViSNet tells apart: the atoms of aspirin, clustered by the inner products of their direction units.

python examples/aspirin_environments.py                  # a short run at 300 K; writes aspirin_environments.png
python examples/aspirin_environments.py --frames frames.extxyz --model MODEL
python examples/aspirin_environments.py --help

As in Fig. 4 of Wang et al., Nat. Commun. 15, 313 (2024): t-SNE maps <v, v> of every atom in every frame to a plane,
DBSCAN finds the clusters there, and the molecule is drawn in their colors.  Needs pip install "mlcalc[examples]".
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from ase.neighborlist import natural_cutoffs, neighbor_list
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from mlcalc import MLCalculator, atom_representations, load_model
from mlcalc.errors import DataError, MissingExtraError
from mlcalc.md_protocols import run_nvt
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.models import Network

ASPIRIN = Atoms(  # Å, at the minimum of the bundled model
    "C7O3C2OH8",
    [
        *([-2.17, -0.81, 0.08], [-1.10, 1.76, -0.20], [-3.02, 0.31, 0.10], [-2.48, 1.60, -0.04], [3.40, 0.60, -0.04]),
        *([-0.78, -0.67, -0.10], [-0.25, 0.65, -0.23], [1.29, -1.89, -0.44], [1.69, 0.31, 1.67], [-0.61, -3.03, -0.03]),
        *([0.09, -1.87, -0.20], [2.02, 0.56, 0.53], [1.09, 0.88, -0.46], [0.06, -3.74, -0.13], [-2.58, -1.82, 0.18]),
        *([-0.65, 2.76, -0.32], [-4.10, 0.17, 0.23], [-3.14, 2.48, -0.03], [3.52, 1.44, -0.75], [4.14, 0.66, 0.78]),
        [3.55, -0.34, -0.60],
    ],
)
EQUILIBRATION, INTERVAL, TIMESTEP_FS = 300, 20, 0.5
NOISE, NOISE_COLOR = -1, (0.0, 0.0, 0.0, 1.0)
MARKERS = {"H": "o", "C": "s", "N": "D", "O": "^"}


@dataclass(frozen=True)
class Clusters:
    """The map of F frames of N atoms, and the clusters on it."""

    map: np.ndarray  # (F, N, 2) t-SNE coordinates
    labels: np.ndarray  # (F, N) numbers from 0, -1 for a point of no cluster

    @property
    def of_atom(self) -> np.ndarray:
        """(N,) the cluster each atom is in most often."""
        return np.array([np.bincount(column + 1).argmax() - 1 for column in self.labels.T])

    @property
    def count(self) -> int:
        return int(self.labels.max()) + 1

    def color(self, label: int) -> tuple[float, ...]:
        if label == NOISE:
            return NOISE_COLOR
        if self.count <= 20:
            return colormaps["tab20"]((2 * label) % 20 + (2 * label) // 20)  # the ten dark colors first
        return colormaps["turbo"](label / self.count)


def main() -> None:
    options = read_options()
    require_scikit_learn()
    network = load_model(options.model)
    frames = read_molecules(options.frames, options.count) if options.frames else simulate(network, options)
    print(f"{len(frames)} frames of {frames[0].symbols}, {options.model}")
    values = np.array(atom_representations(network, frames, progress=True))  # (F, N, channels)
    clusters = find_clusters(values, reach=options.reach, seed=options.seed)
    print("\n".join(report(clusters, frames[0])))
    figure = Figure(figsize=(12.5, 5.2), layout="constrained")
    plane, drawing = figure.subplots(1, 2, width_ratios=[1.0, 1.15])
    draw_map(plane, clusters, frames[0])
    draw_molecule(drawing, clusters, frames[0])
    figure.legend(handles=legend(clusters, frames[0]), loc="outside right center", frameon=False, title="cluster")
    figure.savefig(options.output, dpi=200)
    print(f"wrote {options.output}")


def require_scikit_learn() -> None:
    """MissingExtraError, before minutes are spent on frames."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f'this example needs scikit-learn, which is not installed ({error}): pip install "mlcalc[examples]"'
        ) from error


def simulate(network: Network, options: argparse.Namespace) -> list[Atoms]:
    """Frames 10 fs apart of a canonical run that began at the starting structure."""
    atoms = read(options.start) if options.start else ASPIRIN.copy()
    atoms.calc = MLCalculator(network, dtype="float32")
    steps = EQUILIBRATION + INTERVAL * options.count
    print(f"{atoms.symbols}: {steps} steps of {TIMESTEP_FS} fs at {options.temperature_K:g} K")
    trajectory = run_nvt(
        atoms,
        temperature_K=options.temperature_K,
        timestep_fs=TIMESTEP_FS,
        steps=steps,
        thermostat="bussi",
        seed=options.seed,
        trajectory_interval=INTERVAL,
        progress=True,
    )
    return trajectory.frames[-options.count :]


def read_molecules(path: str, count: int) -> list[Atoms]:
    """Up to `count` frames, evenly spaced, of an npz file (numbers, positions) or of any file that ASE reads."""
    if path.endswith(".npz"):
        with np.load(path, allow_pickle=False) as data:
            if not {"numbers", "positions"} <= set(data):
                raise DataError(f"{path} holds {', '.join(data)}: give numbers (N,) and positions (F, N, 3) in Å")
            frames = [Atoms(data["numbers"], positions) for positions in data["positions"]]
    else:
        frames = read(path, index=":")
    if len({tuple(frame.numbers) for frame in frames}) != 1:
        raise DataError(f"{path} holds different molecules: give frames of one, its atoms always in the same order")
    return [frames[k] for k in np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))]


def find_clusters(values: np.ndarray, *, reach: float, seed: int) -> Clusters:
    """Clusters of the atoms' values (F, N, channels), numbered as their first atoms are."""
    from sklearn.cluster import DBSCAN
    from sklearn.manifold import TSNE

    frames, atoms, channels = values.shape
    points = values.reshape(-1, channels)
    if len(points) < 10:
        raise ConfigError(f"{frames} frames of {atoms} atoms are too few points for a map: give at least 10")
    perplexity = min(30.0, (len(points) - 1) / 3)
    plane = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)
    neighbors = min(5, frames)
    spacing = float(np.median(cKDTree(plane).query(plane, k=[neighbors + 1])[0]))  # the map's scale means nothing
    found = DBSCAN(eps=reach * spacing, min_samples=neighbors).fit_predict(plane)
    order = {label: number for number, label in enumerate(dict.fromkeys(found[found != NOISE].tolist()))}
    labels = np.array([order.get(label, NOISE) for label in found.tolist()])
    return Clusters(plane.reshape(frames, atoms, 2), labels.reshape(frames, atoms))


def report(clusters: Clusters, atoms: Atoms) -> list[str]:
    """One line per cluster: its atoms, and how often each of them is in it."""
    lines = []
    for label in range(clusters.count):
        shares = (clusters.labels == label).mean(axis=0)
        named = [f"{atoms.symbols[k]}{k} ({shares[k]:.0%})" for k in np.flatnonzero(shares)]
        lines.append(f"cluster {label + 1:2}: {', '.join(named)}")
    noise = float((clusters.labels == NOISE).mean())
    return [*lines, f"in no cluster: {noise:.1%} of the points"]


def draw_map(axis: Any, clusters: Clusters, atoms: Atoms) -> None:
    """The t-SNE map, each cluster with its number above it."""
    for k, symbol in enumerate(atoms.symbols):
        colors = [clusters.color(label) for label in clusters.labels[:, k]]
        x, y = clusters.map[:, k].T
        axis.scatter(x, y, s=14, c=colors, marker=MARKERS.get(symbol, "P"), linewidths=0)
    for label in range(clusters.count):
        points = clusters.map[clusters.labels == label]
        above = (float(np.median(points[:, 0])), float(points[:, 1].max()))
        number = axis.annotate(str(label + 1), above, (0, 3), textcoords="offset points", ha="center", weight="bold")
        number.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    axis.margins(0.12)
    axis.set(xlabel="t-SNE 1 (arbitrary units)", ylabel="t-SNE 2 (arbitrary units)")
    axis.set_aspect("equal", adjustable="datalim")
    axis.set_title(f"(a)  {len(clusters.labels)} frames, one point per atom and frame", loc="left")


def draw_molecule(axis: Any, clusters: Clusters, atoms: Atoms) -> None:
    """The molecule, each atom and its half of a bond in the color of its cluster, whose number is the index."""
    xyz = open_view(atoms)
    colors = [clusters.color(label) for label in clusters.of_atom]
    depth = 3 + np.argsort(np.argsort(xyz[:, 2]))  # atoms in front are drawn over those behind
    for i, j in bonds(atoms):
        middle = (xyz[i] + xyz[j]) / 2
        for k in (i, j):
            ends = np.array([xyz[k], middle])
            axis.plot(*ends[:, :2].T, color=colors[k], linewidth=6, solid_capstyle="butt", zorder=2)
    for k, (symbol, label) in enumerate(zip(atoms.symbols, clusters.of_atom, strict=True)):
        axis.scatter(*xyz[k, :2], s=330, color=[colors[k]], edgecolors="white", linewidths=1.5, zorder=depth[k])
        bright = np.dot(colors[k][:3], [0.299, 0.587, 0.114]) > 0.55
        text = rf"$\mathrm{{{symbol}}}_{{{label + 1}}}$" if label != NOISE else symbol
        axis.text(
            *xyz[k, :2],
            text,
            color="black" if bright else "white",
            fontsize=10,
            ha="center",
            va="center",
            zorder=depth[k] + 0.5,
        )
    low, high = xyz[:, :2].min(axis=0) - 0.8, xyz[:, :2].max(axis=0) + 0.8
    axis.plot([high[0] - 1.2, high[0] - 0.2], [low[1] - 0.1] * 2, color="black", linewidth=2)
    axis.text(high[0] - 0.7, low[1] + 0.02, "1 Å", ha="center", va="bottom")
    axis.plot(*np.transpose([low - [0, 0.3], high]), alpha=0)  # room for what sticks out
    axis.set_aspect("equal", adjustable="datalim")
    axis.set_title("(b)  elements, with the number of the cluster", loc="left")
    axis.set_axis_off()


def legend(clusters: Clusters, atoms: Atoms) -> list[Line2D]:
    """One entry per cluster with its atoms; the marker is that of their element."""
    handles = []
    for label in dict.fromkeys([*range(clusters.count), *clusters.of_atom.tolist()]):
        members = np.flatnonzero(clusters.of_atom == label)
        symbols = [atoms.symbols[k] for k in members]
        counted = ", ".join(f"{symbols.count(symbol)} {symbol}" for symbol in dict.fromkeys(symbols))
        title = f"{label + 1 if label != NOISE else 'none'}:  {counted or 'passing atoms'}"
        marker = MARKERS.get(symbols[0], "P") if symbols else "x"
        handles.append(Line2D([], [], linestyle="", marker=marker, color=clusters.color(label), label=title))
    return handles


def bonds(atoms: Atoms) -> list[tuple[int, int]]:
    """Pairs of atoms closer than 1.2 times the sum of their covalent radii."""
    i, j = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=1.2))
    return [(int(a), int(b)) for a, b in zip(i, j, strict=True) if a < b]


def open_view(atoms: Atoms) -> np.ndarray:
    """Positions (N, 3), from where no atom hides another or lies on a bond of others, longest along x."""
    centered = atoms.positions - atoms.positions.mean(axis=0)
    i, j = np.array(bonds(atoms), dtype=int).reshape(-1, 2).T
    own = np.eye(len(atoms), dtype=bool)
    own = np.column_stack([own, *[own[:, i] | own[:, j]] * 3])  # an atom and the points on its own bonds

    def openness(xyz: np.ndarray) -> tuple[float, float]:
        points = np.concatenate([xyz, *((1 - t) * xyz[i] + t * xyz[j] for t in (0.25, 0.5, 0.75))])
        distances = np.linalg.norm(xyz[:, None, :2] - points[None, :, :2], axis=2)
        clear = min(float(distances[~own].min(initial=1.0)), 0.75)  # Å; an atom as drawn is 0.5 Å wide
        return clear, -float(np.abs(xyz[:, 2]).sum())  # of clear views the flattest

    turned = [rotation.apply(centered) for rotation in Rotation.random(5000, rng=np.random.default_rng(0))]
    best = max(turned, key=openness)
    axes = np.linalg.svd(best[:, :2] - best[:, :2].mean(axis=0))[2]
    return np.column_stack([best[:, :2] @ axes.T, best[:, 2] * np.linalg.det(axes)])


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="aspirin-visnet", help="name or file (default: %(default)s)")
    parser.add_argument("--frames", help="extxyz, npz or other file of frames to use instead of a run")
    parser.add_argument("--start", help="structure the run starts from (default: aspirin)")
    parser.add_argument("--count", type=int, default=50, help="number of frames (default: %(default)s)")
    parser.add_argument("--temperature-K", type=float, default=300.0, help="of the run (default: %(default)s)")
    parser.add_argument(
        "--reach", type=float, default=3.0, help="of DBSCAN, in distances to the fifth neighbor (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the run and of t-SNE (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("aspirin_environments.png"), help="(default: %(default)s)")
    options = parser.parse_args()
    if options.count < 1:
        parser.error("--count must be at least 1")
    if not options.output.resolve().parent.is_dir():
        parser.error(f"--output: the folder {options.output.resolve().parent} does not exist")
    return options


if __name__ == "__main__":
    main()
