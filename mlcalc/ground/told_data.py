"""Errors as plain values, on their way to another process that shall tell them: no pickle, nothing that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mlcalc.ground.errors import Remedy, Told, Use


def told_data(error: BaseException) -> dict[str, Any]:
    """Its kind, text, setting, value, limit and remedies as JSON knows them; errors of others have a text alone."""
    data: dict[str, Any] = {"kind": type(error).__name__, "text": str(error)}
    if isinstance(error, Told):
        remedies = [remedy if isinstance(remedy, str) else _known(asdict(remedy)) for remedy in error.remedies]
        about = {"setting": error.setting, "value": error.value, "limit": error.limit, "remedies": remedies}
        data |= {"text": error.text, **_known(about)}
    return data


def told_keywords(data: Mapping[str, Any]) -> dict[str, Any]:
    """What an error of ours is made with, beside its text, to say the same."""
    remedies: list[Remedy] = [given if isinstance(given, str) else Use(**given) for given in data.get("remedies", ())]
    return {name: data.get(name) for name in ("setting", "value", "limit")} | {"remedies": remedies}


def _known(value: Any) -> Any:
    """Numbers, texts, and lists and mappings of them; of anything else what Python prints for it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _known(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_known(item) for item in value]
    return repr(value)
