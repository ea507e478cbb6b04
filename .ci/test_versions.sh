#!/usr/bin/env bash
# Runs the suite on both ends of every dependency and on every supported Python.
#     .ci/test_versions.sh                      all legs
#     .ci/test_versions.sh oldest               one: oldest, newest, python3.12, python3.13
#     .ci/test_versions.sh newest tests/graphs  a part of the suite
# The environments stay in .venvs/ and are used again; they are installed from pyproject.toml alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

legs=(oldest newest python3.12 python3.13)
if (($#)); then
    legs=("$1")
    shift
fi

for leg in "${legs[@]}"; do
    case "$leg" in
        oldest | newest) python="${PYTHON:-python3}" ;;
        python3.*) python="$leg" ;;
        *) echo "Error: unknown leg $leg: choose oldest, newest, python3.12 or python3.13" >&2 && exit 2 ;;
    esac
    environment=".venvs/$leg"
    if [[ ! -e "$environment/.complete" ]]; then
        .ci/setup_venv.sh "$python" "$environment"
        install=("$environment/bin/python" -m pip install --disable-pip-version-check --quiet)
        if [[ "$leg" == oldest ]]; then
            "$python" .ci/oldest_versions.py > "$environment/oldest.txt"
            install+=(--constraint "$environment/oldest.txt")
            .ci/install_torch.sh "$environment/bin/python" "$(sed -n 's/^torch==//p' "$environment/oldest.txt")"
        else
            .ci/install_torch.sh "$environment/bin/python"
            install+=(--upgrade --upgrade-strategy eager)
        fi
        "${install[@]}" --editable ".[dev]"
        touch "$environment/.complete"
    fi
    echo "== $leg: $("$environment/bin/python" --version), $("$environment/bin/python" -m pip freeze |
        grep -iE '^(torch|numpy|ase|phonopy|numba|ipi|scipy|matscipy|spglib)==' | tr '\n' ' ')"
    "$environment/bin/python" -m pytest -n 2 --dist loadfile "$@"
done
