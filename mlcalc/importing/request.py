"""What the user says of a checkpoint, held against what the file says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.ground.errors import Remedy, Use
from mlcalc.md_protocols.errors import ConfigError, PhysicsWarning
from mlcalc.models.elements import atomic_number, element_symbols

_FILE = ("the file", "the weights", "the shapes of the weights", "its sub-networks")  # what begins no user's source
DEFAULT = "the default of PyTorch Geometric, as settings leave it out"
Shift = float | Mapping[str | int, float]


@dataclass(frozen=True, eq=False)
class Request:
    """The arguments of `import_checkpoint` beside the path; None where nothing was given."""

    settings: Mapping[str, Any] | None = None
    cutoff: float | None = None  # Å
    elements: Sequence[str | int] | str | int | None = None  # a tuple once it is checked
    energy_shift: Shift | None = None  # per structure, or by element, in `units`
    units: str | None = None
    legacy_mic: bool = False
    n_ref: int | None = None
    max_num_neighbors: int | None = None
    quantity: str | None = None

    def __post_init__(self) -> None:
        if self.settings is not None and not isinstance(self.settings, Mapping):
            raise ConfigError(
                f"settings is {self.settings!r}: give a dict of the names and values of a constructor",
                setting="settings",
                value=self.settings,
            )
        for name, example in (("units", "kcal/mol"), ("quantity", "gap")):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ConfigError(
                    f"{name} is {value!r}, which is no text",
                    setting=name,
                    value=value,
                    remedies=[Use(name, example, "or another")],
                )
        object.__setattr__(self, "legacy_mic", _plain(self.legacy_mic))
        if not isinstance(self.legacy_mic, bool):
            raise ConfigError(
                f"legacy_mic is {self.legacy_mic!r}: give True or False", setting="legacy_mic", value=self.legacy_mic
            )
        for name in ("n_ref", "max_num_neighbors"):
            object.__setattr__(self, name, _count(name, getattr(self, name)))
        object.__setattr__(self, "elements", _sequence(self.elements))


def _count(name: str, value: Any) -> int | None:
    try:
        return None if value is None else whole(name, value, "import_checkpoint")
    except ModelFileError as error:
        raise ConfigError(error.text, setting=name, value=value) from None


def _sequence(elements: Any) -> Any:
    """A tuple of whatever was given, of one for a single number or text."""
    if elements is None:
        return None
    if isinstance(elements, str | Integral):
        return (elements,)
    try:
        return tuple(elements)
    except TypeError:
        raise ConfigError(
            f"elements is {elements!r}: give a list of symbols or atomic numbers", setting="elements", value=elements
        ) from None


@dataclass(eq=False)
class Findings:
    """What is known of the network so far, with the reasons, and what is missing."""

    origin: str  # of error texts
    missing: dict[str, str] = field(default_factory=dict)  # arguments: what each is, with an example
    missing_settings: dict[str, str] = field(default_factory=dict)  # the same for entries of `settings`
    notes: list[str] = field(default_factory=list)  # assumptions
    warnings: list[PhysicsWarning] = field(default_factory=list)  # those that a user must hear of

    def agreed(self, name: str, sources: Iterable[tuple[str, Any]], *, remedy: str = "") -> Any:
        """The value that all sources give that have one, or None; ModelFileError naming two that differ."""
        found = [(where, value) for where, value in sources if value is not None]
        for where, value in found[1:]:
            if not _same(value, found[0][1]):
                raise ModelFileError(
                    f"{self.origin}: {name} is {found[0][1]!r} according to {found[0][0]}, but {value!r} according to "
                    f"{where}. {remedy or _remedy(found[0][0], where)}"
                )
        return found[0][1] if found else None

    def needed(self, name: str, value: Any, description: str, *, stand_in: Any, setting: bool = False) -> Any:
        """The value; where there is none the stand-in, with the name on the list of missing arguments or settings."""
        if value is None:
            (self.missing_settings if setting else self.missing)[name] = description
            return stand_in
        return value

    def assumed(self, name: str, value: Any, default: Any, reason: str) -> Any:
        """The value; where there is none the default, which is noted."""
        if value is None:
            self.notes.append(f"{name} is not in the file: {default!r} was assumed, {reason}")
            return default
        return value

    def warn(self, text: str, *remedies: Remedy, setting: str | None = None) -> None:
        """Put the text on the list of warnings, and without its remedies among the notes."""
        self.notes.append(text)
        self.warnings.append(PhysicsWarning(f"{self.origin}: {text}", setting=setting, remedies=remedies))

    def check_complete(self) -> None:
        """Nothing, or one ModelFileError that names everything missing."""
        listed = [f"{name} ({text})" for name, text in self.missing.items()]
        options = [f"--{name.replace('_', '-')} ..." for name in self.missing]
        if self.missing_settings:
            python, shell = ways_to_set(self.missing_settings)
            listed.append(f"{python}, with {described(self.missing_settings)}")
            options.append(shell)
        if listed:
            raise ModelFileError(
                f"{self.origin} does not hold everything that its network needs. Give also: {'; '.join(listed)}. "
                f"At the command line: {' '.join(options)}"
            )

    def refuse_unknown(self, names: Iterable[str], allowed: Iterable[str]) -> None:
        """ModelFileError naming the settings that are not allowed."""
        known = sorted(allowed)
        unknown = sorted(str(name) for name in names if name not in known)
        if unknown:
            close = get_close_matches(unknown[0], known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise ModelFileError(
                f"{self.origin}: unknown setting{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}{hint}; for "
                f"this layout there are {', '.join(known)}"
            )


def _remedy(one: str, other: str) -> str:
    """What to do about two sources that differ."""
    from_file = [where.startswith(_FILE) for where in (one, other)]
    if all(from_file):
        return "The file contradicts itself: take another, or save it again where it was made"
    if DEFAULT in (one, other):
        return "Add to settings what the network was constructed with"
    return "Leave out what you gave, or correct it: the file decides" if any(from_file) else "Give one value"


def ways_to_set(names: Iterable[str]) -> tuple[str, str]:
    """How entries of `settings` are given in Python and at the command line."""
    entries = list(names)
    python = ", ".join(f"'{name}': ..." for name in entries)
    shell = ", ".join(f'"{name}": ...' for name in entries)
    return f"settings={{{python}}}", f"--settings '{{{shell}}}'"


def described(settings: Mapping[str, str]) -> str:
    """Names with what each is."""
    return "; ".join(f"{name} ({text})" for name, text in settings.items())


def number(name: str, value: Any, origin: str) -> float | None:
    """The finite number in a plain value, a tensor or a tuple of one; None for None."""
    inner = value
    if isinstance(inner, list | tuple) and len(inner) == 1:  # a trailing comma in the original's script
        inner = inner[0]
    if isinstance(inner, Tensor) and inner.numel() == 1 and not inner.is_complex():
        inner = inner.to(torch.float64).item()
    inner = _plain(inner)
    if inner is None:
        return None
    try:
        found = float(inner) if isinstance(inner, Real) and not isinstance(inner, bool) else math.nan
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ModelFileError(f"{origin}: {name} is {value!r}; it must be a finite number")
    return found


def _plain(value: Any) -> Any:
    """A number or truth value of NumPy, also as an array without dimensions, as Python's."""
    return value.item() if isinstance(value, np.ndarray | np.generic) and value.ndim == 0 else value


def whole(name: str, value: Any, origin: str) -> int | None:
    """The positive whole number in a plain value or a tuple of one; None for None."""
    found = number(name, value, origin)
    if found is None:
        return None
    if found < 1 or found != int(found):
        raise ModelFileError(f"{origin}: {name} is {value!r}; it must be a positive whole number")
    return int(found)


def switch(name: str, value: Any, origin: str) -> bool | None:
    """True, false, or None for None."""
    value = _plain(value)
    if value is None or isinstance(value, bool):
        return value
    raise ModelFileError(f"{origin}: {name} is {value!r}; it must be true or false")


_ELEMENTS = Use("elements", ["C", "H", "O"], python="give a list such as ['C', 'H', 'O']")


def symbols(name: str, value: Any, origin: str, *, remedy: Remedy = _ELEMENTS) -> tuple[str, ...] | None:
    """Chemical symbols by atomic number, from a list of symbols or numbers; None for None."""
    if value is None:
        return None
    try:
        return element_symbols([value] if isinstance(value, str) else value)
    except (TypeError, ValueError) as error:
        raise ModelFileError(
            f"{origin}: {name} is {value!r} ({error})", setting=name, value=value, remedies=[remedy]
        ) from error


_SHIFT = Use("energy_shift", None, "with symbols or atomic numbers", python="name elements as in {'Cu': -3.7}")


def shifts(request: Request, elements: Sequence[str], origin: str) -> tuple[float | None, dict[str, float] | None]:
    """The shift per structure and the shifts by element, in the user's unit, whichever was given."""
    given = request.energy_shift
    if not isinstance(given, Mapping):
        return number("energy_shift", given, origin), None
    by_symbol: dict[str, float | None] = {}
    for element, value in given.items():
        (symbol,) = symbols("energy_shift", [element], origin, remedy=_SHIFT) or ("",)
        if symbol in by_symbol:
            raise ModelFileError(
                f"{origin}: energy_shift names {symbol} twice, by symbol and by number: give one value"
            )
        by_symbol[symbol] = number("energy_shift", value, origin)
    strangers = sorted(set(by_symbol) - set(elements), key=atomic_number)
    lacking = [element for element in elements if by_symbol.get(element) is None]
    if strangers or lacking:
        raise ModelFileError(
            f"{origin}: energy_shift names {', '.join(by_symbol)}; the network has the elements {', '.join(elements)}. "
            "Give one value for each of them"
        )
    return None, {element: float(by_symbol[element] or 0.0) for element in elements}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float | int) and isinstance(other, float | int) and not isinstance(one, bool):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12)  # float32 in some files
    return bool(one == other)
