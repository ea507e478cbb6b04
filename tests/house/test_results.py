"""The common base of results: every kind of field through files, JSON with units, summaries, damage in our words."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from numpy.typing import NDArray

from mlcalc.md_protocols.errors import ResultFileError
from mlcalc.md_protocols.folders.storage import save_arrays
from mlcalc.md_protocols.results import Quantity, Result, json_name, quantities

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Inner:
    """A part of a result that is no result."""

    weight: Annotated[float, Quantity("of it", "eV/Å")]
    values: Annotated[Array, Quantity("of it", "Å", "(n,)")]
    name: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Part(Result):
    """A result within a result."""

    kind = "part"

    energy: Annotated[float, Quantity("of it", "eV")]
    forces: Annotated[Array | None, Quantity("of it", "eV/Å", "(N, 3)")] = None


@dataclass(frozen=True, eq=False, repr=False)
class Everything(Result):
    """One field of each kind."""

    kind = "everything"

    array: Annotated[Array, Quantity("numbers", "eV/Å^3", "(2, 3)")]
    flags: Annotated[NDArray[np.bool_], Quantity("flags", shape="(2,)")]
    words: Annotated[NDArray[np.str_], Quantity("words", shape="(2,)")]
    number: Annotated[float, Quantity("a number", "THz")]
    count: Annotated[int, Quantity("how many")]
    flag: Annotated[bool, Quantity("yes or no")]
    text: Annotated[str, Quantity("words")]
    path: Annotated[Path, Quantity("a place")]
    atoms: Annotated[Atoms, Quantity("a structure")]
    images: Annotated[tuple[Atoms, ...], Quantity("structures")]
    pair: Annotated[tuple[str, int], Quantity("two things")]
    cells: Annotated[tuple[tuple[int, int, int], ...], Quantity("whole numbers")]
    rows: Annotated[list[tuple[float, float]], Quantity("pairs in a list")]
    settings: Annotated[dict[str, Any], Quantity("JSON values")]
    shells: Annotated[dict[int, float], Quantity("by whole numbers", "Å")]
    tables: Annotated[Mapping[str, Array], Quantity("arrays by name", "eV")]
    inner: Annotated[Inner, Quantity("of fields of its own")]
    part: Annotated[Part, Quantity("a result")]
    parts: Annotated[tuple[Part, ...], Quantity("results")]
    either: Annotated[float | Array, Quantity("one or many", "K")]
    no_array: Annotated[Array | None, Quantity("none", "eV")]
    no_atoms: Annotated[Atoms | None, Quantity("none")]
    no_images: Annotated[tuple[Atoms, ...] | None, Quantity("none")]
    no_part: Annotated[Part | None, Quantity("none")]
    no_number: Annotated[float | None, Quantity("none", "eV")]
    no_pair: Annotated[tuple[str, str] | None, Quantity("none")]
    hidden: Annotated[Array, Quantity("not for JSON", "eV", "(1,)", json=False)]
    later: Annotated[Array | None, Quantity("in later versions only", "eV")] = None
    label: Annotated[str, Quantity("in later versions only")] = "unnamed"

    derived = {"double": Quantity("twice the number", "THz")}  # noqa: RUF012

    @property
    def double(self) -> float:
        return 2.0 * self.number


def everything(**changes: Any) -> Everything:
    copper = bulk("Cu", cubic=True)
    copper.set_tags([0, 1, 2, 3])
    values: dict[str, Any] = {
        "array": np.array([[1.0, -0.0, np.nan], [np.inf, 1e-300, np.pi]]),
        "flags": np.array([True, False]),
        "words": np.array(["XΓ", "M"]),
        "number": 0.1 + 0.2,
        "count": 3,
        "flag": False,
        "text": "ü",
        "path": Path("a/b"),
        "atoms": copper,
        "images": (copper, molecule("H2O")),
        "pair": ("O", 8),
        "cells": ((1, 2, 3), (4, 5, 6)),
        "rows": [(0.1, 0.2), (0.3, 1.0)],
        "settings": {"a": [1, 2.5, None], "b": {"c": "d"}},
        "shells": {1: 2.5, 12: 3.6},
        "tables": {"one": np.arange(3.0), "two": np.eye(2)},
        "inner": Inner(1.5, np.arange(2.0)),
        "part": Part(-1.0, np.ones((2, 3))),
        "parts": (Part(-2.0), Part(-3.0, np.zeros((1, 3)))),
        "either": np.array([300.0, 400.0]),
        **dict.fromkeys(field.name for field in fields(Everything) if field.name.startswith("no_")),
        "hidden": np.array([7.0]),
    }
    return Everything(**{**values, **changes})


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit and in kind, whatever it is; structures without their calculators."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, Atoms):
        return one == other and same(one.get_tags(), other.get_tags()) and same(one.get_masses(), other.get_masses())
    if isinstance(one, Inner | Result):
        return type(one) is type(other) and same(vars(one), vars(other))
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def test_every_kind_of_field_comes_back_from_a_file(tmp_path: Path) -> None:
    first = everything()
    first.save(tmp_path / "x.npz")
    again = Everything.load(tmp_path / "x.npz")
    for field in fields(Everything):
        assert same(getattr(first, field.name), getattr(again, field.name)), field.name
    assert pickle.loads(pickle.dumps(again)).number == first.number  # noqa: S301 - our own object
    again.save(tmp_path / "y.npz")
    assert same(Everything.load(tmp_path / "y.npz"), first)


def test_what_may_be_missing_comes_back_when_it_is_there(tmp_path: Path) -> None:
    first = everything(
        no_array=np.ones(2),
        no_atoms=molecule("H2"),
        no_images=(molecule("H2"),),
        no_part=Part(1.0),
        no_number=0.0,
        no_pair=("a", "b"),
        later=np.zeros(0),
        either=300.0,
        images=(),
        tables={},
        label="named",
        inner=Inner(0.0, np.zeros(1), "inner"),
    )
    first.save(tmp_path / "x.npz")
    again = Everything.load(tmp_path / "x.npz")
    for field in fields(Everything):
        assert same(getattr(first, field.name), getattr(again, field.name)), field.name


def test_the_comparison_of_these_tests_sees_a_difference() -> None:
    first = everything()
    assert same(first, everything())
    for name, value in {
        "array": np.array([[1.0, 0.0, np.nan], [np.inf, 1e-300, np.pi]]),  # +0 for -0
        "cells": ([1, 2, 3], (4, 5, 6)),
        "count": 3.0,
        "shells": {"1": 2.5, "12": 3.6},
        "part": Part(-1.0, np.ones((2, 3)) + 1e-16 * 3),
        "no_number": 0.0,
    }.items():
        assert not same(first, replace(first, **{name: value})), name


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        everything().number = 1.0  # type: ignore[misc]


def test_json_says_units_and_knows_no_arrays() -> None:
    shown = everything(array=np.ones((1, 3)), either=5.0).to_json()
    assert json.loads(json.dumps(shown)) == shown | {"shells_A": {"1": 2.5, "12": 3.6}}
    assert shown["array_eV_per_A3"] == [[1.0, 1.0, 1.0]]
    assert (shown["number_THz"], shown["double_THz"]) == (0.1 + 0.2, 2 * (0.1 + 0.2))
    assert (shown["atoms"], shown["images"], shown["path"]) == ("Cu4", ["Cu4", "H2O"], "a/b")
    assert shown["inner"] == {"weight_eV_per_A": 1.5, "values_A": [0.0, 1.0], "name": None}
    assert shown["parts"][0] == {"energy_eV": -2.0, "forces_eV_per_A": None}
    assert not any("hidden" in name for name in shown)
    assert (shown["no_number_eV"], shown["later_eV"]) == (None, None)


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        ("max_force", "eV/Å", "max_force_eV_per_A"),
        ("stress", "eV/Å^3", "stress_eV_per_A3"),
        ("h", "1/Å", "h_per_A"),
        ("drift", "meV/atom/ps", "drift_meV_per_atom_per_ps"),
        ("dipole", "e Å", "dipole_e_A"),
        ("temperature_K", "K", "temperature_K"),
        ("n_frames", "", "n_frames"),
    ],
)
def test_names_in_json(name: str, unit: str, expected: str) -> None:
    assert json_name(name, unit) == expected


def test_a_summary_says_what_fits_on_a_line() -> None:
    text = str(everything(array=np.linspace(0.0, 1.0, 100)))
    lines = dict(line.strip().split(": ", 1) for line in text.splitlines()[1:])
    assert lines["array"] == "0 to 1 eV/Å^3"
    assert lines["number"] == "0.3 THz"
    assert lines["double"] == "0.6 THz"
    assert lines["either"] == "300, 400 K"
    assert lines["atoms"] == "Cu4"
    assert lines["flag"] == "False"
    assert "no number" not in lines
    assert max(map(len, text.splitlines())) < 120
    assert repr(Part(-1.0)) == "<Part: energy: -1 eV>"


def test_every_field_of_a_result_says_what_it_is() -> None:
    known = quantities(Everything)
    assert list(known) == [field.name for field in fields(Everything)]
    assert known["array"] == Quantity("numbers", "eV/Å^3", "(2, 3)")


def test_fields_of_later_versions_have_their_defaults_and_those_that_must_be_there_are_missed(tmp_path: Path) -> None:
    arrays, info = everything().packed()
    assert Everything.unpacked(arrays, {k: v for k, v in info.items() if k != "label"}).label == "unnamed"
    for name in ("array", "number", "atoms", "part", "inner", "tables", "parts", "images"):
        kept = {key: value for key, value in arrays.items() if key != name and not key.startswith(f"{name}.")}
        with pytest.raises(ResultFileError, match=rf"{name}|do not fit a everything"):
            Everything.unpacked(kept, {key: value for key, value in info.items() if key != name})
    del arrays["part.forces"]  # which may be missing
    assert Everything.unpacked(arrays, info).part.forces is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays, info: arrays.pop("atoms.positions"),
        lambda arrays, info: arrays.pop("tables.two"),
        lambda arrays, info: info.update(images=5),
        lambda arrays, info: info.update(cells=[[1, 2]]),
        lambda arrays, info: info.update(parts=[1.0]),
        lambda arrays, info: info.update(part="nothing"),
        lambda arrays, info: arrays.update({"atoms.positions": np.zeros((2, 3))}),
    ],
)
def test_contents_that_do_not_fit_are_no_crash(damage: Any, tmp_path: Path) -> None:
    arrays, info = everything().packed()
    damage(arrays, info)
    save_arrays(tmp_path / "x.npz", "everything", arrays, info)
    with pytest.raises(ResultFileError, match="damaged, or of another version"):
        Everything.load(tmp_path / "x.npz")


def test_files_of_another_kind_and_cut_ones_are_refused(tmp_path: Path) -> None:
    Part(1.0).save(tmp_path / "part.npz")
    with pytest.raises(ResultFileError, match="holds a 'part'.*expected a 'everything'.*its own class"):
        Everything.load(tmp_path / "part.npz")
    data = (tmp_path / "part.npz").read_bytes()
    for length in (0, 10, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.npz").write_bytes(data[:length])
        with pytest.raises(ResultFileError, match="left untouched"):
            Part.load(tmp_path / "cut.npz")


def test_old_names_and_units_are_upgraded(tmp_path: Path) -> None:
    class Renamed(Part):
        @classmethod
        def upgraded(cls, arrays: dict[str, Any], info: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
            if "energy_meV" in info:
                info["energy"] = info.pop("energy_meV") / 1000.0
            return arrays, info

    save_arrays(tmp_path / "old.npz", "part", {}, {"energy_meV": 1500.0})
    assert Renamed.load(tmp_path / "old.npz").energy == 1.5
    with pytest.raises(ResultFileError, match="no energy"):
        Part.load(tmp_path / "old.npz")
