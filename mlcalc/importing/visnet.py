"""Settings of ViSNet checkpoints: from the shapes of the weights, the hyper-parameters and the user."""

from __future__ import annotations

import math
import re
from typing import Any

from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.ground.errors import Use
from mlcalc.importing.layouts import HALF, Layout
from mlcalc.importing.request import Findings, Request, described, number, ways_to_set
from mlcalc.importing.units import QM9_SCALARS
from mlcalc.importing.visnet_energies import constants_of, elements_of, warn_of_units
from mlcalc.importing.visnet_settings import NEEDED, Settings
from mlcalc.models import ViSNetConfig

_ROOT = "representation_model"
_LAYER = f"{_ROOT}.vis_mp_layers"
_HEAD = "output_model.output_network"
_HEADS_OF_THEIR_OWN = ("dipole", "electronic_spatial_extent", "vector")
_QM9_ENERGIES = ("energy_U0", "energy_U")
# What the weights do not show, with values that stand in until all that is missing was found.
_UNSEEN = {"lmax": 1, "num_heads": 1, "vecnorm_type": "none", "activation": "silu", "attn_activation": "silu"}
_CUTOFF_TOLERANCE = 1e-3  # Å; the first center is stored to 7 digits


def visnet_config(layout: Layout, request: Request, findings: Findings) -> ViSNetConfig:
    """Settings of the ViSNet that gives this checkpoint's numbers; ModelFileError for contradictions and gaps."""
    tensors = layout.tensors
    _refuse_foreign_options(request, findings)
    settings = Settings(layout.facts, request.settings, findings)
    if not layout.facts and request.settings is None:
        _ask_for_settings(tensors, request, findings)
    sizes = _sizes(tensors, settings, findings)
    head = _head(tensors, settings, findings)
    quantity = _quantity(settings, request, head)
    _warn_of_limit(settings, request, findings)
    network = {
        **{name: value for name, value in sizes.items() if name != "max_z"},
        **_basis(tensors, settings, request, findings),
        **{name: settings.needed(name, stand_in=value) for name, value in _UNSEEN.items()},
        "trainable_vecnorm": bool(settings.get("trainable_vecnorm")),
        "vertex_type": _vertex_type(tensors, settings, sizes["num_layers"], findings),
        "reduce": settings.needed("reduce_op", stand_in="add"),
        "head": head,
        "quantity": quantity,
        "unit": _unit(settings, request, head, quantity),
        "max_num_neighbors": request.max_num_neighbors,
        "trained_max_num_neighbors": settings.get("max_num_neighbors"),
    }
    findings.check_complete()
    elements = elements_of(layout, request, sizes["max_z"], findings)
    warn_of_units(settings, request, quantity, findings)
    network |= constants_of(tensors, settings, request, elements, head=head, quantity=quantity)
    try:
        return ViSNetConfig(elements=elements, variant="original", **network)
    except ValueError as error:
        raise ModelFileError(f"{findings.origin}: {error}") from error


def _refuse_foreign_options(request: Request, findings: Findings) -> None:
    for name, value in (("legacy_mic", request.legacy_mic or None), ("n_ref", request.n_ref)):
        if value is not None:
            raise ModelFileError(
                f"{findings.origin}: {name} is {value!r}, which only a HermNet of the DGL version has: leave it out"
            )


def _ask_for_settings(tensors: dict[str, Tensor], request: Request, findings: Findings) -> None:
    """One error for a state_dict without any settings."""
    shown = _shown_cutoff(tensors.get(f"{_ROOT}.distance_expansion.means"))
    seen = f"; its radial basis suggests a cutoff of {shown:.4g} Å" if shown else ""
    unseen = {name: text for name, text in NEEDED.items() if name != "cutoff" or request.cutoff is None}
    python, shell = ways_to_set(list(unseen)[:2])
    raise ModelFileError(
        f"{findings.origin} holds weights only, and these do not show: {described(unseen)}{seen}. Pass "
        f"settings, a dict of the arguments its ViSNet was constructed with, as in {python}; what you leave out takes "
        "the defaults of PyTorch Geometric (settings={} if all were left at them). At the command line: --settings "
        f"FILE.json, or {shell}"
    )


def _shown_cutoff(centers: Tensor | None) -> float | None:
    """The cutoff (Å) that the first center of an untrained expnorm basis, exp(-cutoff), shows."""
    if centers is None or centers.ndim != 1 or not len(centers) or not 0 < float(centers[0]) < 1:
        return None
    return -math.log(float(centers[0]))


def _sizes(tensors: dict[str, Tensor], settings: Settings, findings: Findings) -> dict[str, int]:
    """Sizes that the weights show, checked against what was said."""
    table = _tensor(tensors, f"{_ROOT}.embedding.weight", 2, findings)
    radial = _tensor(tensors, f"{_ROOT}.edge_embedding.edge_proj.weight", 2, findings)
    layers = {found.group(1) for name in tensors if (found := re.match(re.escape(_LAYER) + r"\.(\d+)\.", name))}
    shown = {
        "hidden_channels": table.shape[1],
        "num_layers": len(layers),
        "num_rbf": radial.shape[1],
        "max_z": table.shape[0],
    }
    return {name: settings.get(name, ("the shapes of the weights", size)) for name, size in shown.items()}


def _tensor(tensors: dict[str, Tensor], name: str, dimensions: int, findings: Findings) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != dimensions:
        problem = "lacks the tensor" if tensor is None else f"has {tensor.ndim} dimensions in the tensor"
        raise ModelFileError(
            f"{findings.origin} {problem} {name!r}, which a ViSNet has with {dimensions}: the file is incomplete. "
            "Save the whole state_dict"
        )
    return tensor


def _basis(tensors: dict[str, Tensor], settings: Settings, request: Request, findings: Findings) -> dict[str, Any]:
    """Radial basis and cutoff; the centers of a basis that was not trained show the cutoff."""
    basis = f"{_ROOT}.distance_expansion"
    gauss = f"{basis}.offset" in tensors
    kind = settings.get("rbf_type", ("the weights", "gauss" if gauss else "expnorm"))
    cutoff = settings.needed("cutoff", ("cutoff", number("cutoff", request.cutoff, findings.origin)), stand_in=5.0)
    trainable = bool(settings.get("trainable_rbf"))
    centers = _tensor(tensors, f"{basis}.offset" if gauss else f"{basis}.means", 1, findings)
    shown = float(centers[-1]) if gauss and len(centers) else _shown_cutoff(centers)
    tolerance = _CUTOFF_TOLERANCE if not any(HALF in note for note in findings.notes) else 0.02
    if not trainable and "cutoff" not in findings.missing and not (shown and abs(shown - cutoff) <= tolerance):
        found = f"that of a cutoff of {shown:.4f} Å" if shown else "that of no cutoff"
        raise ModelFileError(
            f"{findings.origin}: the cutoff is {cutoff:g} Å by its settings, but its radial basis is {found}. Correct "
            "the cutoff, or set trainable_rbf to true if the basis was trained"
        )
    return {"rbf_type": kind, "trainable_rbf": trainable, "cutoff": cutoff}


def _vertex_type(tensors: dict[str, Tensor], settings: Settings, layers: int, findings: Findings) -> str:
    """Node: angles in every block, also the last; Edge: in all but the last."""
    with_angles = {int(name.split(".")[2]) for name in tensors if re.search(r"\.t_(src|trg)_proj\.", name)}
    shown = "none" if not with_angles else "node" if layers - 1 in with_angles else "edge"
    said = settings.get("vertex_type")
    ignored = shown == "none" and not settings.pyg and bool(settings.sources[0][1])
    if said in (None, shown) or (layers == 1 and said == "edge" and shown == "none"):
        return shown
    if ignored:  # AI2BMD's main branch has no vertex types and does not read this setting
        findings.notes.append(f"vertex_type is {said!r} in its settings, but its weights have no vertex angles")
        return shown
    raise ModelFileError(
        f"{findings.origin}: its weights are those of vertex_type {shown!r}, its settings say {said!r}. Leave "
        "vertex_type (vertex) out, or take the settings that belong to the file"
    )


def _head(tensors: dict[str, Tensor], settings: Settings, findings: Findings) -> str:
    with_masses = "output_model.atomic_mass" in tensors
    if f"{_HEAD}.0.weight" in tensors:
        shown: str | None = "electronic_spatial_extent"
    else:
        shown = "dipole" if with_masses else None
    said = settings.get("output_model", ("the weights", shown))
    if said in ("dipole", "electronic_spatial_extent") and shown != said:
        raise ModelFileError(
            f"{findings.origin}: its settings say that it predicts {said}, its weights have no such head "
            f"(output_model.atomic_mass {'present' if with_masses else 'missing'})"
        )
    if said is None and not settings.pyg:
        findings.needed("output_model", None, "'Scalar' or 'VectorOutput'", stand_in="scalar", setting=True)
    return said or "scalar"


def _quantity(settings: Settings, request: Request, head: str) -> str:
    findings = settings.findings
    if head != "scalar":
        if request.quantity not in (None, head):
            raise ModelFileError(
                f"{findings.origin}: a {head} head predicts {head}, not {request.quantity!r}: leave quantity out"
            )
        return head
    target = _qm9_target(settings)
    named = target if target not in _QM9_ENERGIES else None
    quantity = request.quantity or named or "energy"
    if quantity not in _HEADS_OF_THEIR_OWN:
        return quantity
    findings.notes.append(
        f"a scalar head was trained on {quantity}: it is called scalar_{quantity}, because it adds up numbers of the "
        "atoms as for an energy, and it stays in the unit of its training"
    )
    return f"scalar_{quantity}"


def _qm9_target(settings: Settings) -> str | None:
    target = settings.get("dataset_arg") if settings.get("dataset") == "QM9" else None
    if isinstance(target, list | tuple) and len(target) == 1:
        target = target[0]
    return target if isinstance(target, str) else None


def _unit(settings: Settings, request: Request, head: str, quantity: str) -> str:
    """The unit of a scalar other than the energy: that of QM9, or the user's word for it."""
    if head != "scalar" or quantity == "energy":
        return ""
    target = _qm9_target(settings)
    known = QM9_SCALARS.get(target) if target and quantity in (target, f"scalar_{target}") else None
    given = None if request.units == "eV" and known is None else request.units
    unit: str | None = settings.findings.agreed("the unit", [("the file (QM9)", known), ("units", given)])
    return unit or ""


def _warn_of_limit(settings: Settings, request: Request, findings: Findings) -> None:
    applied, trained = request.max_num_neighbors, settings.get("max_num_neighbors")
    if None not in (applied, trained) and applied != trained:
        findings.warn(
            f"max_num_neighbors is {trained} in its training, and {applied} are applied: with more neighbors than "
            "either its numbers are not those of the trained network",
            Use("max_num_neighbors", trained, "for those"),
            setting="max_num_neighbors",
        )
