"""The version of the package, for what is written into files."""

from __future__ import annotations

__version__ = "0.1.0"
