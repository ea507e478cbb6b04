"""The program on the README's first screen runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from strict_python import STRICT

ROOT = Path(__file__).parents[2]


def program() -> str:
    """The first Python block of the README."""
    (first, *_) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return str(first)


def test_program_is_short() -> None:
    assert len(program().splitlines()) <= 20


def test_program_runs_without_warnings(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [*STRICT, "-c", program()]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    temperature = float(re.search(r"ps, (\d+) K", done.stdout).group(1))  # type: ignore[union-attr]
    assert 200 < temperature < 400
    assert [path.name for path in tmp_path.iterdir()] == ["ethanol.png"]
