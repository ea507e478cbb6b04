"""Options and arguments that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

DEBUG_HELP = "Show the traceback of an error."


class DebugCommand(click.Command):
    """A command that takes --debug; `main` looks for the word itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(["--debug"], is_flag=True, expose_value=False, help=DEBUG_HELP))


class DebugGroup(click.Group):
    """A group whose verbs, and itself, take --debug."""

    command_class = DebugCommand

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(click.Option(["--debug"], is_flag=True, expose_value=False, help=DEBUG_HELP))


existing_file = click.Path(exists=True, dir_okay=False, readable=True)

device_option: Decorator = click.option(
    "--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu, cuda, cuda:N, or auto (a GPU if any)."
)


def dtype_option(default: str) -> Decorator:
    """--dtype with the verb's default."""
    return click.option(
        "--dtype",
        type=click.Choice(["float32", "float64"]),
        default=default,
        show_default=True,
        help="Arithmetic of the network; sums are always float64.",
    )


kernels_option: Decorator = click.option(
    "--kernels",
    type=click.Choice(["auto", "fused", "torch", "compile"]),
    default="auto",
    show_default=True,
    help="How the network is computed; changes speed only.",
)

json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
