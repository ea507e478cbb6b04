"""What a model file says about its model: settings, units, training envelope, provenance, golden structures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ase import Atoms

from mlcalc.md_protocols.folders.storage import bounded_json

FORMAT = "mlcalc-model"
FORMAT_VERSION = 1
UNITS = "eV, Å"
NEIGHBOR_CONVENTION = "full list, every image within the cutoff"

Vectors = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class GoldenStructure:
    """A structure with the energy and the forces that the model gives for it in float64.

    A model of another quantity has zeros there, and its numbers in `values`.
    """

    name: str
    numbers: tuple[int, ...]  # (N,)
    positions: Vectors  # (N, 3) Å
    cell: Vectors  # (3, 3) Å, rows
    pbc: tuple[bool, ...]  # (3,)
    energy: float  # eV
    forces: Vectors  # (N, 3) eV/Å
    values: tuple[float, ...] = ()  # 3 of a dipole (e Å) or a vector, 1 of anything else; only in the file if there

    def atoms(self) -> Atoms:
        """The structure for ASE, without a calculator."""
        return Atoms(numbers=self.numbers, positions=self.positions, cell=self.cell, pbc=self.pbc)


@dataclass(frozen=True)
class ModelInfo:
    """The header of a model file, plain JSON values.

    The first group is for the author of a model to give; the second is filled in by `save_model`.
    """

    name: str = ""
    description: str = ""
    units: str = UNITS
    precision: str = "float32"  # arithmetic it was trained in
    neighbor_convention: str = NEIGHBOR_CONVENTION
    envelope: dict[str, Any] = field(default_factory=dict)  # what the training data cover: temperatures, phases, ...
    provenance: dict[str, Any] = field(default_factory=dict)  # data, licence, citation, seed, training settings
    errors: dict[str, Any] = field(default_factory=dict)  # on test data

    kind: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    elements: tuple[str, ...] = ()
    cutoff: float = 0.0  # Å
    energy_shift: tuple[float, ...] = ()  # eV per element
    dtype: str = ""  # of the stored weights
    golden: tuple[GoldenStructure, ...] = ()
    created_with: str = ""
    format_version: int = FORMAT_VERSION
    sha256: str = ""  # of the rest of the header and of all tensors


def info_to_json(info: ModelInfo) -> dict[str, Any]:
    """The header of the file, as JSON values."""
    value: dict[str, Any] = json.loads(canonical_json({"format": FORMAT, **asdict(info)}))
    for golden in value["golden"]:
        if not golden["values"]:
            del golden["values"]
    return value


def info_from_json(header: Mapping[str, Any]) -> ModelInfo:
    """The info that a header holds; ValueError says which entry is missing, unknown or of the wrong type."""
    entries = {name: value for name, value in header.items() if name != "format"}
    golden = entries.get("golden")
    _check_entries(entries, ModelInfo, "the header")
    structures = [_golden_from_json(value, index) for index, value in enumerate(golden or ())]
    return ModelInfo(**{name: _tuple(value) for name, value in entries.items()} | {"golden": tuple(structures)})


def canonical_json(value: Any) -> str:
    """The one text that stands for a JSON value: sorted keys, no spaces, shortest exact numbers, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def strict_json(text: str) -> Any:
    """The value of a JSON text; ValueError for NaN, infinities, repeated names and bottomless nesting too."""
    return bounded_json(
        text, object_pairs_hook=_unique_names, parse_constant=_refuse_constant, parse_float=_finite_float
    )


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for name, value in pairs:
        if name in names:
            raise ValueError(f"repeated name {name!r}")
        names[name] = value
    return names


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _finite_float(text: str) -> float:
    number = float(text)
    if number - number != 0.0:  # 1e999 reads as infinity
        raise ValueError(f"{text[:20]} is beyond float64")
    return number


_JSON_TYPES: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float)}


def _check_entries(entries: Mapping[str, Any], owner: type[Any], where: str) -> None:
    optional = {"values"} - set(entries)
    expected = {entry.name: str(entry.type) for entry in fields(owner) if entry.name not in optional}
    missing = sorted(set(expected) - set(entries))
    unknown = sorted(set(entries) - set(expected))
    if missing or unknown:
        problem = f"lacks {missing[0]!r}" if missing else f"has the unknown entry {unknown[0]!r}"
        raise ValueError(f"{where} {problem}")
    for name, annotation in expected.items():
        wanted = _JSON_TYPES.get(annotation, dict if annotation.startswith("dict") else list)
        value = entries[name]
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ValueError(f"entry {name!r} of {where} is a {type(value).__name__}, not {annotation}")


def _golden_from_json(value: Any, index: int) -> GoldenStructure:
    where = f"golden structure {index}"
    if not isinstance(value, dict):
        raise ValueError(f"{where} is a {type(value).__name__}, not an object")
    _check_entries(value, GoldenStructure, where)
    golden = GoldenStructure(**{name: _tuple(entry) for name, entry in value.items()})
    atoms = len(golden.numbers)
    whole = all(type(z) is int and 0 < z <= 118 for z in golden.numbers)
    switches = len(golden.pbc) == 3 and all(isinstance(flag, bool) for flag in golden.pbc)
    vectors = _is_vectors(golden.positions, atoms) and _is_vectors(golden.forces, atoms) and _is_vectors(golden.cell, 3)
    numbers = all(type(x) in (int, float) for x in golden.values)
    if not (whole and switches and vectors and numbers):
        raise ValueError(
            f"{where} does not hold N atomic numbers, (N, 3) positions and forces, a (3, 3) cell, pbc and numbers as "
            "values"
        )
    return golden


def _is_vectors(rows: Any, length: int) -> bool:
    return len(rows) == length and all(
        isinstance(row, tuple) and len(row) == 3 and all(type(x) in (int, float) for x in row) for row in rows
    )


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value
