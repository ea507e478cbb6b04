"""What all registered networks have in common."""

from __future__ import annotations

from typing import Any

from torch import nn


class Network(nn.Module):
    """A torch module that is a Potential; for annotations, nothing is inherited but names."""

    config: Any  # frozen dataclass of JSON values
    cutoff: float  # Å
    elements: tuple[str, ...]  # symbols, by atomic number
    info: Any  # what its file says of it, once it was loaded from one
