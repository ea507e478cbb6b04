#!/usr/bin/env bash
# Makes the virtual environment $2 with the Python $1, saying clearly why where that cannot work.
set -euo pipefail

python="$1"
venv="$2"

if ! command -v "$python" >/dev/null; then
    echo "Error: $python not found: install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python3.12 ..." >&2
    exit 1
fi
if ! "$python" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; then
    echo "Error: $("$python" --version) is not supported (3.11 to 3.13): name another, make PYTHON=python3.12 ..." >&2
    exit 1
fi
if ! "$python" -m venv "$venv"; then
    echo "Error: $python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
    exit 1
fi
