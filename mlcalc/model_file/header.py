"""What a model file says of itself, with its hash checked; no tensor is made, so it needs no torch."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mlcalc.bundled import bundled_models, bundled_sha256
from mlcalc.errors import ModelFileError, UnknownModelError
from mlcalc.model_file.container import Container, read_container
from mlcalc.model_file.info import (
    FORMAT,
    FORMAT_VERSION,
    NEIGHBOR_CONVENTION,
    UNITS,
    ModelInfo,
    canonical_json,
    info_from_json,
    strict_json,
)
from mlcalc.version import __version__

_DAMAGED = "The file is damaged or was edited: copy or download it again"


def read_model_info(name_or_path: str | os.PathLike[str]) -> ModelInfo:
    """What a bundled model or a model file says of itself, with the hash checked but no network built."""
    return open_model(name_or_path)[1]


def open_model(name_or_path: str | os.PathLike[str]) -> tuple[Container, ModelInfo, str]:
    """The file of a bundled model or of a path, its header once the hash is right, and its name in error texts."""
    container, origin = _open(name_or_path)
    return container, _checked_info(container, origin), origin


def _open(name_or_path: str | os.PathLike[str]) -> tuple[Container, str]:
    path, sha256 = _locate(name_or_path)
    container = read_container(path)
    if sha256 is not None and container.file_sha256() != sha256:
        raise ModelFileError(
            f"bundled model file {path} has sha256 {container.file_sha256()}, this package was released with {sha256}. "
            "The file was damaged or exchanged: install mlcalc again"
        )
    return container, f"model file {path}"


def _locate(name_or_path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    bundled = bundled_models()
    if isinstance(name_or_path, str) and name_or_path in bundled:
        return bundled[name_or_path], bundled_sha256(name_or_path)
    path = Path(name_or_path).expanduser()
    is_name = isinstance(name_or_path, str) and not path.suffix and path.name == name_or_path and not path.exists()
    if is_name:
        close = get_close_matches(str(name_or_path), bundled, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UnknownModelError(
            f"there is no model {str(name_or_path)!r}.{hint} Bundled models: {', '.join(sorted(bundled)) or 'none'}; "
            "or give the path of a .safetensors model file"
        )
    return path, None


def _checked_info(container: Container, origin: str) -> ModelInfo:
    """The header of the container, once its hash is right."""
    texts = dict(container.metadata)
    text = texts.pop("mlcalc")
    header = _parse_header(text, origin)
    stated = header.pop("sha256", None)
    try:
        actual = container.content_sha256([texts, header])
        canonical = canonical_json({**header, "sha256": stated}) == text
    except ValueError as error:  # a text that is not Unicode
        raise ModelFileError(f"{origin} has a header that cannot be read ({error}). {_DAMAGED}") from error
    if stated != actual or not canonical:
        raise ModelFileError(f"{origin} has contents of sha256 {actual}, its header says {stated}. {_DAMAGED}")
    try:
        info = info_from_json({**header, "sha256": actual})
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"the header of {origin} is not that of a model ({error}). {_DAMAGED}") from error
    check_conventions(info, origin)
    if len(info.energy_shift) != len(info.elements):
        raise ModelFileError(
            f"{origin} has {len(info.energy_shift)} values in energy_shift for {len(info.elements)} elements "
            f"({', '.join(map(str, info.elements))}), one each is needed. {_DAMAGED}"
        )
    return info


def _parse_header(text: str, origin: str) -> dict[str, Any]:
    try:
        header = strict_json(text)
    except ValueError as error:
        raise ModelFileError(f"the mlcalc header of {origin} is not JSON ({error}). {_DAMAGED}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFileError(f"the mlcalc header of {origin} does not say format {FORMAT!r}. {_DAMAGED}")
    written = header.get("format_version")
    if type(written) is not int or written < 1:
        raise ModelFileError(f"{origin} has format version {written!r}, which is no version. {_DAMAGED}")
    if written > FORMAT_VERSION:
        raise ModelFileError(
            f"{origin} has format version {written} (written by {header.get('created_with')!r}); mlcalc {__version__} "
            f"reads up to version {FORMAT_VERSION}. Upgrade mlcalc to read it"
        )
    return header


def check_conventions(info: ModelInfo, origin: str) -> None:
    """ModelFileError for units or neighbors of another convention than the one of this program."""
    neighbors, _, _ = info.neighbor_convention.partition("; ")  # what follows is which of these a network uses
    for name, value, only in (
        ("units", info.units, UNITS),
        ("neighbor_convention", neighbors, NEIGHBOR_CONVENTION),
    ):
        if value != only:
            raise ModelFileError(f"{origin} says {name} {value!r}; this program works with {only!r} only: convert it")
