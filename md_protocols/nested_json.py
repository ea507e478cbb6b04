"""JSON of files from elsewhere, of which no depth of brackets can end the interpreter."""

from __future__ import annotations

import json
import re
from typing import Any

_DEEPEST = 100  # our files have less than ten levels
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def bounded_json(text: str, **hooks: Any) -> Any:
    """The value of a JSON text, read with json.loads and its hooks; ValueError for more than 100 levels too.

    Not left to RecursionError: symfc raises the limit of recursion for the whole process, and the stack overflows.
    """
    if _depth(text) > _DEEPEST:
        raise ValueError("nested too deeply")
    return json.loads(text, **hooks)


def _depth(text: str) -> int:
    """How deeply brackets outside of strings are nested."""
    deepest = depth = 0
    for match in _BRACKETS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        deepest = max(deepest, depth)
    return deepest
