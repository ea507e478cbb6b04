"""Elements, scale and shifts of ViSNet checkpoints: what multiplies and what is added to the network's numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.ground.errors import Use
from mlcalc.importing.layouts import Layout
from mlcalc.importing.request import Findings, Request, number, shifts, symbols
from mlcalc.importing.units import data_unit, unit_factor
from mlcalc.importing.visnet_settings import Settings
from mlcalc.models.elements import SYMBOLS, atomic_number

_WITH_MASSES = ("dipole", "electronic_spatial_extent")
_TABLE, _INITIAL = "prior_model.atomref.weight", "prior_model.initial_atomref"  # as trained, and before
_UNSCALED = {"mean": 0.0, "std": 1.0}


def elements_of(layout: Layout, request: Request, max_z: int, findings: Findings) -> tuple[str, ...]:
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
        Use("elements", why="of its training, for example C, H, O"),
        setting="elements",
    )
    return whole_table


def _trained_elements(layout: Layout, max_z: int) -> tuple[str, ...]:
    """Elements whose rows of the first parameter, the embedding, have a nonzero second moment in Adam's state."""
    try:
        state = layout.optimizer[0]["state"][layout.optimizer[0]["param_groups"][0]["params"][0]]
        moments = state["exp_avg_sq"]
        if tuple(moments.shape) != tuple(layout.tensors["representation_model.embedding.weight"].shape):
            return ()
        if moments.numel() * moments.element_size() > moments.untyped_storage().nbytes():
            return ()
        rows = torch.nonzero((moments != 0).any(dim=1))[:, 0].tolist()
    except (TypeError, KeyError, IndexError, AttributeError, RuntimeError):  # another optimizer, or none
        return ()
    return tuple(SYMBOLS[row] for row in rows if 1 <= row < min(max_z, len(SYMBOLS)))


def warn_of_units(settings: Settings, request: Request, quantity: str, findings: Findings) -> None:
    """Warn where units were left out although the data set named in the file has others."""
    dataset = settings.get("dataset")
    known = data_unit(dataset, quantity)
    if request.units is None and known is not None:
        findings.warn(
            f"it was trained on {dataset}, whose {quantity.replace('_', ' ')} is in {known}; its numbers are not "
            "converted",
            Use("units", known, "to convert them"),
            Use("units", "eV", "if they are right as they are"),
            setting="units",
        )


def _column(tensors: dict[str, Tensor], name: str, rows: list[int], findings: Findings) -> list[float]:
    """Entries of a table with one number per atomic number."""
    table = tensors.get(name)
    if table is None or not max(rows) < table.numel() == table.shape[0]:
        shape = "missing" if table is None else f"of shape {tuple(table.shape)}"
        raise ModelFileError(
            f"{findings.origin}: the table {name!r} is {shape}; it must have one number for each element up to "
            f"Z = {max(rows)}. Name fewer elements, or save the whole state_dict"
        )
    flat: list[float] = table.reshape(-1)[rows].to(torch.float64).tolist()
    return flat


def references_of(tensors: dict[str, Tensor], settings: Settings, rows: list[int]) -> list[float]:
    """Atomic references of the elements in these rows, 0 without a prior; ModelFileError where settings deny them."""
    findings, prior = settings.findings, settings.get("prior_model")
    given = settings.sources[-1][1].get("atomref")  # of the user; a tensor or a list
    if _TABLE not in tensors:
        if prior is not None or given is not None:
            said = "its settings have prior_model 'Atomref'" if prior is not None else "settings have atomref"
            raise ModelFileError(
                f"{findings.origin}: {said}, but its weights lack the tensor {_TABLE!r} of the atomic references: the "
                "file is incomplete. Save the whole state_dict"
            )
        return [0.0] * len(rows)
    references = _column(tensors, _TABLE, rows, findings)
    if prior is None and settings.denies_prior and any(references):
        raise ModelFileError(
            f"{findings.origin}: by its settings it has no prior_model, but its weights hold {_TABLE!r} with numbers "
            "that are not zero",
            setting="settings",
            remedies=[
                Use("settings", {"prior_model": "Atomref"}, "if they were added in its training"),
                "take the settings that belong to the file",
            ],
        )
    _check_atomref(tensors, given, rows, references, findings)
    return references


def _check_atomref(
    tensors: dict[str, Tensor], given: Any, rows: list[int], references: list[float], findings: Findings
) -> None:
    """ModelFileError where the constructor's argument is neither the file's table nor what that was trained from."""
    if given is None:
        return
    try:
        table = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelFileError(
            f"{findings.origin}: atomref in settings is no table of numbers ({error}): leave it out, the file holds it"
        ) from error
    said = _column({"atomref": table}, "atomref", rows, findings)
    first = _column(tensors, _INITIAL, rows, findings) if _INITIAL in tensors else references
    for row, value, stored, start in zip(rows, said, references, first, strict=True):
        if not any(math.isclose(value, own, rel_tol=1e-6, abs_tol=1e-9) for own in (stored, start)):
            findings.agreed(
                f"the atomic reference of {SYMBOLS[row]}", [("the file", stored), ("settings (atomref)", value)]
            )


def constants_of(
    tensors: dict[str, Tensor],
    settings: Settings,
    request: Request,
    elements: Sequence[str],
    *,
    head: str,
    quantity: str,
) -> dict[str, Any]:
    """Scale and shifts (per atom std times the network plus atomref, per structure mean), and the masses."""
    findings, factor = settings.findings, unit_factor(request.units, quantity)
    rows = [atomic_number(element) for element in elements]
    mean, std = (_constant(tensors, settings, name) for name in ("mean", "std"))
    constant, by_element = shifts(request, elements, findings.origin)
    if mean:
        findings.agreed("the energy shift per structure", [("the file (mean)", mean), ("energy_shift", constant)])
    references = references_of(tensors, settings, rows) if head == "scalar" else [0.0] * len(rows)
    if by_element is not None:
        stored = references if any(references) else [None] * len(elements)
        references = [
            findings.agreed(f"the energy shift of {element}", [("the file (atomref)", own), ("energy_shift", value)])
            for (element, value), own in zip(by_element.items(), stored, strict=True)
        ]
    masses = _column(tensors, "output_model.atomic_mass", rows, findings) if head in _WITH_MASSES else []
    return {
        "energy_scale": std * factor,
        "energy_shift": tuple(factor * value for value in references),
        "structure_shift": factor * (mean or constant or 0.0),
        "masses": tuple(masses),
    }


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
