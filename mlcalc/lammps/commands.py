"""Commands of LAMMPS that take its own pair styles for the whole energy, and are wrong beside a `fix external`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from mlcalc.md_protocols.errors import ConfigError

__all__ = ["CLEAR", "FIX", "REFUSED", "check_before", "check_commands", "check_styles", "included", "stretches"]

FIX = "mlcalc"  # ID of the fix
_MONTE_CARLO = "decides about its moves by energies of pair styles, without the model"
_PAIR_ONLY = "sees pair styles only, and would give zero, or kinetic parts alone, for the model"
_PAIR_ENERGY = "computes energies by pair styles only, without the model"
_UNTRIED = "was not tried with the model"

# what: {style: why it is refused}; also with suffixes as /omp
REFUSED: dict[str, dict[str, str]] = {
    "fix": {
        **dict.fromkeys(("gcmc", "widom", "sgcmc", "charge/regulation", "bond/swap"), _MONTE_CARLO),
        **dict.fromkeys(("numdiff", "numdiff/virial", "adapt/fep"), _PAIR_ENERGY),
        "hmc": "puts back energies of LAMMPS' own styles only after a rejected move",
        **dict.fromkeys(("neighbor/swap", "alchemy", "hyper/global", "hyper/local", "pafi"), _UNTRIED),
        **dict.fromkeys(("neb", "neb/spin"), _UNTRIED),
        "filter/corotate": "needs run_style respa, which does not call the model",
        "tune/kspace": "needs a kspace_style, whose energy would be added to that of the model",
    },
    "compute": {
        **dict.fromkeys(("born/matrix", "fep", "fep/ta", "hma", "pressure/alchemy"), _PAIR_ENERGY),
        **dict.fromkeys(("group/group", "pressure/cylinder"), _PAIR_ONLY),
        **dict.fromkeys(("stress/cartesian", "stress/cylinder", "stress/spherical"), _PAIR_ONLY),
        **dict.fromkeys(("stress/mop", "stress/mop/profile"), _PAIR_ONLY),
        **dict.fromkeys(("pe/tally", "pe/mol/tally", "force/tally", "stress/tally"), _PAIR_ONLY),
        **dict.fromkeys(("heat/flux/tally", "heat/flux/virial/tally"), _PAIR_ONLY),
    },
    "command": dict.fromkeys(
        ("hyper", "neb", "neb/spin", "prd", "tad", "temper", "temper/grem", "temper/npt"), _UNTRIED
    )
    | {"replicate": "cannot copy what fixes hold for atoms: write it before the line `pair_style mlcalc`"},
}
_SUFFIX = re.compile(r"/(omp|opt|gpu|kk|kk/host|kk/device|intel)$")
_TALKING = ("print", "log", "shell", "variable", "info", "group", "label", "region")  # whose words are no commands
_PARTIAL = ("pe", "pe/atom", "stress/atom", "centroid/stress/atom", "pressure")  # computes with a list of what to add
CLEAR = re.compile(r"\s*clear\s*(#.*)?$")
_COMMENT = re.compile(r"#(?=[^\"']*$)[^\n]*")  # outside of quotes, as far as one line shows


def check_commands(text: str, where: str = "", cutoff: float = 0.0) -> None:
    """ConfigError for a command in LAMMPS input (also in quotes, as after `if` and `run every`) that would be wrong.

    cutoff: of the model, Å.  LAMMPS' ghosts reach as far as its pair styles and its skin, so that one of a smaller
    cutoff would take neighbors from the model where several ranks share the box.
    """
    for line, words in _commands(text):
        if told := _wrong(words) or _short(words, cutoff):
            raise ConfigError(f"{where and where + ': '}`{' '.join(line.split())}`: {told}")


def check_before(text: str, where: str) -> None:
    """`check_commands` for what comes before the model: of that only what cannot be seen afterwards."""
    for line, words in _commands(text):
        if "neigh_modify" in words and (told := _never_again(words)):
            raise ConfigError(f"{where}: `{' '.join(line.split())}`: {told}")


def check_styles(found: Iterable[tuple[str, str, str]]) -> None:
    """ConfigError for one of these ("fix" or "compute", ID, style)."""
    for kind, name, style in found:
        if told := _refused(kind, style):
            raise ConfigError(f"{kind} {name} is of the style {style}, which {told}")


def included(text: str) -> Iterator[tuple[str, str]]:
    """Name and text of files that are included under a name without variables, and those that they include."""
    seen, waiting = set[str](), [text]
    while waiting:
        for name in re.findall(r"(?m)^\s*include\s+[\"']?([^\s\"'$]+)[\"']?\s*(?:#.*)?$", waiting.pop()):
            path = Path(name)
            if name not in seen and path.is_file():
                seen.add(name)
                inside = path.read_text(encoding="utf-8", errors="replace")
                waiting.append(inside)
                yield name, inside


def stretches(text: str) -> list[str]:
    """The text between its lines `clear`, each of which removes everything."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if CLEAR.match(line):
            found.append([])
        else:
            found[-1].append(line)
    return ["\n".join(lines) for lines in found]


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Lines that do something, without comments, continued ones joined, and their words, also those in quotes."""
    for line in re.sub(r"&[ \t]*\n", " ", text).splitlines():
        bare = _COMMENT.sub("", line).strip()
        words = bare.replace('"', " ").replace("'", " ").split()
        if words and words[0] not in _TALKING:
            yield bare, words


def _wrong(words: list[str]) -> str | None:
    """Why a command is refused, wherever in the words it starts."""
    for k, word in enumerate(words):
        rest = words[k + 1 :]
        told = None
        if word in ("fix", "compute") and len(rest) > 2:
            told = _refused(word, rest[2]) or (_partial(rest[2], rest[3:]) if word == "compute" else None)
            told = told and f"{word} {rest[2]} {told}"
        elif word == "neigh_modify":
            told = _never_again(rest)
        elif word in ("unfix", "fix_modify") and rest[:1] == [FIX]:
            told = f"the fix {FIX} is the model: leave it as it is. (`clear` removes it, with everything)"
        elif (k == 0 or words[0] in ("if", "run")) and word in REFUSED["command"]:
            told = f"{word} {REFUSED['command'][word]}"
        if told:
            return told
    return None


def _never_again(words: list[str]) -> str | None:
    """Why a neigh_modify is refused that LAMMPS tells nobody of."""
    if not any(a == "once" and b not in ("no", "off", "false") for a, b in pairwise(words)):
        return None
    return "neighbors are never looked for again, and atoms come into reach without the model's knowing"


def _short(words: list[str], cutoff: float) -> str | None:
    """Why a pair style zero, the one that stands for the model, is refused: it ends before the model does."""
    for k, word in enumerate(words):
        given = None
        if word == "pair_style" and "zero" in words[k:]:
            given = words[words.index("zero", k) + 1 :][:1]
        elif word == "pair_coeff" and words[k + 3 : k + 4] == ["zero"]:
            given = words[k + 4 : k + 5]
        elif word == "pair_coeff" and len(words) == k + 4 and re.fullmatch(r"[\d.eE+-]+", words[k + 3]):
            given = words[k + 3 :]  # of pair_style zero alone
        if given and not _reaches(given[0], cutoff):
            return (
                f"the cutoff {given[0]} must be a number, and at least the model's {cutoff:g} Å: on several ranks "
                "neighbors would be missing"
            )
    return None


def _reaches(word: str, cutoff: float) -> bool:
    try:
        return float(word) >= cutoff - 1e-9
    except ValueError:
        return cutoff == 0.0


def _refused(kind: str, style: str) -> str | None:
    return REFUSED[kind].get(_SUFFIX.sub("", style))


def _partial(style: str, rest: list[str]) -> str | None:
    """Of a compute that is to add up parts of the energy or virial, the pair styles among them and fixes not."""
    if _SUFFIX.sub("", style) in _PARTIAL and "pair" in rest and not {"fix", "virial"} & set(rest):
        return "with `pair` leaves out the model, which is a fix: add `fix`, or leave the list of parts out"
    return None
