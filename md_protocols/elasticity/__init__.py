"""Elastic constants and equations of state."""

from __future__ import annotations

from .constants import elastic_constants
from .equation_of_state import EquationOfState, equation_of_state
from .result import ElasticConstants

__all__ = ["ElasticConstants", "EquationOfState", "elastic_constants", "equation_of_state"]
