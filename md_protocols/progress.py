"""The progress bar of a run."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType

_SECONDS_BETWEEN_TEXTS = 0.3


class ProgressBar:
    """Steps done, temperature, energy and ns/day on stderr; None shows it on terminals only."""

    def __init__(self, progress: bool | None, first: int, steps: int, timestep_fs: float) -> None:
        from tqdm import tqdm

        disable = None if progress is None else not progress
        self._bar = tqdm(total=steps, initial=first, unit="step", file=sys.stderr, disable=disable, dynamic_ncols=True)
        self._shown = not self._bar.disable
        self._first, self._timestep = first, timestep_fs
        self._start = time.monotonic()
        self._text_at = -math.inf

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()

    def text_due(self) -> bool:
        """Whether it is time to say more than the number of steps."""
        return self._shown and time.monotonic() - self._text_at > _SECONDS_BETWEEN_TEXTS

    def describe(self, step: int, temperature_K: float, energy: float) -> None:
        self._text_at = time.monotonic()
        per_day = (step - self._first) * self._timestep * 1e-6 * 86400.0 / max(self._text_at - self._start, 1e-9)
        self._bar.set_postfix_str(f"T {temperature_K:.0f} K, E {energy:.3f} eV, {per_day:.3g} ns/day", refresh=False)

    def advance(self, count: int = 1) -> None:
        if self._shown:
            self._bar.update(count)


class CountBar:
    """How many of something are done, of how many if that is known, on stderr; None shows it on terminals only."""

    def __init__(self, progress: bool | None, total: int | None, what: str, unit: str) -> None:
        from tqdm import tqdm

        disable = None if progress is None else not progress
        self._bar = tqdm(total=total, desc=what, unit=unit, file=sys.stderr, disable=disable, dynamic_ncols=True)
        self._text_at = -math.inf

    def __enter__(self) -> CountBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()

    def describe(self, text: str) -> None:
        if not self._bar.disable and time.monotonic() - self._text_at > _SECONDS_BETWEEN_TEXTS:
            self._text_at = time.monotonic()
            self._bar.set_postfix_str(text)

    def advance(self, count: int = 1) -> None:
        self._bar.update(count)
