"""Calculators in forks of a process that has computed: the right result or a clear refusal, never a wait for ever."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys
import torch
from ase.build import bulk
from mlcalc import MLCalculator
torch.set_num_threads(2)
def energy(calculator):
    atoms = bulk("Cu", cubic=True) * 2
    atoms.rattle(0.01, seed=1)
    return calculator.get_potential_energy(atoms)
kernels, twin = sys.argv[1:]
calculator = MLCalculator("cu-hvnet", kernels=kernels)
expected = energy(calculator)
calculator.reset()
if twin == "unguarded":
    from mlcalc.models.fork_guard import forks
    forks.refuse = lambda device: None
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    try:
        print("same" if energy(calculator) == expected else "other", flush=True)
    except BaseException as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
print("ended by", os.waitpid(pid, 0)[1], flush=True)
"""


def forked(kernels: str, twin: str = "guarded") -> str:
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, kernels, twin]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=200).stdout


def test_autograd_is_refused_in_a_fork() -> None:
    told = forked("torch")
    assert "ForkedProcessError" in told
    assert "CalculatorFactory" in told
    assert "ended by 0" in told


def test_fused_kernels_compute_in_a_fork() -> None:
    assert "same" in forked("auto")


@pytest.mark.slow
def test_without_the_guard_the_fork_hangs() -> None:
    assert "ended by 14" in forked("torch", "unguarded")  # SIGALRM
