"""The least that energies and forces of a network cost: its matrix products, and the rows that edges gather.

All formulas are here.  N atoms, E edges, E' = E + N with the self loops of ViSNet, H channels, S = 3 or 8 components.
Products are those left after the exact algebra of docs/networks.md.  One of `rows` x `inputs` by `inputs` x `outputs`
takes 2 rows inputs outputs FLOPs, and as many again for the gradient of its input, where that depends on the positions.
What is a function of the distance alone can be tabulated: such products are counted, but are no part of the floor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlcalc.models import HVNet, Network, ViSNet


@dataclass(frozen=True)
class Product:
    """Matrix products of one layer."""

    rows: int
    inputs: int
    outputs: int
    backward: bool = True  # whether its input depends on the positions
    of_distance: bool = False  # whether it does so through one distance only

    @property
    def flops(self) -> int:
        return 2 * self.rows * self.inputs * self.outputs * (1 + self.backward)


@dataclass(frozen=True)
class Work:
    """Of one call for energies and forces."""

    products: tuple[Product, ...]
    gathered_rows: int  # rows of H numbers that edges read from neighbors, or add up for them

    @property
    def flops(self) -> int:
        """All matrix products."""
        return sum(product.flops for product in self.products)

    @property
    def floor_products(self) -> tuple[Product, ...]:
        """Without what can be tabulated."""
        return tuple(product for product in self.products if not product.of_distance)

    @property
    def floor_flops(self) -> int:
        return sum(product.flops for product in self.floor_products)


def work(network: Network, atoms: int, edges: int) -> Work:
    """The work of a ViSNet with a scalar head, or of a smooth HVNet."""
    if isinstance(network, ViSNet):
        return Work(tuple(_visnet_products(network, atoms, edges)), _visnet_rows(network, edges))
    if isinstance(network, HVNet) and network.original is None:
        return Work(tuple(_hvnet_products(network, atoms, edges)), _hvnet_rows(network, edges))
    raise ValueError(f"no work is counted for {type(network).__name__} of this variant")


def _visnet_products(network: ViSNet, N: int, E: int) -> Iterator[Product]:
    config = network.config
    H, K, S, with_loops = config.hidden_channels, config.num_rbf, (3, 8)[config.lmax - 1], E + N
    yield Product(E, K, H, of_distance=True)  # distance_proj
    yield Product(N, 2 * H, H)  # combine
    yield Product(with_loops, K, H, of_distance=True)  # edge_proj of the embedding
    for layer in range(config.num_layers):
        first, last = layer == 0, layer == config.num_layers - 1
        updates_edges = not (first or last)
        edge_angles, node_angles = (config.vertex_type == kind for kind in ("edge", "node"))
        yield Product(N, H, 3 * H)  # q, k, v
        yield Product(with_loops, H, (2 + updates_edges * (1 + edge_angles)) * H)  # dk, dv, f
        yield Product(with_loops, H, (1 if first else 2) * H)  # s
        yield Product(N, H, (1 if first else 3 + node_angles) * H)  # o
        if not first:
            yield Product(S * N, H, 3 * H)  # vec
        if updates_edges:
            yield Product(S * N, H, 2 * H)  # w
        if (node_angles and not first) or (edge_angles and updates_edges):
            yield Product(S * N, H, 2 * H)  # t
    half = H // 2
    yield from (Product(S * N, H, H), Product(N, 2 * H, H), Product(N, H, 2 * half), Product(S * N, H, half))
    yield from (Product(S * N, half, half), Product(N, 2 * half, half), Product(N, half, 1))


def _visnet_rows(network: ViSNet, E: int) -> int:
    """k, v and vec of the neighbor, and its w: forward, again backward, and their gradients."""
    S, layers = (3, 8)[network.config.lmax - 1], int(network.config.num_layers)
    return 3 * E * (2 * layers + S * (layers - 1) + S * max(0, layers - 2))


def _hvnet_products(network: HVNet, N: int, E: int) -> Iterator[Product]:
    config = network.config
    H, K, kinds = config.hidden_channels, config.num_rbf, len(config.elements)
    for layer in range(config.num_layers):
        moves = layer > 0  # the first layer's scalars are those of the element alone
        yield from (Product(kinds * N, H, H, moves), Product(kinds * N, H, 3 * H, moves))
        yield Product(E, K + 1, 3 * H, of_distance=True)
        if config.sub_network == "painn":
            yield from (Product(3 * N, H, 2 * H), Product(N, 2 * H, H), Product(N, H, 3 * H))
        else:
            yield from (Product(kinds * N, 2 * H, H), Product(kinds * N, H, 3 * H))
    yield from (Product(N, H, H), Product(N, H, 1))


def _hvnet_rows(network: HVNet, E: int) -> int:
    """Three rows of messages, three of vectors (none in the first layer): forward, backward, gradients.

    The weighted means of the angular message, six more rows, are linear: forward, and gradients.
    """
    layers = int(network.config.num_layers)
    means = 2 * 6 * layers if network.config.sub_network == "rmconv" else 0
    return E * (3 * (6 * layers - 3) + means)
