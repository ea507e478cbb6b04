"""Warnings of ours as one line each on stderr."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import click

from mlcalc.cli.wording import told
from mlcalc.ground.errors import MLCalcWarning


@contextmanager
def cautions_on_stderr(context: click.Context) -> Iterator[None]:
    """Within it each warning of ours is a line `Warning: ...` in the words of the verb; others appear as they would."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", MLCalcWarning)  # they come once per run as it is
        show = warnings.showwarning

        def shown(message, category, *where, **more):  # type: ignore[no-untyped-def]  # as warnings.showwarning
            if isinstance(message, MLCalcWarning):
                click.echo(f"Warning: {told(message, context)}", err=True)
            else:
                show(message, category, *where, **more)

        warnings.showwarning = shown
        yield
