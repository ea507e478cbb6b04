"""Path integrals of i-PI with our forces: energies of harmonic oscillators, known for every number of beads."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ipi_servers import IPI

sys.path.insert(0, str(Path(__file__).parents[2] / "validation"))
from path_integrals import KT, QUANTUM, discretised, oscillator_rows

pytestmark = pytest.mark.skipif(not IPI.exists(), reason="i-PI is an extra")


def test_the_reference_has_the_classical_and_the_quantum_limit() -> None:
    assert discretised(1) == pytest.approx(KT, rel=1e-12)
    exact = QUANTUM / 2 / np.tanh(QUANTUM / (2 * KT))
    errors = [exact / discretised(beads) - 1 for beads in (64, 128, 256)]
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.05)  # second order in 1/P
    assert errors[2] == pytest.approx(errors[1] / 4, rel=0.05)


@pytest.mark.slow
def test_energies_and_both_estimators_of_the_kinetic_energy(tmp_path: Path) -> None:
    for row in oscillator_rows(tmp_path, 3000, (1, 4, 16)):
        assert abs(row["energy_meV"] - row["discretised_meV"]) < 4.5 * row["error_meV"] + 0.003 * row["energy_meV"]
        errors = np.hypot(row["virial_error_meV"], row["primitive_error_meV"])
        assert abs(row["virial_meV"] - row["primitive_meV"]) < 4.5 * errors + 0.003 * row["energy_meV"]
        if row["beads"] > 1:  # the twin: beads that feel nothing of each other
            assert abs(row["energy_meV"] - 1e3 * KT) > 20 * row["error_meV"]
