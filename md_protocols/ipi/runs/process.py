"""i-PI's process and its clients, from the start of a run to its end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from ...errors import SimulationError
from ...folders.stop import StopRequest
from ...progress import ProgressBar
from ..client import serve_ipi
from .folder import IPIFolder
from .server import script

_TICK = 0.2  # s
_SOFT_EXIT_S = 60.0  # for i-PI to end the step at hand and write RESTART
_CONNECT_S = 120.0  # for i-PI to read its input
_LONGEST_FOLDER = 60  # bytes, of 107 for the whole name of a socket


class ServedRun:
    """i-PI and its clients, from start to end."""

    def __init__(self, folder: IPIFolder, calculator: Any, serving: dict[str, Any], stop: StopRequest) -> None:
        self._folder, self._calculator, self._serving, self._stop = folder, calculator, serving, stop
        self._errors: list[BaseException] = []

    def drive(self, input_file: str, first: int, clients: int, bar: ProgressBar) -> None:
        """Run from the first step until all are done, or a signal or the wall time stops it."""
        with tempfile.TemporaryDirectory(prefix="mlcalc-ipi-", dir=_short_folder()) as private:  # mode 0700
            server = self._server(input_file, private)
            threads = [threading.Thread(target=self._client, args=(private,), daemon=True) for _ in range(clients)]
            try:
                for thread in threads:
                    thread.start()
                self._watch(server, threads, first, bar)
                crashed = bool(server.poll())  # by itself, and not well
            finally:
                self._end(server)
                for thread in threads:
                    thread.join(timeout=10)
        self._judge(server, crashed)

    def _server(self, input_file: str, private: str) -> subprocess.Popen[bytes]:
        module = f"{__package__}.server"
        code = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}; from {module} import main; main()"
        command = [sys.executable, "-c", code, script(), "-S", f"{private}/", input_file]
        with (self._folder.path / "i-pi.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                command,
                cwd=self._folder.path,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C comes to us, who end it softly
            )

    def _client(self, private: str) -> None:
        try:
            serve_ipi(
                self._calculator,
                self._folder.template,
                unix=f"{private}/{self._folder.address()}",
                connect_s=_CONNECT_S,
                reconnect_s=5.0,
                signals=False,
                progress=False,
                **self._serving,
            )
        except BaseException as error:
            self._errors.append(error)

    def _watch(
        self, server: subprocess.Popen[bytes], clients: list[threading.Thread], done: int, bar: ProgressBar
    ) -> None:
        """Until i-PI ends by itself, or there is a reason to end it."""
        while server.poll() is None:
            time.sleep(_TICK)
            if self._stop() or not any(client.is_alive() for client in clients):
                return
            self._folder.prune()
            done = self._show(bar, done)
        self._show(bar, done)

    def _show(self, bar: ProgressBar, done: int) -> int:
        """Bring the bar up to date; the steps it shows then."""
        row = self._folder.last_row() if bar.text_due() else None
        if row is None or row[0] <= done:
            return done
        step = int(row[0])
        bar.advance(step - done)
        bar.describe(step, *row[1:])
        return step

    def _end(self, server: subprocess.Popen[bytes]) -> None:
        """Softly, so that RESTART is written; hard after a minute."""
        if server.poll() is None:
            server.terminate()
        try:
            server.wait(timeout=_SOFT_EXIT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        if server.stdin is not None:
            server.stdin.close()

    def _judge(self, server: subprocess.Popen[bytes], crashed: bool) -> None:
        """Raise for a run that ended otherwise than by its end or a wish."""
        stopped = self._stop()
        again = self._folder.start()
        if again is None or (stopped and not self._errors and not crashed):
            return
        if self._errors and not stopped and not crashed:
            raise self._errors[0]
        log = self._folder.path / "i-pi.log"
        tail = log.read_text(encoding="utf-8", errors="replace").strip()[-800:]
        raise SimulationError(
            f"i-PI ended (exit code {server.returncode}) after {again[1]} of {self._folder.steps} steps; what is there "
            f"can be continued by the same call. The end of {log}: {tail}"
        )


def _short_folder() -> str | None:
    """Where the socket goes: the folder for temporary files, unless the name of a socket in it would be too long."""
    return "/tmp" if len(os.fsencode(tempfile.gettempdir())) > _LONGEST_FOLDER else None  # noqa: S108 - mode 0700 in it
