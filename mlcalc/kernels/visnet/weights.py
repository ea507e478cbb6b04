"""ViSNet's weights as the kernels take them: matrices to multiply rows with from the right, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlcalc.models import ViSNet
from mlcalc.models.visnet_layers import Block

Floats = NDArray[Any]
Matrices = tuple[Floats, ...]


@dataclass(frozen=True, eq=False)
class BlockWeights:
    """Of one block; each group in the order in which its kernel unpacks it."""

    edges: Matrices
    edges_back: Matrices
    atoms: Matrices
    atoms_back: Matrices
    update: Matrices
    update_back: Matrices
    parts: int  # of edge_proj


@dataclass(frozen=True, eq=False)
class Weights:
    """Of the whole network."""

    radial: tuple[Any, ...]
    embed_atoms: Matrices
    embed_atoms_back: Matrices
    embed_edges: Matrices
    embed_edges_back: Matrices
    blocks: tuple[BlockWeights, ...]
    readout: Matrices
    readout_rows: Matrices


def packed(network: ViSNet) -> Weights:
    """The weights of a network of energies with a gated readout, in the precision of the network."""
    config, embedding = network.config, network.embedding
    W_c, b_c = embedding.combine.weight, embedding.combine.bias
    F = config.hidden_channels
    own = torch.addmm(b_c, embedding.atom.weight, W_c[:, :F].t())
    others = _array(embedding.neighbor.weight)
    W_d, b_d = _transposed(embedding.distance_proj), _array(embedding.distance_proj.bias)
    W_f, b_f = _transposed(embedding.edge_proj), _array(embedding.edge_proj.bias)
    return Weights(
        radial=_radial(network),
        embed_atoms=(W_d, b_d, others, _array(own), _array(W_c[:, F:].t())),
        embed_atoms_back=(W_d, b_d, others, _array(embedding.distance_proj.weight), _array(W_c[:, F:])),
        embed_edges=(W_f, b_f),
        embed_edges_back=(W_f, b_f, _array(embedding.edge_proj.weight)),
        blocks=tuple(_block(block) for block in network.blocks),  # type: ignore[arg-type]
        readout=_readout(network),
        readout_rows=_readout_rows(network),
    )


def _radial(network: ViSNet) -> tuple[Any, ...]:
    config = network.config
    basis: Any = network.basis
    gaussian = config.rbf_type == "gauss"
    kind = _array(network.out_norm.weight).dtype.type
    if gaussian:
        centers = _array(basis.offset)
        widths = np.full_like(centers, -float(basis.coeff))
    else:
        centers, widths = _array(basis.means), _array(basis.betas)
    smooth = config.variant == "smooth"
    exponent = config.envelope_exponent if smooth else 0
    alpha = kind(0.0 if gaussian else basis.alpha)
    return kind(config.cutoff), exponent, gaussian, smooth or not gaussian, alpha, centers, widths


def _block(block: Block) -> BlockWeights:
    F = len(block.layernorm.weight)
    none = block.qkv.weight.new_zeros(0, F)
    W_v = none if block.first else block.vec_proj.weight
    W_w = block.w_proj.weight if block.has_edge_update else none
    W_t = block.t_proj.weight if block.edge_angles else none
    W_e, W_s, W_o = block.edge_proj.weight, block.s_proj.weight, block.o_proj.weight
    b_e, b_s, b_o = (_array(layer.bias) for layer in (block.edge_proj, block.s_proj, block.o_proj))
    norm, norm_bias = _array(block.layernorm.weight), _array(block.layernorm.bias)
    W_qkv, b_qkv = block.qkv.weight, _array(block.qkv.bias)
    t = [_array(W.t()) for W in (W_e, W_s, W_o, W_qkv, W_v, W_w, W_t)]
    return BlockWeights(
        edges=(t[0], b_e, t[1], b_s),
        edges_back=(t[0], b_e, t[1], b_s, _array(W_e), _array(W_s)),
        atoms=(norm, norm_bias, t[3], b_qkv, t[4], t[5], t[6]),
        atoms_back=(norm, _array(W_qkv), _array(W_w), _array(W_t)),
        update=(t[2], b_o),
        update_back=(_array(W_o), _array(W_v)),
        parts=block.edge_parts,
    )


def _readout(network: ViSNet) -> Matrices:
    first, second = cast("Any", network.head)
    result = [_array(network.out_norm.weight), _array(network.out_norm.bias)]
    for gated in (first, second):
        result += [_transposed(gated.vec1_proj)]
        for layer in (gated.update_net[0], gated.update_net[2]):
            result += [_transposed(layer), _array(layer.bias)]
        if gated is first:
            result.append(_transposed(gated.vec2_proj))
    return tuple(result)


def _readout_rows(network: ViSNet) -> Matrices:
    first, second = cast("Any", network.head)
    layers = [first.vec1_proj, first.update_net[0], first.update_net[2], first.vec2_proj]
    layers += [second.vec1_proj, second.update_net[0], second.update_net[2]]
    return tuple(_array(layer.weight) for layer in layers)


def _transposed(layer: nn.Linear) -> Floats:
    return _array(layer.weight.t())


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.detach().contiguous().numpy()
    return array
