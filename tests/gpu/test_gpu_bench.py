"""The script that times steps on a GPU, tried out on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks import gpu_bench

ROOT = Path(__file__).parents[2]
TINY = ["--device", "cpu", "--pair", "aspirin-21", "visnet-tiny", "--steps", "4"]


def rows(folder: Path, *ways: str) -> list[dict[str, object]]:
    arguments = [word for way in ways for word in ("--way", *way.split())]
    done = CliRunner().invoke(
        gpu_bench.main, [*TINY, *arguments, "--output", str(folder), "--profile"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert "aspirin-21" in (folder / "gpu.md").read_text()
    found: list[dict[str, object]] = json.loads((folder / "gpu.json").read_text())
    return found


def test_rows_and_table(tmp_path: Path) -> None:
    double, wrong_word = rows(tmp_path, "float64 ieee torch", "float64 tf32 torch")
    assert double["status"] == "ok"
    assert "aten::index_select" in (tmp_path / "profile.txt").read_text()
    assert double["force_error"] < 1e-10
    assert 0 < double["floor"] < double["step"] < double["first_call"]
    assert "tf32" in wrong_word["status"]


def test_wrong_forces_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_bench, "TOLERANCE", {"ieee": 0.0})
    (row,) = rows(tmp_path, "float32 ieee torch")
    assert "wrong by" in row["status"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: the command would run for minutes")
def test_command_says_that_there_is_no_gpu(tmp_path: Path) -> None:
    command = [ROOT / "benchmarks" / "gpu.sh", tmp_path]
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stdout
    assert "this torch sees no GPU" in done.stderr
