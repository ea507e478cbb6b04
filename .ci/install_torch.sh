#!/usr/bin/env bash
# Installs torch into the environment of the Python given as $1: a CPU build where there is no GPU,
# because the default Linux wheel brings gigabytes of CUDA libraries; the version $2, or the one tested.  Skipped if a
# torch >= 2.10 is there.
set -euo pipefail

python="$1"
tested="${2:-2.13.0}"
cpu_index="https://download.pytorch.org/whl/cpu"
pip=("$python" -m pip --disable-pip-version-check)

have_torch() {
    "$python" - <<'PY' 2>/dev/null
from importlib.metadata import version
major, minor = map(int, version("torch").split(".")[:2])
raise SystemExit((major, minor) < (2, 10))
PY
}

if have_torch; then
    echo "torch $("$python" -c 'from importlib.metadata import version; print(version("torch"))') is installed"
    exit 0
fi

if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
    echo "GPU found: installing torch with CUDA"
    exec "${pip[@]}" install "torch>=2.10"
fi

echo "no GPU: installing the CPU build of torch $tested"
# The wheel alone from the CPU index, without retries so that a closed network costs seconds, not minutes ...
"${pip[@]}" install --quiet --no-deps --retries 0 --timeout 15 --index-url "$cpu_index" "torch==$tested" ||
    echo "the CPU index $cpu_index is out of reach: taking torch $tested from the configured index"
# ... its dependencies, or torch itself if that failed, from the configured index.
exec "${pip[@]}" install "torch==$tested"
