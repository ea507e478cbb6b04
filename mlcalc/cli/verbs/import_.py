"""`mlcalc import`: a model file from a checkpoint of the original codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import mlcalc
from mlcalc.cli.commands import Verb
from mlcalc.cli.options import existing_file, json_option, overwrite_option
from mlcalc.cli.outputs import check_output
from mlcalc.model_file.header import read_model_info
from mlcalc.model_file.info import ModelInfo, strict_json


@click.command("import", cls=Verb)
@click.argument("source", metavar="SRC", type=click.Path())
@click.argument("target", metavar="DST.safetensors", type=click.Path())
@click.option("--cutoff", type=float, metavar="Å", help="Cutoff radius of its training.")
@click.option("--elements", metavar="C,H,O", help="Elements it was trained on, symbols or numbers.")
@click.option("--energy-shift", metavar="E|C=E,H=E", help="Added to its energies: per structure, or per atom.")
@click.option("--units", metavar="UNIT", help="Unit of its numbers: eV, meV, kcal/mol, kJ/mol, Hartree; Debye; bohr^2.")
@click.option("--settings", metavar="FILE.json|{...}", help="Arguments its network was constructed with.")
@click.option("--legacy-mic", is_flag=True, help="HermNet (DGL): only the nearest image of each neighbor counts.")
@click.option("--n-ref", type=int, metavar="N", help="HermNet (DGL): atoms of the training structures.")
@click.option("--max-num-neighbors", type=int, metavar="K", help="ViSNet: apply the limit it was trained with.")
@click.option("--quantity", metavar="NAME", help="What a scalar ViSNet head predicts, if not the energy.")
@overwrite_option
@json_option
def import_command(
    *,
    source: str,
    target: str,
    elements: str | None,
    energy_shift: str | None,
    settings: str | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Convert a checkpoint of the original HermNet or ViSNet codes into a model file.

    Its layout is recognized; what the file does not hold is asked for by name.  Nothing in it is executed.

    \b
    Examples:
      mlcalc import Cu.pt cu.safetensors --cutoff 5.0 --energy-shift Cu=-3.7
      mlcalc import aspirin.ckpt aspirin.safetensors --elements C,H,O --units kcal/mol
      mlcalc import pyg.pt pyg.safetensors --elements C,H,O --settings '{"lmax": 2, "cutoff": 5.0}'
    """
    check_output(target, "DST", [".safetensors"], [source], overwrite=overwrite)
    words: dict[str, Any] = {
        "elements": None if elements is None else [_element(word) for word in elements.split(",") if word.strip()],
        "energy_shift": _energy_shift(energy_shift),
        "settings": _settings(settings),
    }
    network = mlcalc.import_checkpoint(source, **options, **words)
    mlcalc.save_model(network, target, info=network.info)
    summary = _summary(read_model_info(target), target)
    if as_json:
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(_described(summary)))
        click.echo(f"wrote {target}\nIts header: mlcalc models {target}")


def _energy_shift(words: str | None) -> float | dict[str | int, float] | None:
    """A number, or numbers by element."""
    if words is None:
        return None
    try:
        if "=" not in words:
            return float(words)
        pairs = [word.partition("=") for word in words.split(",")]
        shifts = [(_element(word), float(value)) for word, _, value in pairs]
    except ValueError:
        raise click.BadParameter(
            f"{words!r} is neither a number nor of the form C=-1.0,H=-0.5", param_hint="--energy-shift"
        ) from None
    named = [element for element, _ in shifts]
    repeated = next((element for element in named if named.count(element) > 1), None)
    if repeated is not None:
        raise click.BadParameter(f"{words!r} names {repeated} twice: give one value", param_hint="--energy-shift")
    return dict(shifts)


def _element(word: str) -> str | int:
    """A symbol, or an atomic number."""
    word = word.strip()
    return int(word) if word.isascii() and word.isdigit() else word


def _settings(words: str | None) -> dict[str, Any] | None:
    """A JSON object, written out or in a file."""
    if words is None:
        return None
    if not words.lstrip().startswith("{"):
        try:
            path = existing_file.convert(words, None, None)
        except click.BadParameter as error:
            raise click.BadParameter(error.message, param_hint="--settings") from None
        words = Path(str(path)).read_text(encoding="utf-8", errors="replace")
    try:
        value = strict_json(words)
    except ValueError as error:
        problem = f'not JSON with one value for each name ({error}): give {{"lmax": 2, ...}} or a file with it'
        raise click.BadParameter(problem, param_hint="--settings") from None
    if not isinstance(value, dict):
        raise click.BadParameter('not a JSON object such as {"lmax": 2}', param_hint="--settings")
    return value


def _summary(info: ModelInfo, target: str) -> dict[str, Any]:
    provenance = info.provenance
    return {
        "recognized": provenance["layout"],
        "source": provenance["source_file"],
        "source_sha256": provenance["source_sha256"],
        "written": target,
        "kind": info.kind,
        "elements": list(info.elements),
        "cutoff_A": info.cutoff,
        "dtype": info.dtype,
        "energy_shift_eV": dict(zip(info.elements, info.energy_shift, strict=True)),
        "settings": {name: value for name, value in info.settings.items() if name not in _SHOWN_BEFORE},
        "notes": provenance["notes"],
        "conventions": provenance["conventions"],
        "caveats": provenance["caveats"],
        "licence": provenance["licence"],
        "contents_sha256": info.sha256,
    }


def _described(summary: dict[str, Any]) -> Iterator[str]:
    """Lines for people: sentences one each, everything else by name, without zeros and what was left out."""
    for key, value in summary.items():
        if key in ("notes", "conventions", "caveats"):
            if value:
                yield f"{key}:"
                yield from (f"  - {text}" for text in value)
        elif isinstance(value, dict):
            hidden = _MEANINGLESS.get(value.get("variant", ""), ())
            shown = {k: entry for k, entry in value.items() if k not in hidden and entry not in (None, 0.0, [])}
            yield f"{key}:{'' if shown else ' 0 for all'}"
            yield from (f"  {name}: {_word(entry)}" for name, entry in shown.items())
        elif key != "written":
            yield f"{key}: {_word(value)}"


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_word, value)) or "-"
    return "-" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


# Settings of the smooth networks, and of the other version, that the published ones do not read.
_SMOOTH = ("neighbor_norm", "sub_network", "envelope_exponent")
_MEANINGLESS = {
    "dgl": (*_SMOOTH, "envelope", "radial_basis"),
    "pyg": (*_SMOOTH[:2], "aggregation"),
    "original": _SMOOTH,
}
_SHOWN_BEFORE = ("elements", "cutoff", "energy_shift")
