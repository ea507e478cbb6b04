"""Which systems are measured with which networks."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.cases import OURS, PEERS
from benchmarks.networks import RECIPES, Recipe
from benchmarks.systems import SYSTEMS

Pair = tuple[str, str]  # system, network

_COPPER = ("cu-108", "cu-864", "cu-4000", "cu-32000")
PRESETS: dict[str, tuple[Pair, ...]] = {
    "quick": (("aspirin-21", "visnet-128x6-l1"), ("cu-108", "hvnet-128x5-rmconv")),
    "targets": (
        *((system, "visnet-256x9-l2") for system in ("aspirin-21", "peptide-175", "water-252", "water-999")),
        *((system, "visnet-128x6-l2") for system in ("aspirin-21", "aspirin-21x64", "peptide-175")),
        *((system, "visnet-128x6-l1") for system in ("peptide-175", "water-999")),
        *((system, "hvnet-128x5-rmconv") for system in _COPPER),
        *((system, "hvnet-128x5-painn") for system in ("cu-864", "cu-4000")),
    ),
}


def every_pair() -> tuple[Pair, ...]:
    """All systems with all networks made for their kind of matter, but those for trying out."""
    return tuple(
        (system, network)
        for network in RECIPES
        if "tiny" not in network
        for system in SYSTEMS
        if suits(network, system)
    )


def suits(network: str, system: str) -> bool:
    """Whether the network is made for such systems and knows their elements."""
    recipe, there = RECIPES[network], SYSTEMS[system]
    return recipe.family == there.family and (not recipe.elements or set(there.elements) <= set(recipe.elements))


def pairs(preset: str, systems: Sequence[str], networks: Sequence[str]) -> list[Pair]:
    """What a preset names, or else all suitable pairs of the systems and networks asked for."""
    if not systems and not networks:
        return list(every_pair() if preset == "full" else PRESETS[preset])
    return [
        (system, network)
        for network in networks or [name for name in RECIPES if "tiny" not in name]
        for system in systems or SYSTEMS
        if suits(network, system)
    ]


def peers_of(network: str, wanted: Sequence[str]) -> list[str]:
    """Those of the codes that have this network."""
    return [peer for peer in PEERS if peer in wanted and _has(peer, RECIPES[network])]


def _has(peer: str, recipe: Recipe) -> bool:
    if peer in OURS:
        return True
    if peer == "naive":
        return recipe.shared_with_pyg or "Cu" in recipe.elements or recipe.kind == "hvnet"
    return recipe.shared_with_pyg and (peer != "mlip" or "tiny" not in recipe.name)
