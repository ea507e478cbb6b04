"""docs/conventions.md is what the public names say: one word, one meaning, one unit, one default."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any

import numpy as np
import pytest

import mlcalc
from mlcalc import md_protocols
from mlcalc.md_protocols import phonons, results
from mlcalc.md_protocols.results import Quantity, Result, json_name

# Words of earlier versions and of other codes, and what they are called here.
FORBIDDEN = {
    "supercell_matrix": "supercell",
    "points": "npoints, n_volumes, n_slips",
    "atoms_subset": "indices",
    "rows": "indices",
    "calculator": "calc",
    "temperature": "temperature_K",
    "timestep": "timestep_fs",
    "pressure": "pressure_GPa",
    "svr": "bussi",
    "verbose": "progress",
    "neighbours": "neighbors",
    "sha256": "contents_sha256 or file_sha256",
}
# Settings of one name whose defaults differ on purpose: name, and why.
OTHER_DEFAULTS = {
    "cell": "True and False of `relax` are those of its contract; elsewhere it is a word",
    "displacement": "third-order force constants need a larger one",
    "eos": "energies at rest, and free energies (phonopy's choice)",
    "fmax": "1e-4; 1e-3 of many atoms around defects, 1e-5 where constants are differences of stresses",
    "keep_symmetry": "`relax_crystal` is for crystals",
    "n_volumes": "a fit of energies, and phonons at each volume",
    "npoints": "Grüneisen parameters take three dispersions",
    "progress": "quiet where protocols call it for a part of their work",
    "smax": "volumes of vacancies are small differences",
    "steps": "how long something takes differs from protocol to protocol",
    "supercell": "required where the answer depends on it",
    "volume_range": "expansion goes one way",
}
# Fields of one name that are of different kinds on purpose: name, and why.
OTHER_UNITS = {
    "fitted": "an energy, and whether there was a fit",
    "path": "of an evaluation, and the lengths of a band",
    "raw": "before symmetrisation, of whatever it is",
    "relaxed": "energies of defects, of areas, and what was relaxed",
    "standard_error": "of whatever it belongs to",
    "unrelaxed": "energies of defects and of areas",
}
AMOUNTS = (" per cell", "/primitive cell", " per atom")  # of what an extensive number is
SUFFIXES = {"_K": "K", "_fs": "fs", "_GPa": "GPa", "_THz": "THz", "_eV": "eV", "_N_per_m": "N/m"}


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """All public functions, and public methods of public classes."""
    for module in (mlcalc, md_protocols, phonons):
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isclass(found):
                for method, value in inspect.getmembers(found, inspect.isfunction):
                    if not method.startswith("_") and value.__module__.startswith("mlcalc"):
                        yield f"{name}.{method}", value
            elif callable(found):
                yield name, found


def result_classes() -> list[type[Result]]:
    """All result classes there are."""
    known: list[type[Result]] = []
    for cls in Result.__subclasses__():
        if cls.__module__.startswith("mlcalc"):
            known.append(cls)
    return sorted(known, key=lambda cls: cls.__name__)


def wrong_names(found: list[tuple[str, Callable[..., Any]]]) -> list[str]:
    """Parameters that are called by words that are not ours."""
    return [
        f"{name}({parameter}=): say {FORBIDDEN[parameter]}"
        for name, function in found
        for parameter in inspect.signature(function).parameters
        if parameter in FORBIDDEN
    ]


def differing_defaults(found: list[tuple[str, Callable[..., Any]]]) -> list[str]:
    """Settings of one name with several defaults."""
    defaults: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, function in found:
        for parameter in inspect.signature(function).parameters.values():
            if parameter.default is not inspect.Parameter.empty and parameter.default is not None:
                defaults[parameter.name][repr(parameter.default)].append(name)
    return [
        f"{name}: " + "; ".join(f"{value} in {', '.join(dict.fromkeys(where))}" for value, where in values.items())
        for name, values in defaults.items()
        if len(values) > 1 and name not in OTHER_DEFAULTS
    ]


def differing_units(classes: list[type[Any]]) -> list[str]:
    """Fields of one name with several units, and names whose unit is not theirs."""
    units: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    wrong = []
    for cls in classes:
        for name, quantity in results.quantities(cls).items():
            units[name][base(quantity.unit)].append(cls.__name__)
            for suffix, unit in SUFFIXES.items():
                if name.endswith(suffix) and quantity.unit != unit:
                    wrong.append(f"{cls.__name__}.{name} is in {quantity.unit!r}")
    return wrong + [
        f"{name}: " + "; ".join(f"{unit!r} in {', '.join(where)}" for unit, where in found.items())
        for name, found in units.items()
        if len(found) > 1 and name not in OTHER_UNITS
    ]


def base(unit: str) -> str:
    """The unit without the amount of matter that it is for."""
    return next((unit.removesuffix(amount) for amount in AMOUNTS if unit.endswith(amount)), unit)


def test_no_public_setting_has_a_word_that_is_not_ours() -> None:
    wrong = wrong_names(list(functions()))
    assert not wrong, "\n".join(wrong)


def test_settings_of_one_name_have_one_default() -> None:
    wrong = differing_defaults(list(functions()))
    assert not wrong, "\n".join(wrong)


def test_fields_of_one_name_have_one_unit() -> None:
    assert len(result_classes()) > 15
    wrong = differing_units(list(result_classes()))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("cls", result_classes(), ids=lambda cls: cls.__name__)
def test_every_field_of_a_result_says_what_it_is(cls: type[Any]) -> None:
    assert is_dataclass(cls)
    silent = [name for name, quantity in results.quantities(cls).items() if not quantity.meaning]
    assert not silent
    assert re.fullmatch(r"[A-Za-z][\w -]+", cls.kind)
    assert not [field.name for field in fields(cls) if field.name in FORBIDDEN]
    keys = [json_name(name, quantity.unit) for name, quantity in results.quantities(cls).items()]
    assert all(re.fullmatch(r"\w+", key) for key in keys), keys


def test_kinds_of_files_are_different() -> None:
    kinds = [cls.kind for cls in result_classes()]
    assert len(set(kinds)) == len(kinds)


def test_exceptions_are_needed() -> None:
    """What has become alike is no exception any more."""
    found = list(functions())
    for name in OTHER_DEFAULTS:
        values = {
            repr(parameter.default)
            for _, function in found
            for parameter in inspect.signature(function).parameters.values()
            if parameter.name == name
        }
        assert len(values) > 1, name
    for name in OTHER_UNITS:
        kinds = {results.quantities(cls)[name].unit for cls in result_classes() if name in results.quantities(cls)}
        assert len(kinds) > 1, name


def test_the_walk_catches_what_it_is_for() -> None:
    def one(atoms: object, *, symprec: float = 1e-5, points: int = 3) -> None: ...

    def other(atoms: object, *, symprec: float = 1e-3) -> None: ...

    @dataclass(frozen=True)
    class First:
        stress: Annotated[np.ndarray, Quantity("of it", "eV/Å^3")]

    @dataclass(frozen=True)
    class Second:
        stress: Annotated[np.ndarray, Quantity("of it", "GPa")]
        tau_fs: Annotated[float, Quantity("of it", "ps")]

    globals().update(First=First, Second=Second)
    assert len(wrong_names([("one", one)])) == 1
    assert len(differing_defaults([("one", one), ("other", other)])) == 1
    assert len(differing_units([First, Second])) == 2
