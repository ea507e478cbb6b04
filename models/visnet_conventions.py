"""What a ViSNet of given settings assumes, and what is unphysical about it, in sentences for users."""

from __future__ import annotations

from .visnet_config import ViSNetConfig


def conventions(config: ViSNetConfig) -> tuple[str, ...]:
    """How the numbers of the original variant come about, where that differs from the smooth one."""
    if config.variant == "smooth":
        return ()
    found = [
        "Original ViSNet equations: cosine cutoff, no envelope on the vector messages, plain vector norms.",
        "Periodic images within the cutoff are neighbors like any others; the original knew molecules only.",
    ]
    if config.max_num_neighbors is None:
        found.append("All neighbors within the cutoff are used.")
    else:
        found.append(
            f"An atom keeps {config.max_num_neighbors} of the atoms within the cutoff, itself counted, the first by "
            "index, as the original does on a GPU."
        )
    if config.reduce == "mean":
        found.append("The result is the mean over the atoms of a structure, not their sum.")
    if config.structure_shift:
        found.append(f"{config.structure_shift!r} (its unit) is added once per structure, whatever its size.")
    return tuple(found)


def caveats(config: ViSNetConfig) -> tuple[str, ...]:
    """What is unphysical about the numbers of the original variant."""
    if config.variant == "smooth":
        return ()
    found = [
        "The energy jumps when an atom crosses the cutoff, unless all biases of s_proj are zero: NVE runs drift."
        if config.quantity == "energy"
        else "The result jumps when an atom crosses the cutoff."
    ]
    if config.vertex_type == "node":
        found.append("The improper angles of the nodes have no cutoff function: a second jump at the cutoff.")
    if config.vecnorm_type != "none":
        found.append(
            f"The {config.vecnorm_type} norm of the vectors has kinks, and amplifies noise where all vectors of an "
            "atom vanish: on sites of high symmetry."
        )
    if config.max_num_neighbors is not None:
        found.append(
            "Where the limit of neighbors bites, the result depends on the order of the atoms, and jumps when an atom "
            "of low index enters or leaves the cutoff."
        )
    elif config.trained_max_num_neighbors is not None:
        found.append(
            f"It was trained with at most {config.trained_max_num_neighbors} neighbors, itself counted; atoms with "
            "more than that are outside what it was trained on."
        )
    if config.structure_shift or config.reduce == "mean":
        found.append("The result is not size-extensive: compare structures of equal size only.")
    if config.quantity == "dipole" and config.structure_shift:
        found.append("It was trained on the length of the dipole plus a constant, which the vector does not hold.")
    if config.quantity == "vector" and config.structure_shift:
        found.append("The same constant is added to all components of the vector, which then does not turn along.")
    return tuple(found)
