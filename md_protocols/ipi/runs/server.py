"""i-PI itself, in a process that ends softly when the one that started it is gone.

Alone it would wait for clients for ever.
"""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import sys
import threading
from pathlib import Path

from ...errors import ConfigError


def script() -> str:
    """The path of the i-pi script: beside this Python, or in PATH; ConfigError without one."""
    own = Path(sys.executable).with_name("i-pi")
    found = str(own) if own.exists() else shutil.which("i-pi")
    if found is None:
        raise ConfigError(
            "the program i-pi is not installed beside this Python, nor in PATH", remedies=["pip install ipi"]
        )
    return found


def main() -> None:
    """Run the script of the first argument with the others; stdin tells that the parent is alive."""
    threading.Thread(target=_watch, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _watch() -> None:
    while os.read(0, 1024):  # not sys.stdin, whose lock the interpreter wants when it ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # i-PI's soft exit: writes RESTART


if __name__ == "__main__":
    main()
