"""Kinds of commands: verbs, groups of them, and a group whose verbs are loaded when they are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from mlcalc.cli.cautions import cautions_on_stderr

_DEBUG_HELP = "Show the traceback of an error."


@dataclass
class Running:
    """The verb at work, in whose words an error is told that ends it; the `obj` of all contexts."""

    context: click.Context | None = None


class Verb(click.Command):
    """A command that takes --debug (`main` looks for the word itself) and tells warnings as lines."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(["--debug"], is_flag=True, expose_value=False, help=_DEBUG_HELP))

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(ctx.obj, Running):
            ctx.obj.context = ctx
        with cautions_on_stderr(ctx):
            return super().invoke(ctx)


class VerbGroup(click.Group):
    """A group whose verbs, and itself, take --debug."""

    command_class = Verb

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(["--debug"], is_flag=True, expose_value=False, help=_DEBUG_HELP))


@dataclass(frozen=True)
class LazyVerb:
    """Where a verb is, and what it does."""

    module: str
    command: str  # its name there
    help: str  # in the list of verbs


class LazyVerbs(VerbGroup):
    """A group that imports a verb when it is used: help and completion answer at once."""

    def __init__(self, *args: Any, verbs: Mapping[str, LazyVerb], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.verbs, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.verbs and cmd_name not in self.commands:
            verb = self.verbs[cmd_name]
            self.add_command(getattr(import_module(verb.module), verb.command), cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._help(name)) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        named = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=self._help(name)) for name in named), *options]

    def _help(self, name: str) -> str:
        return self.verbs[name].help if name in self.verbs else self.commands[name].get_short_help_str()
