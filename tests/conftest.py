"""What all tests start from."""

from __future__ import annotations

import signal

# A shell that starts a job in the background has it ignore SIGINT, and its children too; tests send that signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
