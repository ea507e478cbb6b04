"""The roots of our errors and warnings: what they know is data, and each surface words it for its users.

An error has a text (what is wrong, where, the value, the limit) and remedies.  A remedy that is a setting is a `Use`:
Python says `pass symprec=0.01`, the command line `give --symprec 0.01`, and a surface that has no such setting says
nothing of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self


@dataclass(frozen=True)
class Use:
    """A remedy: a setting with a value that helps."""

    setting: str  # its name in Python, the same on every surface
    value: Any = None  # None: whichever fits, told by `why`
    why: str = ""  # what follows it, such as "if it is meant"
    python: str = ""  # how Python's users write it, where it is no keyword of what they called: "set atoms.pbc = True"
    file: str = (
        ""  # what to change in a file of structures, for surfaces that have them from there and lack the setting
    )


Remedy = str | Use
Wording = Callable[[Use], str | None]  # None: this surface has no such setting


def in_python(remedy: Use) -> str:
    """The remedy as Python's users write it."""
    value = "..." if remedy.value is None else repr(remedy.value)
    return f"{remedy.python or f'pass {remedy.setting}={value}'} {remedy.why}".strip()


class Told(Exception):  # noqa: N818 - what both errors and warnings are
    """What errors and warnings know: `text` without remedies, the setting at fault, its value and limit, remedies."""

    default_remedies: ClassVar[tuple[Remedy, ...]] = ()

    def __init__(
        self,
        text: str = "",
        *details: Any,
        setting: str | None = None,
        value: Any = None,
        limit: Any = None,
        remedies: Sequence[Remedy] = (),
    ) -> None:
        super().__init__(text, *details)
        self.text = text
        self.setting = setting
        self.value = value
        self.limit = limit
        self.remedies: tuple[Remedy, ...] = tuple(remedies) or self.default_remedies

    def __new__(cls, *args: Any, **_: Any) -> Self:
        # Named, because the next class in line may be one that makes only its own instances (MemoryError).
        return Exception.__new__(cls, *args)

    def __copy__(self) -> Self:
        # Of its own, because whatever distributed installs for exceptions would be asked otherwise.
        found = type(self).__new__(type(self), *self.args)
        found.__dict__.update(self.__dict__)
        return found

    def __str__(self) -> str:
        return self.worded(in_python)

    def at(self, where: str) -> Self:
        """The same once more, with all that it knows and its text begun by the place."""
        found = copy.copy(self)
        found.text = f"{where}: {self.text}"
        found.args = (found.text, *self.args[1:])
        return found

    def worded(self, wording: Wording) -> str:
        """The text and the remedies that a surface has, in its words: `text: this, that, or that`."""
        said = [remedy if isinstance(remedy, str) else wording(remedy) for remedy in self.remedies]
        known = [words for words in said if words]
        if not known:
            return self.text
        listed = known[0] if len(known) == 1 else f"{', '.join(known[:-1])}, or {known[-1]}"
        return f"{self.text}{';' if ': ' in self.text else ':'} {listed}"


class MLCalcError(Told):
    """The root of all errors raised by this package."""


class MLCalcWarning(Told, UserWarning):
    """The root of all warnings given by this package."""
