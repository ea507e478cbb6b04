"""The order of HVNet's kernels: steps between which all shares wait for each other."""

# Step 0 describes the edges.  Then every layer takes one step forward and one back, or two for rmconv, whose means
# need the neighbors' sums.  Sums of pairs reach later atoms, so that a block of atoms is complete once its own edges
# are done, and can go through its update and into the next layer at once.

from __future__ import annotations

from mlcalc.kernels.compile import kernel
from mlcalc.kernels.hvnet_atoms import (
    embed,
    prepare_messages,
    prepare_messages_back,
    prepare_painn,
    prepare_rmconv,
    prepare_rmconv_back,
    read_out,
    start_means,
    start_means_back,
    update_painn,
    update_painn_back,
    update_rmconv,
    update_rmconv_back,
)
from mlcalc.kernels.hvnet_geometry import describe, spread
from mlcalc.kernels.hvnet_means import sum_values, sum_values_back
from mlcalc.kernels.hvnet_sums import sum_messages, sum_messages_back


@kernel
def walk(steps, share, stress, settings, weights, given, near, atoms, rooms, results):  # type: ignore[no-untyped-def]
    """Takes the steps from steps[0] up to steps[1] for one share of the atoms."""
    per_layer, L = 1 if settings.painn else 2, settings.layers
    if given.first_block[share] == given.first_block[share + 1]:
        return
    for step in range(steps[0], steps[1]):
        if step == 0:
            _begin(settings, weights, given, near, atoms, rooms, results, share)
        elif step <= per_layer * L:
            layer, second = divmod(step - 1, per_layer)
            if second == 0:
                _radial(settings, weights, given, near, atoms, rooms, results, share, layer)
            else:
                _angular(settings, weights, given, near, atoms, rooms, results, share, layer)
        else:
            done, second = divmod(step - 1 - per_layer * L, per_layer)
            layer = L - 1 - done
            if second == per_layer - 1:
                _radial_back(settings, weights, given, near, atoms, rooms, results, share, layer, stress)
            else:
                _angular_back(settings, weights, given, near, atoms, rooms, share, layer)


@kernel
def _begin(settings, weights, given, near, atoms, rooms, results, share):  # type: ignore[no-untyped-def]
    first, last = given.first_block[share], given.first_block[share + 1]
    start = 0
    for place in range(given.blocks[first, 0]):
        start += given.first[given.order[place] + 1] - given.first[given.order[place]]
    for b in range(first, last):
        start = describe(settings, given, near, results, share, b, start)
        embed(settings, weights, atoms, given.blocks[b])
        prepare_messages(settings, weights, atoms, rooms, share, 0, given.blocks[b])


@kernel
def _radial(settings, weights, given, near, atoms, rooms, results, share, layer):  # type: ignore[no-untyped-def]
    first, last = given.first_block[share], given.first_block[share + 1]
    slot = layer % settings.states
    start, stop = given.blocks[first, 0], given.blocks[last - 1, 1]
    atoms.S[slot, start:stop] = atoms.s[slot, start:stop]
    if layer == 0:
        atoms.V[slot, start:stop] = 0
    else:
        atoms.V[slot, start:stop] = atoms.v[slot, start:stop]
    for b in range(first, last):
        block = given.blocks[b]
        sum_messages(settings, weights, near, atoms, rooms, share, layer, block)
        if settings.painn:
            prepare_painn(settings, weights, atoms, rooms, share, layer, block)
            update_painn(settings, atoms, layer, block)
            _end_layer(settings, weights, given, near, atoms, rooms, results, share, layer, block)
        else:
            prepare_rmconv(settings, weights, atoms, rooms, share, layer, block)


@kernel
def _angular(settings, weights, given, near, atoms, rooms, results, share, layer):  # type: ignore[no-untyped-def]
    first, last = given.first_block[share], given.first_block[share + 1]
    for b in range(first, last):
        start_means(settings, atoms, layer, given.blocks[b])
    for b in range(first, last):
        block = given.blocks[b]
        sum_values(settings, near, atoms, layer, block)
        update_rmconv(settings, atoms, layer, block)
        _end_layer(settings, weights, given, near, atoms, rooms, results, share, layer, block)


@kernel
def _end_layer(settings, weights, given, near, atoms, rooms, results, share, layer, block):  # type: ignore[no-untyped-def]
    """On to the next layer, or from the last one back."""
    if layer + 1 < settings.layers:
        prepare_messages(settings, weights, atoms, rooms, share, layer + 1, block)
        return
    read_out(settings, weights, given, atoms, rooms, results, share, block)
    if settings.back:
        _update_back(settings, weights, near, atoms, rooms, share, layer, block)


@kernel
def _update_back(settings, weights, near, atoms, rooms, share, layer, block):  # type: ignore[no-untyped-def]
    if settings.painn:
        update_painn_back(settings, weights, atoms, rooms, share, layer, block)
    else:
        update_rmconv_back(settings, near, atoms, layer, block)


@kernel
def _angular_back(settings, weights, given, near, atoms, rooms, share, layer):  # type: ignore[no-untyped-def]
    first, last = given.first_block[share], given.first_block[share + 1]
    for b in range(first, last):
        if settings.kept < settings.layers:
            prepare_rmconv(settings, weights, atoms, rooms, share, layer, given.blocks[b])
        start_means_back(settings, atoms, layer, given.blocks[b])
    for b in range(first, last):
        sum_values_back(settings, near, atoms, layer, given.blocks[b])
        prepare_rmconv_back(settings, weights, atoms, rooms, share, layer, given.blocks[b])


@kernel
def _radial_back(settings, weights, given, near, atoms, rooms, results, share, layer, stress):  # type: ignore[no-untyped-def]
    first, last = given.first_block[share], given.first_block[share + 1]
    start, stop = given.blocks[first, 0], given.blocks[last - 1, 1]
    if settings.kept < settings.layers:
        for b in range(first, last):
            prepare_messages(settings, weights, atoms, rooms, share, layer, given.blocks[b])
    atoms.gphi[:, start:stop] = 0
    atoms.gv[start:stop] = atoms.gV[layer % 2, start:stop]
    for b in range(first, last):
        block = given.blocks[b]
        sum_messages_back(settings, weights, near, atoms, rooms, share, layer, block)
        prepare_messages_back(settings, weights, atoms, rooms, share, layer, block)
        if layer > 0:
            if settings.painn and settings.kept < settings.layers:
                prepare_painn(settings, weights, atoms, rooms, share, layer - 1, block)
            _update_back(settings, weights, near, atoms, rooms, share, layer - 1, block)
        else:
            spread(settings, given, near, results, share, b, stress)
