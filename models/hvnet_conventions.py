"""What the variants of HVNet say of themselves."""

from __future__ import annotations

from .hvnet_config import HVNetConfig


def conventions(config: HVNetConfig) -> tuple[str, ...]:
    """How the network differs from a smooth, size-extensive potential on the full neighbor list."""
    if config.variant == "smooth":
        return ()
    found = _dgl_conventions(config) if config.variant == "dgl" else _pyg_conventions(config)
    if config.structure_shift:
        found += (f"{config.structure_shift!r} eV are added once per structure, whatever its size.",)
    return found


def _dgl_conventions(config: HVNetConfig) -> tuple[str, ...]:
    pooled = "mean" if config.intensive else "sum"
    found = [
        "Neighbor means count every neighbor alike; a small constant of 1e-5 is under all roots and in all quotients.",
        f"The energy is one readout of the {pooled} of all atoms' features; per-atom energies are equal shares of it.",
    ]
    if config.n_ref is not None:
        found.append(
            f"The readout sees the features of N atoms times {config.n_ref}/N, and the energy is N/{config.n_ref} "
            f"times its output (reference size {config.n_ref})."
        )
    if config.aggregation == "sum":
        found.append("The states that the elements' sub-networks leave are added, as before September 2021.")
    elif config.n_relations is not None:
        found.append(f"Updates are divided by {config.n_relations}, the fixed number of elements.")
    elif len(config.elements) > 1:
        found.append(
            "Updates are divided by the number of elements with neighbors, counted in each structure "
            "(the original counts in the whole batch)."
        )
    if config.legacy_mic:
        found.append("Of all periodic images of a neighbor only the nearest counts, and none of the atom itself.")
    else:
        found.append(
            "All periodic images within the cutoff count; the original code takes the nearest only, which differs in "
            "cells lower than twice the cutoff (legacy_mic)."
        )
    return tuple(found)


def _pyg_conventions(config: HVNetConfig) -> tuple[str, ...]:
    found = ["Atoms of an element without any neighbor in the structure have the state zero."]
    if config.intensive:
        found.append("The output is the mean over the atoms, not their sum; per-atom energies are equal shares of it.")
    return tuple(found)


def caveats(config: HVNetConfig) -> tuple[str, ...]:
    """What is unphysical about the network's numbers."""
    if config.variant == "smooth":
        return ()
    found = [f"The energy jumps when an atom crosses the cutoff of {config.cutoff:g} Å: total energy drifts in NVE."]
    return (*found, *(_dgl_caveats(config) if config.variant == "dgl" else _pyg_caveats(config)))


def _dgl_caveats(config: HVNetConfig) -> tuple[str, ...]:
    found = []
    if config.intensive:
        found.append("The output does not grow with the number of atoms: it is no energy of a structure.")
    elif config.n_ref is None:
        found.append(
            "The energy is not size-extensive: it is meant for structures of as many atoms as the training had; "
            "elsewhere give that number as n_ref."
        )
    else:
        found.append("The energy grows with the size of a cell, but two separate systems in one structure do not add.")
    found.append(
        "Forces change steeply within about 0.03 Å of sites with inversion symmetry: small displacements from a "
        "perfect crystal, as for phonons, measure that and no force constants."
    )
    if config.legacy_mic:
        found.append(
            "In cells lower than twice the cutoff neighbors are missing, and forces jump where two images of a "
            "neighbor are equally near."
        )
    if len(config.elements) > 1 and config.n_relations is None:
        found.append("All energies change when the last neighbor of all atoms of an element leaves or the first comes.")
    return tuple(found)


def _pyg_caveats(config: HVNetConfig) -> tuple[str, ...]:
    found = [
        "It knows no periodic cells: the original has the wrong sign in the vectors to neighbors in other cells.",
        "Forces change steeply within about 1e-4 Å of symmetric sites.",
    ]
    if config.intensive:
        found.append("The output does not grow with the number of atoms: it is no energy of a structure.")
    return tuple(found)
