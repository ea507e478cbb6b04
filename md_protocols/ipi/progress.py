"""The progress bar of a server's requests, whose number nobody here knows."""

from __future__ import annotations

import sys
from types import TracebackType


class RequestBar:
    """Requests answered and their rate, on stderr; None shows it on terminals only."""

    def __init__(self, progress: bool | None, what: str) -> None:
        from tqdm import tqdm

        disable = None if progress is None else not progress
        self._bar = tqdm(desc=what, unit="request", file=sys.stderr, disable=disable, dynamic_ncols=True)

    def __enter__(self) -> RequestBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self) -> None:
        self._bar.update()
