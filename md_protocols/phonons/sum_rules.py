"""Rotational sum rules of harmonic force constants: turning a crystal costs no energy, and so bends it softly.

With r_ij the vectors from atom i of the primitive cell to atom j, equidistant periodic images averaged:

    translation  sum_j Phi_ia,jb = 0
    Born-Huang   sum_j (Phi_ia,jb r_ij,c - Phi_ia,jc r_ij,b) = 0
    Huang        [ab,cd] = [cd,ab]  with  [ab,cd] = sum_ij Phi_ia,jb r_ij,c r_ij,d

The first two hold for any crystal at rest, the last for one without stress.  Force constants from supercells, and all
the more from noisy forces, break the rotational ones, and the flexural modes of a sheet, omega ~ q^2, become linear
(Lin, Poncé and Marzari, npj Comput. Mater. 8, 236 (2022); Eriksson et al., Adv. Theory Simul. 2, 1800184 (2019)).
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
_RANK = 1e-9  # of singular values: smaller ones belong to rules that follow from the others


def rotational_violation(phonon: Phonopy) -> dict[str, float]:
    """How much the Born-Huang (eV/Å) and Huang (eV per primitive cell) rules are violated, the largest of each."""
    constants = _compact(phonon)
    first, second = _moments(phonon)
    turned = np.einsum("ijab,ijc->iabc", constants, first)
    brackets = np.einsum("ijab,ijcd->abcd", constants, second)
    return {
        "born_huang_eV_per_A": float(np.abs(turned - turned.transpose(0, 1, 3, 2)).max()),
        "huang_eV": float(np.abs(brackets - brackets.transpose(2, 3, 0, 1)).max()),
    }


def enforced(phonon: Phonopy) -> Array:
    """(N, N, 3, 3) the force constants nearest to the Phonopy object's (least squares) that obey all three rules.

    They keep Phi_ij = Phi_ji^T, and the space group: the rules as a whole are the same after any of its operations, and
    so is the nearest solution.
    """
    from phonopy.harmonic.force_constants import compact_fc_to_full_fc

    constants = _compact(phonon)
    partner = _partners(phonon)
    constants = (constants + _exchanged(constants, partner)) / 2
    rules = _rules(phonon)
    rules = (rules + np.array([_exchanged(rule, partner) for rule in rules])) / 2
    rows = rules.reshape(len(rules), -1)
    sizes = np.linalg.norm(rows, axis=1)
    rows = rows[sizes > 1e-8 * sizes.max()] / sizes[sizes > 1e-8 * sizes.max(), None]
    _, values, directions = np.linalg.svd(rows, full_matrices=False)
    directions = directions[values > _RANK * values[0]]
    flat = constants.ravel()
    for _ in range(2):  # the second time takes rounding off
        flat = flat - directions.T @ (directions @ flat)
    found: Array = np.array(flat.reshape(constants.shape), order="C")
    return np.array(compact_fc_to_full_fc(phonon.primitive, found), dtype=float)


def _compact(phonon: Phonopy) -> Array:
    """(n, N, 3, 3) rows of the primitive cell's atoms."""
    constants = np.array(phonon.force_constants, dtype=float)
    return constants if len(constants) == len(phonon.primitive) else constants[phonon.primitive.p2s_map]


def _moments(phonon: Phonopy) -> tuple[Array, Array]:
    """(n, N, 3) r_ij and (n, N, 3, 3) r_ij r_ij, Å and Å^2, means over equidistant images."""
    vectors, found = phonon.primitive.get_smallest_vectors()
    cartesian = vectors @ phonon.primitive.cell
    atoms, cells = found.shape[:2]
    first, second = np.zeros((cells, atoms, 3)), np.zeros((cells, atoms, 3, 3))
    for j, i in product(range(atoms), range(cells)):
        count, start = found[j, i]
        images = cartesian[start : start + count]
        first[i, j] = images.mean(axis=0)
        second[i, j] = np.einsum("kc,kd->cd", images, images) / count
    return first, second


def _partners(phonon: Phonopy) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n, N) indices (k, l) of the compact element that equals (j, i) by translation."""
    primitive = phonon.primitive
    translations = np.array(primitive.atomic_permutations)
    representatives = np.array(primitive.s2p_map)
    rows = np.array([primitive.p2p_map[s] for s in representatives])
    # The translation that takes atom j to the representative of its sublattice.
    which = np.array([int(np.flatnonzero(translations[:, j] == representatives[j])[0]) for j in range(len(rows))])
    columns = translations[which][:, primitive.p2s_map].T
    return np.broadcast_to(rows, columns.shape), columns


def _exchanged(constants: Array, partner: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Array:
    """Phi_ji^T in place of Phi_ij."""
    return constants[partner].transpose(0, 1, 3, 2)


def _rules(phonon: Phonopy) -> Array:
    """(R, n, N, 3, 3) coefficients of the rules, each of which is a sum that vanishes."""
    first, second = _moments(phonon)
    cells, atoms = first.shape[:2]
    rules = []
    for i, a, b in product(range(cells), range(3), range(3)):
        rule = np.zeros((cells, atoms, 3, 3))
        rule[i, :, a, b] = 1.0
        rules.append(rule)
    for i, a, (b, c) in product(range(cells), range(3), ((0, 1), (0, 2), (1, 2))):
        rule = np.zeros((cells, atoms, 3, 3))
        rule[i, :, a, b] = first[i, :, c]
        rule[i, :, a, c] -= first[i, :, b]
        rules.append(rule)
    for (a, b), (c, d) in product(product(range(3), repeat=2), repeat=2):
        if (a, b) < (c, d):
            rule = np.zeros((cells, atoms, 3, 3))
            rule[:, :, a, b] = second[:, :, c, d]
            rule[:, :, c, d] -= second[:, :, a, b]
            rules.append(rule)
    return np.array(rules)
