"""Stopping between two steps, on a signal or at a wall-time limit."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")  # batch systems send SIGTERM or SIGUSR1 ahead of their limit


class StopRequest:
    """Notes the first of SIGINT, SIGTERM and SIGUSR1 in a with-block of the main thread; a second SIGINT stops at once.

    Handlers are put back on leaving.  Ignored signals stay ignored.
    """

    def __init__(self, wall_time_s: float | None, *, signals: bool) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[int, Any] = {}
        self._limit, self._signals = wall_time_s, signals
        self._start = time.monotonic()
        self._last: float | None = None
        self._slowest = 0.0

    def __enter__(self) -> StopRequest:
        if self._signals and threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def __call__(self) -> bool:
        """True when the run should end before its next step; asked once per step."""
        now = time.monotonic()
        if self._last is not None:
            self._slowest = max(self._slowest, now - self._last)
        self._last = now
        late = self._limit is not None and now - self._start + 2 * self._slowest > self._limit
        return late or self.signal is not None

    def deliver(self) -> None:
        """Let the noted signal do what it would have done without us: call its handler, or end the process.

        SIGINT raises KeyboardInterrupt, SIGTERM and SIGUSR1 without a handler raise SystemExit(128 + number).
        """
        if self.signal is None:
            return
        if signal.getsignal(self.signal) is signal.SIG_DFL:
            raise SystemExit(128 + self.signal)
        signal.raise_signal(self.signal)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            self._restore()
            raise KeyboardInterrupt
        self.signal = self.signal or signal.Signals(number)

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())
