"""What `make demo` runs, shortened."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from strict_python import STRICT

ROOT = Path(__file__).parents[2]


def test_demo_draws_and_reports(tmp_path: Path) -> None:
    words = ["--ethanol-steps", "20", "--copper-steps", "4", "--output", str(tmp_path / "out")]
    command = [*STRICT, str(ROOT / "examples" / "demo.py"), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "bulk copper: 108 atoms, 4 steps of 2.0 fs" in done.stdout
    assert done.stdout.count("mean temperature") == 2
    assert "20/20" in done.stderr  # the progress bar
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["demo.png"]
    assert (tmp_path / "out" / "demo.png").read_bytes().startswith(b"\x89PNG")
