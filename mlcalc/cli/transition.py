"""Calls of protocols by today's names of settings, also of those that still have earlier ones; to go once none has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

_EARLIER = {
    "n_volumes": "points",
    "npoints": "points",
    "n_images": "images",
    "n_layers": "layers",
    "symmetry_tolerance": "symprec",
    "n_structures": "structures",
    "max_iterations": "iterations",
    "eos": "kind",
    "stress_limit": "smax",
    "calc": "calculator",
}


def call(protocol: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """The protocol's result."""
    return protocol(*arguments, **named(protocol, **settings))


def named(protocol: Callable[..., Any], **settings: Any) -> dict[str, Any]:
    """The settings by the protocol's names."""
    known = inspect.signature(protocol).parameters
    if "band_fmax" in settings and "band_fmax" not in known:
        settings |= {"fmax": settings.pop("band_fmax"), "relax_fmax": settings["fmax"]}
    if "eos" in settings and "eos" not in known:
        settings["eos"] = settings["eos"].replace("_", "").replace("poirier", "pourier")  # as ASE has it
        settings["volume_range"] = max(map(abs, settings["volume_range"]))
    return {name if name in known else _EARLIER.get(name, name): settings[name] for name in settings}
