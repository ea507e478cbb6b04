"""Model files: tensors and a header in one .safetensors file, checked when read."""

from __future__ import annotations

from mlcalc.model_file.info import ModelInfo
from mlcalc.model_file.model_file import load_model, read_model_info, save_model

__all__ = ["ModelInfo", "load_model", "read_model_info", "save_model"]
