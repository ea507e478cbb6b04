"""Warnings about the physics of a model, as one line each on stderr."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import click

from mlcalc.cli.wording import as_options


@contextmanager
def cautions_on_stderr() -> Iterator[None]:
    """Within it each PhysicsWarning is a line `Warning: ...`; all other warnings appear as they would."""
    from mlcalc.md_protocols.errors import PhysicsWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", PhysicsWarning)  # they come once per run as it is
        show = warnings.showwarning

        def told(message, category, *where, **more):  # type: ignore[no-untyped-def]  # as warnings.showwarning
            if issubclass(category, PhysicsWarning):
                click.echo(f"Warning: {as_options(str(message))}", err=True)
            else:
                show(message, category, *where, **more)

        warnings.showwarning = told
        yield
