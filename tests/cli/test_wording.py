"""What the library says of settings is said of options: every remedy, in the words of every verb that has it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from keywords import names_a_keyword

from mlcalc import md_protocols
from mlcalc.cli import commands
from mlcalc.cli.verbs import VERBS
from mlcalc.cli.wording import option_for, told
from mlcalc.ground.errors import MLCalcError, Use, in_python
from mlcalc.md_protocols.errors import ConfigError

ROOT = Path(__file__).parents[2]
SOURCES = [path for room in ("mlcalc", "md_protocols", "models") for path in sorted((ROOT / room).rglob("*.py"))]


@click.command()
@click.argument("structure")
@click.option("--timestep-fs", type=float, default=1.0)
@click.option("--temperature-K", "temperature_K", type=float)
@click.option("--allow-large-timestep", is_flag=True)
@click.option("--relax/--no-relax", default=True)
@click.option("--relax-ions/--clamped", default=True)
@click.option("--slab", is_flag=True)
@click.option("--supercell", type=int, nargs=3, metavar="A B C")
@click.option("--sites", metavar="I,I,...")
@click.option("--mu", "chemical_potential", multiple=True, metavar="X=EV")
@click.option("--cell", type=click.Choice(["fixed", "in-plane"]))
@click.option("--settings", metavar="{...}")
@click.option("--symprec", type=float)
def verb() -> None:
    """With every kind of option that remedies name."""


def context(**typed: object) -> click.Context:
    found = click.Context(verb)
    found.params = typed  # type: ignore[assignment]
    return found


@pytest.mark.parametrize(
    ("remedy", "typed", "words"),
    [
        (Use("allow_large_timestep", True, "if it is meant"), {}, "give --allow-large-timestep if it is meant"),
        (Use("allow_large_timestep", True), {"allow_large_timestep": True}, None),  # which is there already
        (Use("slab", False), {"slab": True}, "leave --slab out"),
        (Use("relax", True), {"relax": False}, "leave --no-relax out"),
        (Use("relax", False), {"relax": True}, "give --no-relax"),
        (Use("relax", True), {"relax": True}, None),
        (Use("relax_ions", False), {"relax_ions": True}, "give --clamped"),
        (Use("relax_ions", True), {"relax_ions": False}, "leave --clamped out"),
        (Use("symprec", 0.01), {}, "give --symprec 0.01"),
        (Use("symprec", 1e-5), {}, "give --symprec 1e-05"),
        (Use("symprec"), {}, "give --symprec FLOAT"),
        (Use("supercell", (2, 2, 1)), {}, "give --supercell 2 2 1"),
        (Use("supercell"), {}, "give --supercell A B C"),
        (Use("sites", [0, 3]), {}, "give --sites 0,3"),
        (Use("chemical_potential", {"Mo": -10.1, "Se": -3.5}), {}, "give --mu Mo=-10.1 --mu Se=-3.5"),
        (Use("cell", "in-plane"), {}, "give --cell in-plane"),
        (Use("cell"), {}, "give --cell fixed|in-plane"),
        (Use("cell", "shape"), {}, None),  # which this verb does not know
        (Use("slab", None, "a thing that only Python has under this name"), {}, None),
        (Use("settings", {"lmax": 2}), {}, "give --settings '{\"lmax\": 2}'"),
        (Use("temperature_K", 300.0), {}, "give --temperature-K 300"),
        (Use("pbc", True, python="set atoms.pbc = True", file="make the file say so"), {}, "make the file say so"),
        (Use("remove_drift", False), {}, None),  # no such option: nothing is said
    ],
)
def test_remedies_are_worded_as_options(remedy: Use, typed: dict[str, object], words: str | None) -> None:
    assert option_for(remedy, context(**typed)) == words


def test_texts_begin_with_the_option_and_end_with_what_the_verb_has() -> None:
    remedies = [Use("allow_large_timestep", True, "if it is meant"), Use("remove_drift", False), "look at the\nunits"]
    error = ConfigError("timestep_fs is 20, more than 10 fs", setting="timestep_fs", value=20.0, remedies=remedies)
    line = "--timestep-fs is 20, more than 10 fs: give --allow-large-timestep if it is meant, or look at the units"
    assert told(error, context()) == line
    assert told(error, None) == "timestep_fs is 20, more than 10 fs: look at the units"  # where no verb runs
    assert "pass remove_drift=False" in str(error)
    other = ConfigError("the step of 20 fs (timestep_fs) is long", setting="timestep_fs")
    assert told(other, context()) == other.text
    assert told(ConfigError("structure is empty", setting="structure"), context()) == "STRUCTURE is empty"


def verbs() -> Iterator[tuple[str, click.Command]]:
    """All commands that do something, those of groups included."""
    root = click.Context(commands)
    for name in VERBS:
        found = commands.get_command(root, name)
        assert found is not None
        inner = found.commands if isinstance(found, click.Group) else {"": found}
        for word, command in inner.items():
            yield f"{name} {word}".strip(), command


def remedies_in_the_source() -> list[Use]:
    """Every `Use(...)` of the sources, its parts as far as they are constants."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Use" and node.args:
                parts = [_constant(argument) for argument in node.args]
                named = {keyword.arg: _constant(keyword.value) for keyword in node.keywords if keyword.arg}
                if isinstance(parts[0], str):
                    found.append(Use(*parts, **named))  # type: ignore[arg-type]
    return found


def _constant(node: ast.expr) -> object:
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def test_the_check_finds_keywords() -> None:
    for text in ("pass symprec=0.01", "set pbc=True", "call relax(...)", "allow_float32", "set atoms.pbc", "is True"):
        assert names_a_keyword(text), text
    for text in ("give --symprec 0.01", "g(r) needs a density", "leave --no-relax out", 'pbc="T T T"', "no 'a_b'"):
        assert not names_a_keyword(text), text


def test_no_remedy_of_an_option_names_a_keyword() -> None:
    remedies = remedies_in_the_source()
    assert len(remedies) > 3
    worded = 0
    for name, command in verbs():
        options = {option.name: option for option in command.params if isinstance(option, click.Option)}
        for remedy in remedies:
            if remedy.setting not in options:
                continue
            opposite = click.Context(command)
            opposite.params = {remedy.setting: not remedy.value}
            words = option_for(remedy, opposite)
            choices = getattr(options[remedy.setting].type, "choices", ())
            if words is None:  # a value that this verb does not have
                assert remedy.value is None or str(remedy.value) not in choices, (name, remedy)
                continue
            assert any(f"{option} " in f"{words} " for option in _spellings(options[remedy.setting])), (name, words)
            typed = (str(remedy.value), "|".join(choices), str(options[remedy.setting].metavar))
            words = re.sub("'{.*}'", "", words)  # names within settings of a checkpoint
            for word in filter(None, typed):
                words = words.replace(word, "")
            assert not names_a_keyword(words), (name, words, in_python(remedy))
            worded += 1
    assert worded > 3


def _spellings(option: click.Option) -> list[str]:
    return [*option.opts, *option.secondary_opts]


ONLY_HERE = {  # options that are no settings of the protocol behind the verb
    *("model", "index", "dtype", "device", "kernels", "debug", "output", "overwrite", "as_json", "relax", "plot"),
}
PROTOCOLS = {
    "eos": md_protocols.equation_of_state,
    "elastic": md_protocols.elastic_constants,
    "vacancy": md_protocols.vacancy_energy,
    "surface": md_protocols.surface_energy,
    "phonons": md_protocols.phonon_dispersion,
    "effective-phonons": md_protocols.effective_phonons,
    "qha": md_protocols.quasi_harmonic,
    "conductivity": md_protocols.thermal_conductivity,
    "md": md_protocols.run_nvt,
}


OTHERWISE = ("temperatures", "volume_range", "miller")  # ranges, and several planes


@pytest.mark.parametrize("name", PROTOCOLS)
def test_options_are_settings_with_their_names_and_defaults(name: str) -> None:
    command = dict(verbs())[name]
    settings = inspect.signature(PROTOCOLS[name]).parameters
    shared, defaults = 0, command.make_context(name, [], resilient_parsing=True).params
    for option in command.params:
        if option.name in ONLY_HERE or option.name not in settings or not isinstance(option, click.Option):
            continue
        default = settings[option.name].default
        shared += 1
        if default not in (None, inspect.Parameter.empty) and option.name not in OTHERWISE:
            assert defaults[option.name] == default, option.name
    assert shared >= 5, shared


def test_all_errors_have_one_root() -> None:
    classes = [kind for kind in vars(md_protocols).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    errors = [kind for kind in classes if not issubclass(kind, Warning)]
    assert len(errors) > 8
    assert all(issubclass(kind, MLCalcError) for kind in errors)
