"""Whether a text speaks to users of Python."""

from __future__ import annotations

import re

_PYTHON = (r"\b[a-z]+(_[a-z0-9]+)+\b", r"\b\w+=[\w'\"(\[.]", r"\bTrue\b", r"\bFalse\b", r"\w\(\.*\)", r"\batoms\.")
_TYPED = r"\S*/\S*|\S+\.(xyz|extxyz|safetensors|toml|npz|json|cif)\b|'[^']*'|\bpbc=(\"[TF ]+\"|\[.*?\])"


def names_a_keyword(text: str) -> bool:
    """Whether it names a setting of Python, `name=`, `True`, a call or `atoms.`; files and what was typed apart."""
    text = re.sub(_TYPED, "", text)
    return any(re.search(word, text) for word in _PYTHON)
