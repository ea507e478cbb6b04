"""Errors and warnings in the words of the command line: settings are options of the verb that runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import click

from mlcalc.ground.errors import Told, Use


def told(what: Told, context: click.Context | None) -> str:
    """One line: the text and those remedies that the running verb has, worded as its options."""

    def worded(remedy: Use) -> str | None:
        return option_for(remedy, context)

    return " ".join(_begun(what, context).worded(worded).split())


def option_for(remedy: Use, context: click.Context | None) -> str | None:
    """How the remedy is typed; else what to change in the file of the structure; None if there is neither."""
    parameters = context.command.params if context is not None else []
    option = next((each for each in parameters if each.name == remedy.setting and isinstance(each, click.Option)), None)
    if context is not None and option is not None:
        words = _flag(option, remedy.value, context) if option.is_flag else _given(option, remedy.value)
    else:
        words = remedy.file if any(isinstance(each, click.Argument) for each in parameters) else None
    return f"{words} {remedy.why}".strip() if words else None


def name_of(parameter: click.Parameter) -> str:
    """The parameter as users know it: --fmax, or STRUCTURE."""
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else parameter.human_readable_name


def _begun(what: Told, context: click.Context | None) -> Told:
    """The same with a text that begins with the option, where it began with the name of its setting."""
    known = {parameter.name: name_of(parameter) for parameter in context.command.params} if context is not None else {}
    if what.setting not in known:
        return what
    text = re.sub(rf"^{re.escape(str(what.setting))}\b", known[what.setting], what.text)
    return Told(text, remedies=what.remedies)


def _flag(option: click.Option, wanted: Any, context: click.Context) -> str | None:
    """`give --flag`, or `leave --flag out` where that is what was typed; None where it is as wanted already."""
    given = context.params.get(str(option.name))
    if not isinstance(wanted, bool) or (given is not None and bool(given) is wanted):
        return None
    yes, no = name_of(option), max(option.secondary_opts, key=len, default="")
    typed = yes if wanted else no
    if option.default is wanted or not typed:  # the other word was typed
        return f"leave {no if wanted else yes} out"
    return f"give {typed}"


def _given(option: click.Option, value: Any) -> str | None:
    """`give --option value`; None for a value that the option does not take."""
    if isinstance(option.type, click.Choice) and value is not None and str(value) not in option.type.choices:
        return None
    return f"give {_typed(option, value)}"


def _typed(option: click.Option, value: Any) -> str:
    """The option with the value as it is typed; with what stands for it in the help where there is none."""
    name = name_of(option)
    if value is None:
        choices = getattr(option.type, "choices", None)
        return f"{name} {option.metavar or ('|'.join(choices) if choices else option.type.name.upper())}"
    if isinstance(value, Mapping) and not option.multiple:
        return f"{name} '{json.dumps(value)}'"
    if isinstance(value, Mapping):
        return " ".join(f"{name} {key}={_word(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        words = [_word(item) for item in value]
        return " ".join(f"{name} {word}" for word in words) if option.multiple else f"{name} {_joined(option, words)}"
    return f"{name} {_word(value)}"


def _joined(option: click.Option, words: list[str]) -> str:
    return (" " if option.nargs > 1 else ",").join(words)


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
