"""Settings of HermNet checkpoints: what the names and shapes of the weights say, the file's other entries, the user."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.ground.errors import Use
from mlcalc.importing.layouts import OLD_READOUT, Layout
from mlcalc.importing.request import Findings, Request, number, shifts, switch, symbols, whole
from mlcalc.importing.units import unit_factor
from mlcalc.models import HVNetConfig

_DGL_SETTINGS = "elems rc l in_feats intensive molecule is_molecule md dropout trn_mean aggregation n_relations".split()
_PYG_SETTINGS = "elems rc intensive num_layers hidden_channels num_rbf rbf envelope trn_mean".split()
_BASES = {"offset": "gaussian", "frequencies": "spherical_bessel", "pregamma": "bernstein"}
_RBF = "'gaussian', 'spherical_bessel' or 'bernstein'"
_CUTOFF = "Å, the radius rc of its training, for example 5.0"


def hermnet_config(layout: Layout, request: Request, findings: Findings) -> HVNetConfig:
    """Settings of the HVNet that gives this checkpoint's numbers; ModelFileError for contradictions and gaps."""
    dgl = layout.family == "dgl"
    given = dict(request.settings or {})
    findings.refuse_unknown(given, _DGL_SETTINGS if dgl else _PYG_SETTINGS)
    _refuse_foreign_options(request, findings, dgl=dgl)
    facts = {"the file": layout.facts, "settings": given}
    elements = _elements(layout, request, facts, findings)
    cutoff = _cutoff(request, facts, findings)
    common = {
        "elements": elements,
        "cutoff": findings.needed("cutoff", cutoff, _CUTOFF, stand_in=5.0),
        "variant": layout.family,
        "intensive": findings.assumed(
            "intensive", _from(facts, findings, "intensive", switch), False, "the original's default: energies are sums"
        ),
        **_energies(request, facts, elements, findings),
    }
    special = _dgl_settings if dgl else _pyg_settings
    return _checked(common | special(layout, request, facts, findings), findings)


def _checked(settings: Mapping[str, Any], findings: Findings) -> HVNetConfig:
    findings.check_complete()
    try:
        return HVNetConfig(**settings)
    except ValueError as error:
        raise ModelFileError(f"{findings.origin}: {error}") from error


def _refuse_foreign_options(request: Request, findings: Findings, *, dgl: bool) -> None:
    refused = {"max_num_neighbors": request.max_num_neighbors, "quantity": request.quantity}
    if not dgl:
        refused |= {"legacy_mic": request.legacy_mic or None, "n_ref": request.n_ref}
    for name, value in refused.items():
        if value is not None:
            owner = "ViSNet" if name in ("max_num_neighbors", "quantity") else "HermNet of the DGL version"
            raise ModelFileError(f"{findings.origin}: {name} is {value!r}, which only a {owner} has: leave it out")


def _from(
    facts: Mapping[str, Mapping[str, Any]], findings: Findings, name: str, reader: Any, *shown: tuple[str, Any]
) -> Any:
    """The value of this name that file and settings, and what the weights show, agree on."""
    said = [(where, reader(name, values.get(name), findings.origin)) for where, values in facts.items()]
    return findings.agreed(name, [*shown, *said])


def _cutoff(request: Request, facts: Mapping[str, Mapping[str, Any]], findings: Findings) -> Any:
    """The cutoff that all agree on; where the file's two differ, the argument decides which."""
    given = number("cutoff", request.cutoff, findings.origin)
    said = [
        (f"{where} ({name})", number(name, values.get(name), findings.origin))
        for where, values in facts.items()
        for name in ("rc", "model_rc")
    ]
    stored = [value for where, value in said if where.startswith("the file") and value is not None]
    if len(set(stored)) > 1:
        chosen = [value for value in stored if given is not None and math.isclose(value, given, rel_tol=1e-6)]
        if chosen:
            findings.notes.append(f"the file holds rc {stored[0]:g} and model_rc {stored[1]:g} Å; cutoff decided")
            said = [(where, value) for where, value in said if value in chosen or not where.startswith("the file")]
        else:
            remedy = "The file contradicts itself: pass cutoff, the one of these that its network was trained with"
            findings.agreed("the cutoff", said, remedy=remedy)
    return findings.agreed("the cutoff", [*said, ("cutoff", given)])


def _elements(
    layout: Layout, request: Request, facts: Mapping[str, Mapping[str, Any]], findings: Findings
) -> tuple[str, ...]:
    start = "hermconv1.mods." if layout.family == "dgl" else "hermconvs.0.mods."
    keys = sorted({name.removeprefix(start).split(".")[0] for name in layout.tensors if name.startswith(start)})
    own = symbols("the list of its sub-networks", keys, findings.origin)
    sources = [("its sub-networks", own)]
    sources += [(where, symbols("elems", values.get("elems"), findings.origin)) for where, values in facts.items()]
    sources.append(("elements", symbols("elements", request.elements, findings.origin)))
    agreed: tuple[str, ...] = findings.agreed("the list of elements", sources)
    return agreed


def _energies(
    request: Request, facts: Mapping[str, Mapping[str, Any]], elements: tuple[str, ...], findings: Findings
) -> dict[str, Any]:
    """Scale and shifts in eV."""
    factor = unit_factor(request.units, "energy")
    constant, by_element = shifts(request, elements, findings.origin)
    mean = findings.agreed(
        "the energy shift per structure",
        [
            *(
                (f"{where} (trn_mean)", number("trn_mean", values.get("trn_mean"), findings.origin))
                for where, values in facts.items()
            ),
            ("energy_shift", constant),
        ],
    )
    if mean is None and by_element is None:
        findings.warn(
            "energy_shift was not given and the file does not hold that of its training (trn_mean): energies are "
            "relative to an unknown constant, and only differences between structures of the same atoms mean anything",
            Use("energy_shift", why="a number per structure or one by element (0.0 accepts this)"),
            setting="energy_shift",
        )
    return {
        "energy_scale": factor,
        "energy_shift": tuple(factor * (by_element or {}).get(element, 0.0) for element in elements),
        "structure_shift": factor * (mean or 0.0),
    }


def _dgl_settings(
    layout: Layout, request: Request, facts: Mapping[str, Mapping[str, Any]], findings: Findings
) -> dict[str, Any]:
    elements = _count(layout.tensors, r"hermconv1\.mods\.([^.]+)\.")
    channels, num_rbf = _width(layout, findings), _shape(layout, r"hermconv1\.mods\.[^.]+\.mv\.weight", findings)[-1]
    for name, value in (("in_feats", channels), ("l", num_rbf)):
        _from(facts, findings, name, whole, ("the weights", value))
    aggregation = (request.settings or {}).get("aggregation")
    if OLD_READOUT in layout.notes and elements > 1:
        findings.needed(
            "aggregation",
            aggregation,
            "'sum' if it was trained before 2021-09-01, otherwise 'mean': its readout is that of files from before "
            "2021-09-09, which do not show it",
            stand_in="mean",
            setting=True,
        )
    return {
        "hidden_channels": channels,
        "num_rbf": num_rbf,
        "num_layers": _count(layout.tensors, r"hermconv(\d+)\."),
        "legacy_mic": request.legacy_mic,
        "n_ref": request.n_ref,
        "n_relations": whole("n_relations", (request.settings or {}).get("n_relations"), findings.origin),
        "aggregation": aggregation or "mean",
    }


def _pyg_settings(
    layout: Layout, request: Request, facts: Mapping[str, Mapping[str, Any]], findings: Findings
) -> dict[str, Any]:
    given = request.settings or {}
    channels, num_layers = _width(layout, findings), _count(layout.tensors, r"hermconvs\.(\d+)\.")
    num_rbf = _shape(layout, r"hermconvs\.0\.mods\.[^.]+\.message_layer\.rbf_proj\.weight", findings)[-1]
    for name, value in (("hidden_channels", channels), ("num_layers", num_layers), ("num_rbf", num_rbf)):
        findings.agreed(name, [("the weights", value), ("settings", whole(name, given.get(name), findings.origin))])
    basis = next((_BASES[part] for part in _BASES if f"radial_basis.rbf.{part}" in layout.tensors), None)
    named = _named("rbf", given.get("rbf"), findings)
    basis = findings.agreed("rbf", [("the weights", basis), ("settings", named.get("name"))])
    envelope = _named("envelope", given.get("envelope"), findings)
    kind = findings.assumed("envelope", envelope.get("name"), "polynomial", "the original's default")
    settings = {
        "hidden_channels": channels,
        "num_layers": num_layers,
        "num_rbf": num_rbf,
        "radial_basis": findings.needed("rbf", basis, _RBF, stand_in="gaussian", setting=True),
        "envelope": kind,
    }
    if kind == "polynomial":
        exponent = whole("the exponent of envelope", envelope.get("exponent"), findings.origin)
        settings["envelope_exponent"] = findings.assumed("its exponent", exponent, 5, "the original's default")
    return settings


def _named(name: str, value: Any, findings: Findings) -> Mapping[str, Any]:
    """A setting such as {'name': 'gaussian'}, or its name alone."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, Mapping) or set(value) - {"name", "exponent"}:
        raise ModelFileError(f"{findings.origin}: {name} is {value!r}; give a dict such as {{'name': ...}}")
    return value


def _width(layout: Layout, findings: Findings) -> int:
    return _shape(layout, r"embed\.weight", findings)[-1]


def _shape(layout: Layout, pattern: str, findings: Findings) -> tuple[int, ...]:
    """Shape of the first matrix whose name matches."""
    for name, tensor in layout.tensors.items():
        if re.fullmatch(pattern, name) and tensor.ndim == 2:
            return tuple(tensor.shape)
    raise ModelFileError(
        f"{findings.origin} lacks a matrix named like {pattern.replace(chr(92), '')!r}, which an HVNet of this version "
        "has: the file is incomplete. Save the whole state_dict"
    )


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many different groups the names match."""
    return len({found.group(1) for name in tensors if (found := re.match(pattern, name))})
