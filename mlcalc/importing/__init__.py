"""Networks from the checkpoints of the original codes: HermNet (DGL and PyG versions) and ViSNet (AI2BMD, PyG)."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from numbers import Real
from typing import Any

from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.ground.warn import warn
from mlcalc.importing.hermnet import hermnet_config
from mlcalc.importing.hermnet_weights import hvnet_tensors
from mlcalc.importing.layouts import HALF, Layout, recognize
from mlcalc.importing.reading import Checkpoint, read_checkpoint
from mlcalc.importing.request import Findings, Request
from mlcalc.importing.visnet import visnet_config
from mlcalc.importing.visnet_weights import visnet_tensors
from mlcalc.model_file.info import NEIGHBOR_CONVENTION, ModelInfo
from mlcalc.model_file.rebuild import rebuild_network
from mlcalc.models import HVNetConfig, Network
from mlcalc.version import __version__

__all__ = ["import_checkpoint"]


_LONGEST, _LONGEST_TEXT = 118, 1000  # values of a list and characters of a text that a header repeats


def import_checkpoint(
    path: str | os.PathLike[str],
    *,
    settings: Mapping[str, Any] | None = None,
    cutoff: float | None = None,
    elements: Sequence[str | int] | str | int | None = None,
    energy_shift: float | Mapping[str | int, float] | None = None,
    units: str | None = None,
    legacy_mic: bool = False,
    n_ref: int | None = None,
    max_num_neighbors: int | None = None,
    quantity: str | None = None,
) -> Network:
    """The network in a checkpoint of the original codes, which gives their numbers to the last digits.

    It is in evaluation mode, without gradients of the weights, in the dtype of the file and with a ModelInfo as
    `.info`, so that `save_model(network, path, info=network.info)` writes it.
    What the file does not hold is given here: `settings`, the arguments that its network was constructed with, by the
    original names; `cutoff` (Å); `elements`; `energy_shift` in `units`, a number added once per structure or a dict by
    element; `units` of its energies ("eV", "meV", "kcal/mol", "kJ/mol", "Hartree"; of a dipole "e*Å" or "Debye", of
    an electronic spatial extent "Å^2" or "bohr^2"), which are converted to eV, e Å and Å^2.  Left out they count as
    such, with a PhysicsWarning where the file names data known to be in another unit.

    `legacy_mic` and `n_ref` (atoms of the training structures) choose the nearest-image convention and the reference
    size of the DGL HVNet's readout, `max_num_neighbors` applies the limit that a ViSNet was trained with, `quantity`
    names what a scalar head predicts if not the energy.

    Raises ModelFileError for a file that cannot be trusted, is of no known layout, contradicts what was given, or
    does not hold what was not given; ConfigError for an unknown unit.
    """
    request = Request(settings, cutoff, elements, energy_shift, units, legacy_mic, n_ref, max_num_neighbors, quantity)
    checkpoint = read_checkpoint(path)
    layout = recognize(checkpoint)
    findings = Findings(checkpoint.origin)
    for note in layout.notes:
        (findings.warn if note.startswith(HALF) else findings.notes.append)(note)
    config = (visnet_config if layout.family == "visnet" else hermnet_config)(layout, request, findings)
    network = _network(config, layout, checkpoint)
    network.info = _info(network, layout, request, findings, checkpoint)
    for warning in findings.warnings:
        warn(warning)
    return network


def _network(config: Any, layout: Layout, checkpoint: Checkpoint) -> Network:
    try:
        if isinstance(config, HVNetConfig):
            kind, tensors = "hvnet", hvnet_tensors(layout.tensors, config)
        else:
            kind, tensors = "visnet", visnet_tensors(layout.tensors, config)
    except ModelFileError as error:
        raise ModelFileError(f"{checkpoint.origin}: {error}") from error
    info = ModelInfo(
        kind=kind,
        settings=json.loads(json.dumps(asdict(config))),
        elements=tuple(config.elements),
        cutoff=float(config.cutoff),
        energy_shift=tuple(config.energy_shift),
        dtype=str(layout.dtype).removeprefix("torch."),
        created_with=f"mlcalc {__version__}",
    )
    # Every tensor in memory of its own: rows and halves of the originals must not keep them alive.
    owned = {name: tensor.to(layout.dtype).clone() for name, tensor in tensors.items()}
    network = rebuild_network(info, owned, checkpoint.origin)
    network.info = info
    return network


def _info(network: Network, layout: Layout, request: Request, findings: Findings, checkpoint: Checkpoint) -> ModelInfo:
    """What the file will say of itself."""
    source = checkpoint.path.name.encode(errors="replace").decode()
    given = {name: value for name, value in vars(request).items() if value is not None and value is not False}
    info: ModelInfo = network.info
    return replace(
        info,
        name=re.sub(r"\.(pt|pth|ckpt|bin)$", "", source),
        description=f"{layout.name}, imported from {source}",
        precision=str(layout.dtype).removeprefix("torch."),
        neighbor_convention="; ".join(filter(None, (NEIGHBOR_CONVENTION, network.neighbor_rule()))),
        provenance={
            "source_file": source,
            "source_sha256": checkpoint.sha256,
            "layout": layout.name,
            "licence": "unknown",
            "given_at_import": _json_values(given),
            "trained_settings": _json_values(layout.facts),
            "conventions": list(network.conventions()),
            "caveats": list(network.caveats()),
            "notes": list(findings.notes),
        },
    )


def _json_values(value: Any) -> Any:
    """The value in JSON's terms; what has none there as text."""
    if isinstance(value, Mapping):
        return {str(key): _json_values(item) for key, item in value.items()}
    if isinstance(value, Tensor):
        return _json_values(value.tolist()) if value.numel() <= _LONGEST else f"tensor of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple | set):
        return [_json_values(item) for item in value] if len(value) <= _LONGEST else f"{len(value)} values"
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    return str(value)[:_LONGEST_TEXT]
