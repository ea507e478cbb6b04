"""Model files taken apart and put together again without the code under test: written from the format's description."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from small_networks import random_network
from torch import Tensor, nn

from mlcalc.errors import ModelFileError
from mlcalc.model_file.model_file import load_model, save_model
from mlcalc.models import Graph, register


def canonical(value: Any) -> str:
    """Sorted keys, no spaces, non-ASCII characters as they are."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def split(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The safetensors header, the mlcalc header in its metadata, and the tensors' bytes."""
    length = int.from_bytes(content[:8], "little")
    outer = json.loads(content[8 : 8 + length])
    return outer, json.loads(outer["__metadata__"]["mlcalc"]), content[8 + length :]


def join(outer: dict[str, Any], data: bytes) -> bytes:
    """A safetensors file."""
    header = json.dumps(outer, ensure_ascii=False).encode()
    return len(header).to_bytes(8, "little") + header + data


def signed(outer: dict[str, Any], header: dict[str, Any], data: bytes) -> bytes:
    """A model file whose hash is right whatever else is wrong, as a forger would make it."""
    outer, header = json.loads(json.dumps(outer)), {k: v for k, v in header.items() if k != "sha256"}
    texts = {name: text for name, text in outer["__metadata__"].items() if name != "mlcalc"}
    digest = hashlib.sha256(canonical([texts, header]).encode())
    for name in sorted(set(outer) - {"__metadata__"}):
        entry = outer[name]
        begin, end = entry["data_offsets"]
        digest.update(f"\n{canonical([name, entry['dtype'], entry['shape']])}\n".encode() + data[begin:end])
    outer["__metadata__"]["mlcalc"] = canonical({**header, "sha256": digest.hexdigest()})
    return join(outer, data)


def edited(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The file after a change of its mlcalc header, with the hash made right again."""
    outer, header, data = split(content)
    change(header)
    return signed(outer, header, data)


SIZES = {"cutoff": 4.0, "hidden_channels": 8, "num_layers": 2, "num_rbf": 4}
SETTINGS: dict[str, dict[str, Any]] = {
    "hvnet": SIZES | {"elements": ("Cu",), "energy_shift": (-3.7,)},
    "visnet": SIZES | {"elements": ("H", "O"), "energy_shift": (-13.6, -2041.3), "num_heads": 2, "num_layers": 3},
    "limited": SIZES | {"elements": ("Cu",), "num_heads": 2, "variant": "original", "max_num_neighbors": 32},
    "dgl": SIZES | {"elements": ("Cu",), "variant": "dgl"},
}
KINDS = {"limited": "visnet", "dgl": "hvnet"}


@cache
def good_file(kind: str) -> bytes:
    """The bytes of a good model file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{kind}.safetensors"
        save_model(random_network(KINDS.get(kind, kind), SETTINGS[kind]).float(), path)
        return path.read_bytes()


def refused(path: Path, content: bytes, text: str, *, verify: bool = True) -> None:
    """Loading these bytes from the path fails with ModelFileError and a text that matches."""
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=text):
        load_model(path, verify=verify)


def everywhere(header: dict[str, Any], **values: Any) -> None:
    """Change settings and what the header repeats of them."""
    header["settings"].update(values)
    header.update({name: value for name, value in values.items() if name in header})


@dataclass(frozen=True)
class PairNetConfig:
    """Settings of a third architecture, which the package does not know."""

    elements: tuple[str, ...]
    cutoff: float = 4.0  # Å
    width: int = 4
    energy_shift: tuple[float, ...] = field(default=())  # eV


class PairNet(nn.Module):
    """A learned pair potential of one element: all a new architecture has to be."""

    def __init__(self, config: PairNetConfig) -> None:
        super().__init__()
        self.config, self.cutoff, self.elements = config, config.cutoff, config.elements
        self.pair = nn.Sequential(nn.Linear(1, config.width), nn.Tanh(), nn.Linear(config.width, 1))
        self.register_buffer("scale", torch.tensor(0.1), persistent=False)  # made anew at loading, in the right dtype

    def forward(self, graph: Graph) -> Tensor:
        distance = graph.edge_vectors().norm(dim=1, keepdim=True).to(self.pair[0].weight.dtype)
        energy = (self.scale * self.pair(distance) * (1 - distance / self.cutoff) ** 3).squeeze(1).to(torch.float64)
        start = torch.full(graph.numbers.shape, self.config.energy_shift[0], dtype=torch.float64)
        return start.index_add(0, graph.edges[0], energy)


def register_pair_net() -> None:
    """The one line that a new architecture takes."""
    register("pair-net", PairNetConfig)(PairNet)


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Nobody may read the file, not even root."""
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # permissions do not bind root
        yield
    finally:
        os.seteuid(user)
