"""`mlcalc models`: what is bundled, and what a model file says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from mlcalc.bundled import bundled_models
from mlcalc.cli.commands import Verb
from mlcalc.cli.options import json_option
from mlcalc.cli.tables import table
from mlcalc.model_file.header import read_model_info
from mlcalc.model_file.info import ModelInfo, info_to_json
from mlcalc.scope import Scope

_DIGITS = {"errors": 4}  # of numbers under these names
_MOST_DIGITS = 8


@click.command("models", cls=Verb)
@click.argument("name", metavar="[NAME_OR_FILE]", required=False)
@json_option
def models_command(name: str | None, as_json: bool) -> None:
    """List the bundled models, or describe one of them or a model file.

    Errors are those on the test frames that the model card names: energies in meV per atom, forces in meV/Å per
    component.

    \b
    Examples:
      mlcalc models
      mlcalc models cu-hvnet
      mlcalc models my_model.safetensors --json
    """
    infos = {key: read_model_info(key) for key in ([name] if name is not None else bundled_models())}
    if as_json:
        described = {key: _summary(info) | {"info": _plain(info)} for key, info in infos.items()}
        click.echo(json.dumps(described[name] if name is not None else described, indent=2, ensure_ascii=False))
    elif name is not None:
        click.echo("\n".join(_described(_summary(infos[name]) | _details(infos[name]))))
    else:
        click.echo(_listed(infos))


def _summary(info: ModelInfo) -> dict[str, Any]:
    quantity, unit = (str(info.settings.get(name, only)) for name, only in (("quantity", "energy"), ("unit", "")))
    return {
        "name": info.name,
        "description": info.description,
        "predicts": Scope(cutoff=info.cutoff, quantity=quantity, unit=unit).describe(),
        "kind": info.kind,
        "elements": list(info.elements),
        "cutoff_A": info.cutoff,
        "licence": info.provenance.get("licence", info.provenance.get("license")),
        "errors": info.errors,
        "contents_sha256": info.sha256,
    }


def _details(info: ModelInfo) -> dict[str, Any]:
    return {
        "settings": info.settings,
        "energy_shift_eV": dict(zip(info.elements, info.energy_shift, strict=False)),
        "trained_in": info.precision,
        "stored_in": info.dtype,
        "units": info.units,
        "neighbors": info.neighbor_convention,
        "envelope": info.envelope,
        "provenance": info.provenance,
        "golden_structures": [golden.name for golden in info.golden],
        "created_with": info.created_with,
    }


def _plain(info: ModelInfo) -> dict[str, Any]:
    return {key: value for key, value in info_to_json(info).items() if key != "golden"}


def _listed(infos: Mapping[str, ModelInfo]) -> str:
    def error(info: ModelInfo, key: str) -> str:
        value = info.errors.get(key)
        return f"{value:.3g}" if isinstance(value, int | float) else "-"

    header = ["name", "kind", "elements", "cutoff (Å)", "E MAE (meV/atom)", "F MAE (meV/Å)", "licence"]
    rows = [
        [
            name,
            info.kind,
            " ".join(info.elements),
            f"{info.cutoff:g}",
            error(info, "energy_mae_meV_per_atom"),
            error(info, "forces_mae_meV_per_A"),
            str(_summary(info)["licence"] or "-"),
        ]
        for name, info in infos.items()
    ]
    if not rows:
        return "No models are bundled with this version: give the path of a model file to the other commands."
    return table(header, rows) + "\n\nDetails of one: mlcalc models NAME"


def _described(values: Mapping[str, Any], indent: str = "", digits: int = _MOST_DIGITS) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            yield from _described(value, indent + "  ", _DIGITS.get(key, digits))
        elif isinstance(value, list | tuple) and any(" " in str(entry) for entry in value):  # sentences
            yield f"{indent}{key}:"
            yield from (f"{indent}  - {_word(entry, digits)}" for entry in value)
        elif isinstance(value, list | tuple):
            yield f"{indent}{key}: {', '.join(_word(entry, digits) for entry in value) or '-'}"
        else:
            yield f"{indent}{key}: {_word(value, digits)}"


def _word(value: Any, digits: int) -> str:
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_word(entry, digits) for entry in value)}]"
    return "-" if value in (None, "", {}) else str(value)
