"""g(r) and h(r) against explicit image sums, exact crystals, ideal gases and scipy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from scipy.spatial.distance import pdist
from springs import copper

from mlcalc.md_protocols import (
    ConfigError,
    InteratomicDistances,
    RadialDistribution,
    ResultFileError,
    interatomic_distances,
    radial_distribution,
    run_nve,
)


def explicit(frame: Atoms, r_max: float, bins: int, pair: tuple[int, int] | None, images: int | None = None) -> Any:
    """g(r) by a loop over images; `images=0` is the broken twin that knows the home cell only."""
    cell = frame.cell.array
    if images is None:
        heights = abs(np.linalg.det(cell)) / np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1)
        spread = np.ptp(frame.get_scaled_positions(wrap=False), axis=0).max()
        images = int(np.ceil(r_max / heights.min() + spread)) + 1
    first = np.ones(len(frame), dtype=bool) if pair is None else frame.numbers == pair[0]
    second = np.ones(len(frame), dtype=bool) if pair is None else frame.numbers == pair[1]
    counts = np.zeros(bins)
    for shift in np.ndindex(*(2 * images + 1,) * 3):
        n = np.array(shift) - images
        vectors = frame.positions[None, second] + n @ cell - frame.positions[first][:, None]
        distances = np.linalg.norm(vectors, axis=2)
        if not n.any():
            distances[np.flatnonzero(first)[:, None] == np.flatnonzero(second)[None]] = np.inf
        counts += np.histogram(distances, bins, (0, r_max))[0]
    edges = np.linspace(0, r_max, bins + 1)
    density = first.sum() * second.sum() / abs(np.linalg.det(cell))
    return counts / (density * 4 / 3 * np.pi * np.diff(edges**3))


def cells() -> dict[str, tuple[Atoms, float]]:
    rng = np.random.default_rng(1)
    skewed = Atoms("OHHOH", cell=[[4, 0, 0], [2.5, 3.5, 0], [-1.0, 1.5, 3.8]], pbc=True)
    skewed.set_scaled_positions(rng.random((5, 3)))
    tiny = Atoms("Cu", cell=[[0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]], pbc=True)
    left = skewed.copy()
    left.set_cell(skewed.cell.array[[1, 0, 2]])
    outside = skewed.copy()
    outside.positions += rng.integers(-2, 3, (5, 3)) @ skewed.cell.array
    large = Atoms("OH3O2", cell=[14, 13, 12], pbc=True, positions=rng.random((6, 3)) * 12)
    return {
        "skewed": (skewed, 7.0),  # beyond half of every cell vector
        "tiny": (tiny, 6.0),  # self images only
        "left-handed": (left, 7.0),
        "outside": (outside, 7.0),
        "large": (large, 8.0),
    }


@pytest.mark.parametrize("pair", [None, (8, 1), (1, 1)])
@pytest.mark.parametrize("name", list(cells()))
def test_equal_to_an_explicit_sum_over_images(name: str, pair: tuple[int, int] | None) -> None:
    frame, r_max = cells()[name]
    if pair and 8 not in frame.numbers:
        pair = (29, 29)
    found = radial_distribution(frame, r_max=r_max, bins=37, pair=pair)
    np.testing.assert_allclose(found.g, explicit(frame, r_max, 37, pair), rtol=1e-12, atol=0)
    assert np.abs(found.g - explicit(frame, r_max, 37, pair, images=0)).max() > 0.1


def test_coordination_numbers_of_fcc_are_exact() -> None:
    a = 3.6
    found = radial_distribution(bulk("Cu", "fcc", a=a), r_max=a * 1.3, bins=260)
    outer = found.r + found.r[0]
    expected = [12, 18, 42]
    for distance, number in zip((a / np.sqrt(2), a, a * np.sqrt(1.5)), expected, strict=True):
        assert found.coordination[np.searchsorted(outer, distance + 0.05)] == number
        assert found.coordination[np.searchsorted(outer, distance - 0.05)] < number


def test_ideal_gas_is_one_and_its_error_is_honest() -> None:
    rng = np.random.default_rng(5)
    box = [10, 11, 12]
    frames = [Atoms("Ar50", cell=box, pbc=True, positions=rng.random((50, 3)) * box) for _ in range(60)]
    found = radial_distribution(frames, r_max=8.0, bins=16)
    deviations = (found.g[2:] * 50 / 49 - 1) / found.standard_error[2:]  # an atom is not its own neighbor: (N - 1) / N
    assert np.abs(found.g[4:] * 50 / 49 - 1).max() < 0.06
    assert 0.5 < np.sqrt((deviations**2).mean()) < 2.0
    assert np.isnan(radial_distribution(frames[:1], r_max=8.0, bins=16).standard_error).all()


def test_frames_of_other_sizes_and_cells_are_averaged_by_what_they_expect() -> None:
    small, large = cells()["skewed"][0], cells()["large"][0]
    found = radial_distribution([small, large], r_max=6.3, bins=12)
    weights = [len(frame) ** 2 / abs(np.linalg.det(frame.cell.array)) for frame in (small, large)]
    parts = [explicit(frame, 6.3, 12, None) for frame in (small, large)]
    np.testing.assert_allclose(found.g, np.average(parts, axis=0, weights=weights), rtol=1e-12)
    without = Atoms("Ar", cell=[5, 5, 5], pbc=True)  # frames without the pair do not count
    one = radial_distribution([small, without], r_max=6.3, bins=12, pair=("O", "H"))
    np.testing.assert_allclose(one.g, explicit(small, 6.3, 12, (8, 1)), rtol=1e-12)


def test_partials_add_up_and_symbols_equal_numbers() -> None:
    frame, r_max = cells()["skewed"]
    total = radial_distribution(frame, r_max=r_max, bins=20)
    shares = {"O": 2 / 5, "H": 3 / 5}
    parts = sum(
        shares[a] * shares[b] * radial_distribution(frame, r_max=r_max, bins=20, pair=(a, b)).g
        for a in shares
        for b in shares
    )
    np.testing.assert_allclose(total.g, parts, rtol=1e-12)
    there = radial_distribution(frame, r_max=r_max, bins=20, pair=("O", "H"))
    back = radial_distribution(frame, r_max=r_max, bins=20, pair=(1, 8))
    np.testing.assert_allclose(there.g, back.g)
    np.testing.assert_allclose(there.coordination * 2, back.coordination * 3)
    assert (there.pair, back.pair) == (("O", "H"), ("H", "O"))


def ethanol_frames() -> list[Atoms]:
    rng, atoms = np.random.default_rng(2), molecule("CH3CH2OH")
    frames = [atoms.copy() for _ in range(25)]
    for frame in frames:
        frame.positions += rng.normal(scale=0.1, size=(9, 3))
    return frames


def test_distances_of_a_molecule_equal_scipy_and_integrate_to_one() -> None:
    frames = ethanol_frames()
    found = interatomic_distances(frames, r_max=6.0, bins=120)
    distances = np.concatenate([pdist(frame.positions) for frame in frames])
    expected = np.histogram(distances, 120, (0, 6.0), density=True)[0]
    np.testing.assert_allclose(found.h, expected, rtol=1e-12)
    assert abs(found.h.sum() * 0.05 - 1) < 1e-12
    assert found.beyond < 1e-12
    short = interatomic_distances(frames, r_max=2.0, bins=40)
    np.testing.assert_allclose(short.h, found.h[:40], rtol=1e-12)  # normalized over all r, not over those shown
    assert abs(short.beyond - (distances > 2.0).mean()) < 1e-12
    assert found.n_frames == 25


def test_every_frame_weighs_the_same_whatever_its_size() -> None:
    frames = [molecule("H2O"), molecule("CH3CH2OH")]
    both = interatomic_distances(frames, r_max=5.0, bins=30)
    alone = [interatomic_distances(frame, r_max=5.0, bins=30).h for frame in frames]
    np.testing.assert_allclose(both.h, np.mean(alone, axis=0))


def test_difference_of_two_molecules() -> None:
    frames = ethanol_frames()
    one = interatomic_distances(frames, r_max=5.0, bins=50)
    stretched = [frame.copy() for frame in frames]
    for frame in stretched:
        frame.positions *= 1.05
    other = interatomic_distances(stretched, r_max=5.0, bins=50)
    assert one.difference(one) == 0
    assert one.difference(other) == pytest.approx(np.abs(one.h - other.h).mean())
    assert one.difference(other) > 0.03
    with pytest.raises(ConfigError, match=r"other bins \(50 up to .* 40 up to .*same r_max and bins"):
        one.difference(interatomic_distances(frames, r_max=5.0, bins=40))


def test_results_are_saved_loaded_and_drawn(tmp_path: Path) -> None:
    g = radial_distribution(cells()["skewed"][0], r_max=5.0, bins=25, pair=("O", "H"))
    h = interatomic_distances(ethanol_frames(), r_max=5.0, bins=25)
    g.save(tmp_path / "g.npz")
    h.save(tmp_path / "h.npz")
    g_again, h_again = RadialDistribution.load(tmp_path / "g.npz"), InteratomicDistances.load(tmp_path / "h.npz")
    for one, other in ((g, g_again), (h, h_again)):
        for name, value in vars(one).items():
            np.testing.assert_array_equal(value, getattr(other, name))
    assert g_again.pair == ("O", "H")
    with pytest.raises(ResultFileError, match=r"holds a 'radial_distribution' .*expected a 'interatomic_distances'"):
        InteratomicDistances.load(tmp_path / "g.npz")
    for result, labels in ((g, ("r (Å)", "g(r)")), (h, ("r (Å)", "h(r) (1/Å)"))):
        ax = result.plot()
        assert (ax.get_xlabel(), ax.get_ylabel()) == labels
        np.testing.assert_array_equal(ax.lines[0].get_xdata(), result.r)
        ax.figure.savefig(tmp_path / "plot.png")
        assert result.plot(ax) is ax


def test_a_trajectory_is_as_good_as_its_frames_and_frames_stay_as_they_are() -> None:
    run = run_nve(copper(), timestep_fs=2.0, steps=20, temperature_K=300)
    before = [frame.copy() for frame in run.frames]
    one, other = (radial_distribution(x, r_max=5.0, bins=20) for x in (run, iter(run.frames)))
    np.testing.assert_array_equal(one.g, other.g)
    assert one.n_frames == 21
    assert run.frames == before


PERIODIC = Atoms("OH", cell=[4, 4, 4], pbc=True, positions=[[0, 0, 0], [0, 0, 1]])


def changed(**changes: Any) -> Atoms:
    atoms = PERIODIC.copy()
    for name, value in changes.items():
        setattr(atoms, name, value)
    return atoms


@pytest.mark.parametrize(
    ("frames", "settings", "text"),
    [
        ([], {}, r"no frames: give at least one"),
        (PERIODIC, {"r_max": 0.0}, r"r_max is 0\.0: .*greater than 0 Å"),
        (PERIODIC, {"r_max": -1.0}, r"r_max is -1\.0"),
        (PERIODIC, {"r_max": np.nan}, r"r_max is nan: .*finite"),
        (PERIODIC, {"bins": 0}, r"bins is 0: .*at least 1"),
        (PERIODIC, {"bins": 2.5}, r"bins is 2\.5: .*whole number"),
        (PERIODIC, {"pair": ("O", "Xy")}, r"unknown element 'Xy' in pair: give a symbol"),
        (PERIODIC, {"pair": ("O", 0)}, r"unknown element 0 in pair"),
        (PERIODIC, {"pair": ("O", 300)}, r"unknown element 300 in pair"),
        (PERIODIC, {"pair": ("O",)}, r"pair is \('O',\): give two elements"),
        (PERIODIC, {"pair": "OH"}, r"pair is 'OH': give two elements"),
        (PERIODIC, {"pair": ("O", "Cu")}, r"no frame holds both elements of the pair \('O', 'Cu'\)"),
        (changed(pbc=False), {}, r"frame 0 has pbc=\[False, False, False\].*interatomic_distances for a molecule"),
        (changed(pbc=[True, True, False]), {}, r"pbc=\[True, True, False\]: g\(r\) needs a density"),
        (changed(cell=[4, 4, 0]), {}, r"frame 0 is periodic but its cell has no volume"),
        (changed(cell=[[4, 0, 0], [8, 0, 0], [0, 0, 4]]), {}, r"cell has no volume"),
        ([PERIODIC, changed(positions=[[0, 0, 0], [0, np.nan, 1]])], {}, r"frame 1: positions of 1 atoms .*indices 1"),
        (changed(cell=[4, np.nan, 4]), {}, r"frame 0: the cell is not finite"),
        ([PERIODIC, "x"], {}, r"frame 1 is a str: give ase\.Atoms"),
        ([Atoms()], {}, r"frame 0 has no atoms"),
    ],
)
def test_bad_input_of_g_is_refused(frames: Any, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        radial_distribution(frames, **{"r_max": 5.0, "bins": 10, **settings})


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (
            PERIODIC,
            r"frame 0 is periodic: h\(r\) is defined for free molecules; use radial_distribution, or set pbc=False",
        ),
        (Atoms("H"), r"frame 0 has 1 atoms: a distance needs two"),
        ([], r"no frames"),
    ],
)
def test_bad_input_of_h_is_refused(frames: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        interatomic_distances(frames, r_max=5.0, bins=10)
