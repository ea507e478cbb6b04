"""The architectures by name: one line registers a network for files, calculator, command line and tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar, cast

from torch import nn

from .errors import ModelError
from .network import Network


@dataclass(frozen=True)
class Architecture:
    """A network class and the settings it is built from."""

    kind: str
    config: type[Any]  # frozen dataclass of plain JSON values
    network: type[nn.Module]


_ARCHITECTURES: dict[str, Architecture] = {}
_Network = TypeVar("_Network", bound=type[nn.Module])


def register(kind: str, config: type[Any]) -> Callable[[_Network], _Network]:
    """Class decorator that makes a network known under `kind`."""

    def add(network: _Network) -> _Network:
        _ARCHITECTURES[kind] = Architecture(kind, config, network)
        return network

    return add


def architectures() -> Mapping[str, Architecture]:
    """All registered architectures by kind."""
    return dict(_ARCHITECTURES)


def build_network(kind: str, settings: Mapping[str, Any]) -> Network:
    """An untrained network of the kind; settings are JSON values, unknown or missing names are errors."""
    if kind not in _ARCHITECTURES:
        raise ModelError(f"unknown model kind {kind!r}: this version knows {', '.join(sorted(_ARCHITECTURES))}")
    architecture = _ARCHITECTURES[kind]
    known = {field.name for field in fields(architecture.config)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ModelError(
            f"unknown setting{'s' if len(unknown) > 1 else ''} {', '.join(unknown)} for a {kind} model: "
            f"allowed are {', '.join(sorted(known))}"
        )
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    try:
        config = architecture.config(**values)
    except TypeError as error:
        raise ModelError(f"settings of the {kind} model are incomplete or of the wrong type: {error}") from error
    return cast("Network", architecture.network(config))


def network_settings(network: nn.Module) -> tuple[str, dict[str, Any]]:
    """Kind and JSON settings that rebuild the network with `build_network`."""
    for architecture in _ARCHITECTURES.values():
        if type(network) is architecture.network:
            return architecture.kind, asdict(network.config)  # type: ignore[call-overload]
    raise ModelError(
        f"{type(network).__name__} is not a registered architecture: only registered networks can be saved "
        f"({', '.join(sorted(_ARCHITECTURES))})"
    )
