"""One family of errors and warnings: a common root, what they know as data, and the words of each surface."""

from __future__ import annotations

import copy
import importlib
import pickle
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from mlcalc import MLCalculator
from mlcalc.errors import (
    EvaluationError,
    MLCalcError,
    MLCalcWarning,
    OutOfMemoryError,
    PhysicsWarning,
    SimulationError,
    TrainingInterruptedError,
    UnavailablePropertyError,
    UnknownModelError,
    Use,
)
from mlcalc.ground import remedies
from mlcalc.ground.errors import Told, in_python
from mlcalc.models import build_network

ROOT, FLOORS = Path(__file__).parents[2], ("mlcalc", "models", "md_protocols")
DEFINED = re.compile(r"^class \w+\(.*(Error|Exception|Warning|Told)\b", re.MULTILINE)
NOT_RAISED_TO_USERS = {"NotDeliveredError", "FailedStep"}  # caught inside the package


@lru_cache(maxsize=1)
def told() -> list[type[BaseException]]:
    """The errors and warnings defined in the three floors, from the modules whose text has such a class."""
    names = {
        "mlcalc." + ".".join(file.relative_to(ROOT).with_suffix("").parts).removeprefix("mlcalc.")
        for floor in FLOORS
        for file in (ROOT / floor).rglob("*.py")
        if DEFINED.search(file.read_text(encoding="utf-8"))
    }
    values = [
        value for name in names for value in vars(importlib.import_module(name.removesuffix(".__init__"))).values()
    ]
    classes = {value for value in values if isinstance(value, type) and issubclass(value, BaseException)}
    found = {each for each in classes - {Told} if each.__module__.startswith("mlcalc.")}
    return sorted(found, key=lambda each: each.__name__)


def of_ours(kinds: list[type[BaseException]]) -> list[str]:
    """Names of those without one of the two roots."""
    public = [kind for kind in kinds if not kind.__name__.startswith("_") and kind.__name__ not in NOT_RAISED_TO_USERS]
    return [kind.__name__ for kind in public if not issubclass(kind, MLCalcError | MLCalcWarning)]


def test_all_errors_and_warnings_have_their_root() -> None:
    kinds = told()
    assert {"ConfigError", "ModelError", "OverlapError", "WireError", "PhysicsWarning"} <= {k.__name__ for k in kinds}
    assert of_ours(kinds) == []
    assert of_ours([*kinds, type("StrayError", (ValueError,), {})]) == ["StrayError"]


def test_each_of_them_survives_pickling_and_copying_with_all_it_knows() -> None:
    known: dict[str, Any] = {
        "setting": "dtype",
        "value": "half",
        "limit": ("float32", "float64"),
        "remedies": [Use("dtype", "float32", "for speed"), "leave it out"],
    }
    for kind in told():
        if not issubclass(kind, MLCalcError | MLCalcWarning):
            continue
        first = kind("dtype is 'half'", **known)
        for again in (pickle.loads(pickle.dumps(first)), copy.copy(first), first.at("structure 3")):  # noqa: S301 - our own object
            assert type(again) is kind
            assert "dtype is 'half'" in again.text, kind
            assert str(again).endswith("pass dtype='float32' for speed, or leave it out"), kind
            assert (again.setting, again.value, again.limit) == ("dtype", "half", ("float32", "float64")), kind
            assert again.remedies == (Use("dtype", "float32", "for speed"), "leave it out"), kind
        assert first.at("structure 3").text == "structure 3: dtype is 'half'"
        assert first.text == "dtype is 'half'"
        assert kind.__new__(kind, "made as tblib makes them").args == ("made as tblib makes them",)


def test_what_errors_carry_beside_their_text_survives() -> None:
    frames = [Atoms("Cu")]
    failed = pickle.loads(pickle.dumps(SimulationError("step 3 failed", frames, remedies=["try again"])))  # noqa: S301 - our own object
    assert (failed.frames, failed.text, failed.remedies) == (frames, "step 3 failed", ("try again",))
    assert pickle.loads(pickle.dumps(EvaluationError("no forces", [1, 2]))).results == [1, 2]  # noqa: S301 - our own object
    assert pickle.loads(pickle.dumps(TrainingInterruptedError("stopped", 10))).signal_number == 10  # noqa: S301 - our own object
    assert failed.at("replica 2").frames == frames


def test_one_except_clause_catches_what_any_floor_raises() -> None:
    with pytest.raises(MLCalcError, match="dtype 'half' is not supported: choose float32 or float64") as found:
        MLCalculator("cu-hvnet", dtype="half")
    assert (found.value.setting, found.value.value, found.value.limit) == ("dtype", "half", ("float32", "float64"))
    with pytest.raises(MLCalcError):
        MLCalculator("cu-hvnett")
    with pytest.raises(MLCalcError):
        build_network("hvnet", {"cutoff": -1.0})


def test_they_are_what_python_and_ase_expect_as_well() -> None:
    assert issubclass(UnavailablePropertyError, PropertyNotImplementedError)
    assert issubclass(OutOfMemoryError, MemoryError)
    assert str(UnknownModelError("no such model")) == "no such model"  # not quoted, as KeyError would
    assert issubclass(PhysicsWarning, UserWarning)


def in_the_shell(remedy: Use) -> str | None:
    return (
        f"give --{remedy.setting.replace('_', '-')}" if remedy.setting in ("symprec", "dtype") else remedy.file or None
    )


@pytest.mark.parametrize(
    ("text", "given", "python", "shell"),
    [
        ("it is odd", [], "it is odd", "it is odd"),
        ("it is odd", ["look again"], "it is odd: look again", "it is odd: look again"),
        ("it is odd", [Use("symprec", 0.01)], "it is odd: pass symprec=0.01", "it is odd: give --symprec"),
        ("it is odd", [Use("skin", 0.0)], "it is odd: pass skin=0.0", "it is odd"),
        ("it is odd", [Use("skin"), "wait"], "it is odd: pass skin=..., or wait", "it is odd: wait"),
        (
            "it is odd: 3",
            [Use("symprec", 1, "if so"), "wait", Use("skin", python="raise the skin")],
            "it is odd: 3; pass symprec=1 if so, wait, or raise the skin",
            "it is odd: 3; give --symprec, or wait",
        ),
        (
            "it has pbc=[False, False, False]",
            [remedies.SET_PBC],
            "it has pbc=[False, False, False]: set atoms.pbc = True",
            'it has pbc=[False, False, False]: make the file say so (extended XYZ: pbc="T T T")',
        ),
        ("it is fixed", [remedies.NO_CONSTRAINTS], "it is fixed: remove it with atoms.set_constraint()", None),
        ("it has forces", [remedies.RELAX_FIRST], "it has forces: relax it first, ", "it has forces"),
    ],
)
def test_each_surface_words_the_remedies_it_has(text: str, given: list[Any], python: str, shell: str | None) -> None:
    error = MLCalcError(text, remedies=given)
    assert str(error).startswith(python)
    assert error.worded(in_python) == str(error)
    if shell is not None:
        assert error.worded(in_the_shell) == shell
        assert not any(word in shell for word in ("pass ", "atoms.", "md_protocols"))


def test_a_class_may_have_remedies_of_its_own() -> None:
    class FullError(MLCalcError):
        default_remedies = ("make space",)

    assert str(FullError("no room")) == "no room: make space"
    assert str(FullError("no room", remedies=["wait"])) == "no room: wait"
    assert str(FullError()) == ": make space"
