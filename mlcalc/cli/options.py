"""Options and arguments that several verbs share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

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

overwrite_option: Decorator = click.option(
    "--overwrite", is_flag=True, help="Replace what an earlier command wrote under these names."
)


def folder_options(contents: str) -> Decorator:
    """--output DIR, for these files, and --overwrite."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        option = click.option("--output", type=click.Path(), metavar="DIR", help=f"Folder for {contents}.")
        return option(overwrite_option(function))

    return decorate


def setting(protocol: Callable[..., Any], option: str, *, of: str | None = None, **details: Any) -> Decorator:
    """An option for a setting of the protocol, under its name and with its default.

    of: the setting's name where it is not that of the option, as in `--mu` for chemical_potential.
    """
    name = of or option.partition("/")[0].lstrip("-").replace("-", "_")
    default = inspect.signature(protocol).parameters[name].default
    if default is not inspect.Parameter.empty and default is not None:
        details = {"default": default, "show_default": True} | details
    return click.option(option, name, **details)
