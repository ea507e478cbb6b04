"""The trained models that come with the package, and the sha256 of each file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mlcalc.errors import ModelFileError

FOLDER = Path(__file__).parent
INDEX = FOLDER / "index.json"  # file name -> sha256


def bundled_models() -> dict[str, Path]:
    """The bundled models: names and where their files are."""
    return {Path(file).stem: FOLDER / file for file in sorted(_index())}


def bundled_sha256(name: str) -> str:
    """The sha256 that the file of a bundled model must have."""
    return _index()[f"{name}.safetensors"]


def write_index(folder: Path) -> dict[str, str]:
    """The sha256 of every model file in the folder, also written to its index.json; for releases of new weights."""
    index = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.safetensors"))}
    (folder / INDEX.name).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return index


def _index() -> dict[str, str]:
    try:
        index: dict[str, str] = json.loads(INDEX.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"the list of bundled models, {INDEX}, cannot be read ({error}): install mlcalc again"
        ) from error
    return index
