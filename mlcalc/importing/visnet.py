"""Settings of ViSNet checkpoints: from the shapes of the weights, the hyper-parameters and the user."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.importing.layouts import HALF, Layout
from mlcalc.importing.request import Findings, Request, number, shifts, symbols, whole
from mlcalc.importing.units import data_unit, unit_factor
from mlcalc.importing.visnet_settings import NEEDED, Settings
from mlcalc.models import ViSNetConfig
from mlcalc.models.elements import SYMBOLS, atomic_number

_ROOT = "representation_model"
_LAYER = f"{_ROOT}.vis_mp_layers"
_HEAD = "output_model.output_network"
_QM9_ENERGIES = ("energy_U0", "energy_U")
_CUTOFF_TOLERANCE = 1e-3  # Å; the first center is stored to 7 digits


def visnet_config(layout: Layout, request: Request, findings: Findings) -> ViSNetConfig:
    """Settings of the ViSNet that gives this checkpoint's numbers; ModelFileError for contradictions and gaps."""
    tensors = layout.tensors
    _refuse_foreign_options(request, findings)
    settings = Settings(layout.facts, request.settings, findings)
    if not layout.facts and request.settings is None:
        _ask_for_settings(tensors, request, findings)
    sizes = _sizes(tensors, settings, findings)
    limit = settings.get("max_num_neighbors")
    head = _head(tensors, settings, findings)
    quantity = _quantity(settings, request, head)
    network = {
        **{name: value for name, value in sizes.items() if name != "max_z"},
        **_basis(tensors, settings, request, findings),
        "lmax": settings.needed("lmax", stand_in=1),
        "num_heads": settings.needed("num_heads", stand_in=1),
        "vecnorm_type": settings.needed("vecnorm_type", stand_in="none"),
        "trainable_vecnorm": bool(settings.get("trainable_vecnorm")),
        "vertex_type": _vertex_type(tensors, settings, sizes["num_layers"], findings),
        "activation": settings.needed("activation", stand_in="silu"),
        "attn_activation": settings.needed("attn_activation", stand_in="silu"),
        "reduce": settings.needed("reduce_op", stand_in="add"),
        "head": head,
        "quantity": quantity,
        "max_num_neighbors": whole("max_num_neighbors", request.max_num_neighbors, findings.origin),
        "trained_max_num_neighbors": limit,
    }
    findings.check_complete()
    elements = _elements(layout, request, sizes["max_z"], findings)
    _warn_of_units(settings, request, quantity, findings)
    numbers = [atomic_number(element) for element in elements]
    if head in ("dipole", "electronic_spatial_extent"):
        network["masses"] = tuple(_column(tensors, "output_model.atomic_mass", numbers, findings))
    network |= _energies(tensors, settings, request, elements, quantity)
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
    unseen = [name for name in NEEDED if name != "cutoff" or request.cutoff is None]
    listed = "; ".join(f"{name} ({NEEDED[name]})" for name in unseen)
    raise ModelFileError(
        f"{findings.origin} holds weights only, and these do not show: {listed}{seen}. Pass settings, a dict of the "
        "arguments its ViSNet was constructed with; what you leave out takes the defaults of PyTorch Geometric "
        "(settings={} if all were left at them). At the command line: --settings FILE.json"
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
        findings.needed("output_model", None, "'Scalar' or 'VectorOutput', in settings", stand_in="scalar")
    return said or "scalar"


def _quantity(settings: Settings, request: Request, head: str) -> str:
    if head != "scalar":
        return request.quantity or head
    target = settings.get("dataset_arg") if settings.get("dataset") == "QM9" else None
    if isinstance(target, list | tuple) and len(target) == 1:
        target = target[0]
    named = target if isinstance(target, str) and target not in _QM9_ENERGIES else None
    return request.quantity or named or "energy"


def _warn_of_units(settings: Settings, request: Request, quantity: str, findings: Findings) -> None:
    dataset = settings.get("dataset")
    known = data_unit(dataset, quantity)
    if request.units is None and known is not None:
        findings.warn(
            f"it was trained on {dataset}, whose {quantity.replace('_', ' ')} is in {known}; its numbers are not "
            "converted",
            f"Pass units={known!r} to convert them, or units='eV' if they are right as they are",
        )


def _elements(layout: Layout, request: Request, max_z: int, findings: Findings) -> tuple[str, ...]:
    """The user's, else those that the optimizer saw, else all of the table, with a warning."""
    trained = _trained_elements(layout, max_z)
    given = symbols("elements", request.elements, findings.origin)
    if given is not None:
        beyond = [element for element in given if atomic_number(element) >= max_z]
        if beyond:
            raise ModelFileError(
                f"{findings.origin}: elements names {', '.join(beyond)}, but its table of elements ends at "
                f"Z = {max_z - 1}: give those that it was trained on"
            )
        strangers = [element for element in given if trained and element not in trained]
        if strangers:
            findings.warn(
                f"elements names {', '.join(strangers)}, which its optimizer never saw (only {', '.join(trained)}): "
                "results for them are arbitrary"
            )
        return given
    if trained:
        findings.notes.append("elements are those that the state of the optimizer shows as trained")
        return trained
    whole_table = SYMBOLS[1 : min(max_z, len(SYMBOLS))]
    if not whole_table:
        raise ModelFileError(f"{findings.origin} has a table of elements of {max_z} rows, which is none")
    findings.warn(
        "elements was not given and the file does not show which it was trained on: all "
        f"{len(whole_table)} of its table are accepted, and those it never saw give plausible, wrong numbers",
        "Pass elements, for example C, H, O",
    )
    return whole_table


def _trained_elements(layout: Layout, max_z: int) -> tuple[str, ...]:
    """Elements whose rows of the first parameter, the embedding, have a nonzero second moment in Adam's state."""
    try:
        state = layout.optimizer[0]["state"][layout.optimizer[0]["param_groups"][0]["params"][0]]
        moments = state["exp_avg_sq"]
        if tuple(moments.shape) != tuple(layout.tensors[f"{_ROOT}.embedding.weight"].shape):
            return ()
        if moments.numel() * moments.element_size() > moments.untyped_storage().nbytes():
            return ()
        rows = torch.nonzero((moments != 0).any(dim=1))[:, 0].tolist()
    except (TypeError, KeyError, IndexError, AttributeError, RuntimeError):  # another optimizer, or none
        return ()
    return tuple(SYMBOLS[row] for row in rows if 1 <= row < min(max_z, len(SYMBOLS)))


def _column(tensors: dict[str, Tensor], name: str, rows: list[int], findings: Findings) -> list[float]:
    """Entries of a table with one number per atomic number."""
    table = tensors.get(name)
    if table is None or table.numel() != len(table) or len(table) <= max(rows):
        shape = "missing" if table is None else tuple(table.shape)
        raise ModelFileError(
            f"{findings.origin}: the table {name!r} is {shape}; it must have one number for each element up to "
            f"Z = {max(rows)}. Name fewer elements, or save the whole state_dict"
        )
    flat: list[float] = table.reshape(-1)[rows].to(torch.float64).tolist()
    return flat


def _energies(
    tensors: dict[str, Tensor],
    settings: Settings,
    request: Request,
    elements: tuple[str, ...],
    quantity: str,
) -> dict[str, Any]:
    """Scale and shifts: per atom std times the network plus atomref, per structure mean."""
    findings, factor = settings.findings, unit_factor(request.units, quantity)
    mean, std = (_constant(tensors, settings, name) for name in ("mean", "std"))
    constant, by_element = shifts(request, elements, findings.origin)
    if mean:
        findings.agreed("the energy shift per structure", [("the file (mean)", mean), ("energy_shift", constant)])
    references = [0.0] * len(elements)
    if "prior_model.atomref.weight" in tensors and quantity not in _WITHOUT_PRIOR:
        rows = [atomic_number(element) for element in elements]
        references = _column(tensors, "prior_model.atomref.weight", rows, findings)
    if by_element is not None and any(references):
        stored = dict(zip(elements, references, strict=True))
        for element, value in by_element.items():
            findings.agreed(
                f"the energy shift of {element}", [("the file (atomref)", stored[element]), ("energy_shift", value)]
            )
    elif by_element is not None:
        references = [by_element[element] for element in elements]
    return {
        "energy_scale": std * factor,
        "energy_shift": tuple(factor * value for value in references),
        "structure_shift": factor * (mean or constant or 0.0),
    }


_WITHOUT_PRIOR = ("dipole", "electronic_spatial_extent", "vector")
_UNSCALED = {"mean": 0.0, "std": 1.0}


def _constant(tensors: dict[str, Tensor], settings: Settings, name: str) -> float:
    findings = settings.findings
    stored = number(name, tensors.get(name), findings.origin)
    if stored is None:
        raise ModelFileError(f"{findings.origin} lacks the tensor {name!r}, which every ViSNet has: save all of it")
    said = settings.get(name)
    # The constructor's neutral value says nothing: loading the weights replaced it.
    if said is not None and said != _UNSCALED[name]:
        findings.agreed(name, [("the file", stored), ("settings", said)])
    return stored
