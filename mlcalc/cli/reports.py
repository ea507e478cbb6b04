"""How verbs end: results are printed and written, and what did not converge is exit code 1."""

from __future__ import annotations

import json
from typing import Any

import click

from mlcalc.cli.outputs import ResultFolder, converged, in_json


def report(result: Any, name: str, folder: ResultFolder, as_json: bool) -> None:
    """Print a result, write it to the folder under this name, and end with 1 if it has not converged."""
    click.echo(json.dumps(in_json(result)) if as_json else str(result))
    folder.result(result, name)  # after the numbers: a plot that fails must not lose them
    folder.tell(as_json)
    end(result)


def end(*results: Any) -> None:
    """Exit code 1 if a result has not converged."""
    if not all(map(converged, results)):
        click.get_current_context().exit(1)
