#!/usr/bin/env bash
# Everything that needs a GPU, limited to ten minutes: tests, parity, steps by every kind of kernels, other codes.
#
#   benchmarks/gpu.sh [FOLDER]
#
# Tables and logs go to FOLDER (else $OUT, else gpu_output).  Needs Python with a CUDA build of torch.  What else is
# missing is installed for this run only: from the wheels in the folder $WHEELS, where that is set, else by pip.
#   pip download --no-deps -d WHEELS PACKAGE...             # on a machine with a network, for the GPU's Python
# of these, those that the GPU's Python lacks: ase matscipy click safetensors tqdm scipy pytest pluggy iniconfig
# packaging pygments matplotlib contourpy cycler fonttools kiwisolver pillow pyparsing python-dateutil six
set -u
cd "$(dirname "$0")/.."
folder=${1:-${OUT:-gpu_output}}
mkdir -p "$folder"
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
export PYTHONPATH="$PWD:$site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

"$python" -c 'import torch; assert torch.cuda.is_available(), "this torch sees no GPU"; print(torch.__version__, torch.cuda.get_device_name())' \
    || exit 1
if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install -q --no-index --no-deps --target "$site" "$WHEELS"/*.whl || exit 1
else
    missing=$("$python" - <<'END'
from importlib.util import find_spec

modules = "ase matscipy click safetensors tqdm scipy pytest pluggy iniconfig packaging pygments matplotlib contourpy cycler"
names = {name: name for name in f"{modules} kiwisolver pyparsing six".split()}
names |= {"fontTools": "fonttools", "PIL": "pillow", "dateutil": "python-dateutil"}
print(*(package for module, package in names.items() if find_spec(module) is None))
END
    ) || exit 1
    # --no-deps: numpy and torch stay those of the machine
    [ -z "$missing" ] || "$python" -m pip install -q --no-deps --target "$site" $missing || exit 1
fi
failed=0
run() {  # run SECONDS NAME COMMAND...: its output is kept, and a failure does not keep the rest from running
    local limit=$1 name=$2
    shift 2
    echo "== $name"
    timeout "$limit" "$@" 2>&1 | tee "$folder/$name.log" | tail -n "${LINES_SHOWN:-25}"
    [ "${PIPESTATUS[0]}" = 0 ] || { echo "== $name FAILED"; failed=1; }
}
# warnings of other versions of torch and triton are no failures here; many processes may share the GPU
parallel=$("$python" -c 'import xdist; print("-n 8")' 2>/dev/null)
run 200 tests "$python" -m pytest -q -W default -p no:cacheprovider $parallel tests/gpu/test_gpu_cuda.py tests/gpu/test_gpu_triton.py
run 180 steps "$python" -m benchmarks.gpu_bench --output "$folder" --profile
run 100 others "$python" -m benchmarks --device cuda --systems peptide-175 --networks visnet-256x9-l2 \
    --peers mlcalc,mlcalc-torch,pyg --output "$site/others"
run 90 beads "$python" -m benchmarks.beads --device cuda
for kind in md json; do
    cp "$site/others/benchmarks.$kind" "$folder/others.$kind" 2>/dev/null
done
exit $failed
