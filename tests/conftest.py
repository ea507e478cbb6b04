"""What all tests start from."""

from __future__ import annotations

import os
import signal

# A shell that starts a job in the background has it ignore SIGINT, and its children too; tests send that signal.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Several processes of pytest (-n) share the cores; each with a thread per core would be slower than one alone.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
