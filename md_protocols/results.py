"""What all results have in common: units and meanings of their fields, files, JSON, and a summary.

A result is a frozen dataclass whose fields say what they are:

    @dataclass(frozen=True, eq=False, repr=False)
    class Something(Result):
        kind = "something"

        energies: Annotated[Array, Quantity("of the sites", unit="eV", shape="(S,)")]
        fmax: Annotated[float, Quantity("target of the relaxation", unit="eV/Å")]

Files hold arrays by the names of the fields and everything else as JSON; structures without their calculators.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .errors import ResultFileError
from .folders.storage import load_arrays, pack_atoms, save_arrays, unpack_atoms

Arrays = dict[str, NDArray[Any]]
_LONGEST = 8  # numbers shown in a summary
_SHOWN = (str, bool, int, float, np.generic)
_UNITS = {"Å": "A", "^": "", "(": "", ")": "", "1/": "per_", "/": "_per_", " ": "_"}


@dataclass(frozen=True)
class Quantity:
    """What a field of a result is."""

    meaning: str
    unit: str = ""  # as in "eV/Å^3"; empty for numbers without one and for what is no number
    shape: str = ""  # of arrays, as in "(S, 3)"
    json: bool = True  # whether `to_json` has it


def quantities(cls: type) -> dict[str, Quantity]:
    """The fields of a result class, with what they are."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: _quantity(hints[field.name]) for field in fields(cls)}


def _quantity(hint: Any) -> Quantity:
    found = [extra for extra in get_args(hint)[1:] if isinstance(extra, Quantity)] if _is_annotated(hint) else []
    return found[0] if found else Quantity("")


def _is_annotated(hint: Any) -> bool:
    return get_origin(hint) is Annotated


def renumbered(arrays: Arrays, before: str, after: str) -> int:
    """Arrays named `before0.x`, `before1.x`, ... of earlier versions become `after.0.x`, ...; how many there are."""
    named = {name: re.fullmatch(rf"{before}(\d+)\.(.+)", name) for name in list(arrays)}
    found = {name: match for name, match in named.items() if match}
    for name, match in found.items():
        arrays[f"{after}.{match[1]}.{match[2]}"] = arrays.pop(name)
    return len({match[1] for match in found.values()})


def json_name(name: str, unit: str) -> str:
    """The name with its unit, as JSON has it: `max_force` in eV/Å becomes `max_force_eV_per_A`."""
    for symbol, word in _UNITS.items():
        unit = unit.replace(symbol, word)
    return name if not unit or name.endswith(f"_{unit}") else f"{name}_{unit}"


class Result:
    """Base of the results: frozen dataclasses with a `kind`, and `Quantity` in the annotations of their fields."""

    kind: ClassVar[str]  # in files
    derived: ClassVar[Mapping[str, Quantity]] = {}  # properties that JSON and the summary show beside the fields

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle; structures lose their calculators."""
        save_arrays(path, self.kind, *self.packed())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The result of a file written by `save`; ResultFileError for any other file."""
        return cls.unpacked(*load_arrays(path, cls.kind))

    def packed(self) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and plain values, as files hold them."""
        arrays: Arrays = {}
        info = {name: _packed(name, getattr(self, name), arrays) for name in quantities(type(self))}
        return arrays, {name: value for name, value in info.items() if value is not None}

    @classmethod
    def unpacked(cls, arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> Self:
        """What `packed` packed, also by earlier versions."""
        try:
            found: Self = _built(cls, *cls.upgraded(dict(arrays), dict(info)), "")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, ResultFileError):
                raise
            raise ResultFileError(
                f"the contents are not those of a {cls.kind} ({type(error).__name__}: {error}): the file is damaged, "
                "or of another version"
            ) from error
        return found

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Contents of files of earlier versions under today's names and units; overridden where they have changed."""
        return arrays, info

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        known = {name: quantity for name, quantity in quantities(type(self)).items() if quantity.json}
        return {json_name(name, q.unit): plain(getattr(self, name)) for name, q in (known | dict(self.derived)).items()}

    def summary(self) -> str:
        """A few lines with units."""
        lines = [f"{type(self).__name__}:"]
        for name, quantity in (quantities(type(self)) | dict(self.derived)).items():
            shown = _shown(getattr(self, name), quantity)
            if shown:
                lines.append(f"  {name.replace('_', ' ')}: {shown}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        first, *rest = str(self).splitlines()
        said = first.removeprefix(type(self).__name__).strip(": ") or ", ".join(line.strip() for line in rest[:3])
        return f"<{type(self).__name__}: {said}>"


def plain(value: Any) -> Any:
    """Values that JSON knows: arrays as lists, results by their own `to_json`, structures as formulas."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return {json_name(name, q.unit): plain(getattr(value, name)) for name, q in quantities(type(value)).items()}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _text(value)


def _text(value: Any) -> Any:
    if isinstance(value, Atoms):
        return value.get_chemical_formula()
    return str(value) if isinstance(value, Path) else value


def _packed(name: str, value: Any, arrays: Arrays) -> Any:
    """The value as JSON has it; what is an array goes into `arrays`, and leaves None or its number behind."""
    if isinstance(value, np.ndarray | Atoms):
        arrays.update(pack_atoms(name, value) if isinstance(value, Atoms) else {name: value})
        return None
    if isinstance(value, tuple | list) and value and all(isinstance(item, Atoms) for item in value):
        for k, atoms in enumerate(value):
            arrays.update(pack_atoms(f"{name}.{k}", atoms))
        return len(value)
    if isinstance(value, Mapping) and value and all(isinstance(item, np.ndarray) for item in value.values()):
        for key, item in value.items():
            arrays[f"{name}.{key}"] = item
        return list(value)
    if isinstance(value, tuple | list) and any(_holds_more(item) for item in value):
        return [_packed(f"{name}.{k}", item, arrays) for k, item in enumerate(value)]
    if _holds_more(value):
        inner = {
            field.name: _packed(f"{name}.{field.name}", getattr(value, field.name), arrays) for field in fields(value)
        }
        return {key: item for key, item in inner.items() if item is not None}
    return plain(value)


def _holds_more(value: Any) -> bool:
    """Whether it consists of fields of its own, which may be arrays and structures."""
    return is_dataclass(value) and not isinstance(value, type)


def _built(cls: type[Any], arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(cls)
    values = {}
    for field in fields(cls):
        hint, name = hints[field.name], f"{prefix}{field.name}"
        found = _unpacked(hint, name, info.get(field.name), arrays)
        if found is not None or (_required(field) and _optional(hint)):
            values[field.name] = found
        elif _required(field):
            raise ResultFileError(f"the file has no {name}: it is damaged, or of another version")
    return cls(**values)


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _unpacked(hint: Any, name: str, value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    hint = next((each for each in _options(hint) if not _is_array(each) and each is not type(None)), None)
    if name in arrays or hint is None:
        return arrays.get(name)
    origin, inner = get_origin(hint) or hint, (*get_args(hint), None)[0]
    if origin is Atoms:
        return unpack_atoms(name, arrays) if f"{name}.numbers" in arrays else None
    if origin in (dict, Mapping) and value is not None and isinstance(value, list):
        return {key: arrays[f"{name}.{key}"] for key in value}
    if origin in (tuple, list) and value is not None and (inner is Atoms or _is_dataclass_type(inner)):
        each = [None] * value if isinstance(value, int) else value  # the number of structures
        return origin(_unpacked_item(inner, f"{name}.{k}", item, arrays) for k, item in enumerate(each))
    if _is_dataclass_type(origin):
        inside = any(other.startswith(f"{name}.") for other in arrays)
        return _built(origin, arrays, value or {}, f"{name}.") if value is not None or inside else None
    return _as_hinted(hint, value)


def _unpacked_item(kind: Any, name: str, value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """One of several structures, which must be there, or of anything else that has parts."""
    return unpack_atoms(name, arrays) if kind is Atoms else _unpacked(kind, name, value, arrays)


def _as_hinted(hint: Any, value: Any) -> Any:
    """JSON's lists as the tuples they were, its texts as paths."""
    if value is None:
        return None
    hint = next((each for each in _options(hint) if each is not type(None)), hint)
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if origin is tuple:
        kinds = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is Ellipsis else inner or [Any] * len(value)
        return tuple(_as_hinted(kind, item) for kind, item in zip(kinds, value, strict=True))
    if inner and isinstance(value, list):
        return [_as_hinted(inner[0], item) for item in value]
    if len(inner) == 2 and isinstance(value, dict):  # whose keys are texts in JSON
        keys = inner[0] if inner[0] in (int, float) else str
        return {keys(key): _as_hinted(inner[1], item) for key, item in value.items()}
    return Path(value) if origin is Path else value


def _is_array(hint: Any) -> bool:
    return (get_origin(hint) or hint) is np.ndarray


def _is_dataclass_type(hint: Any) -> bool:
    return isinstance(hint, type) and is_dataclass(hint)


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _optional(hint: Any) -> bool:
    return type(None) in _options(hint)


def _shown(value: Any, quantity: Quantity) -> str:
    """The value with its unit as far as it fits on a line; empty for what has no short form."""
    if isinstance(value, Atoms):
        return str(value.get_chemical_formula())
    if isinstance(value, np.ndarray) and value.size > _LONGEST and value.dtype.kind in "fiu":
        text = f"{value.min():.6g} to {value.max():.6g}"
    else:
        numbers = list(value.ravel()) if isinstance(value, np.ndarray) else value
        numbers = numbers if isinstance(numbers, list | tuple) else [numbers]
        if not all(isinstance(number, _SHOWN) for number in numbers):
            return ""
        text = ", ".join(_short(number) for number in numbers[:_LONGEST]) + " ..." * (len(numbers) > _LONGEST)
    return f"{text} {quantity.unit}".strip() if text else ""


def _short(value: Any) -> str:
    return str(value) if isinstance(value, str | bool | np.bool_) else f"{value:.6g}"
