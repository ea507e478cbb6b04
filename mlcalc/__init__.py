"""Trained HVNet and ViSNet potentials for production molecular dynamics."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcalc.version import __version__

# A wheel holds models/ and md_protocols/ inside this package; a checkout keeps them beside it.
if not Path(__file__).with_name("models").is_dir():
    __path__.append(str(Path(__file__).parents[1]))

if TYPE_CHECKING:
    from mlcalc.assessment import Assessment, assess
    from mlcalc.bundled.structures import sample
    from mlcalc.calculator import MLCalculator
    from mlcalc.cluster.evaluate import evaluate_on_cluster, local_cluster
    from mlcalc.doctor import Examination, examine
    from mlcalc.evaluation import evaluate
    from mlcalc.factory import CalculatorFactory
    from mlcalc.hessians import hessian
    from mlcalc.importing import import_checkpoint
    from mlcalc.model_file.model_file import load_model, save_model
    from mlcalc.representations import atom_representations
    from mlcalc.training import load_training_config, train

# Loaded on first use: importing torch takes two seconds that `mlcalc --help` need not pay.
_LAZY = {
    "Assessment": "mlcalc.assessment",
    "CalculatorFactory": "mlcalc.factory",
    "Examination": "mlcalc.doctor",
    "MLCalculator": "mlcalc.calculator",
    "assess": "mlcalc.assessment",
    "atom_representations": "mlcalc.representations",
    "evaluate": "mlcalc.evaluation",
    "evaluate_on_cluster": "mlcalc.cluster.evaluate",
    "examine": "mlcalc.doctor",
    "hessian": "mlcalc.hessians",
    "import_checkpoint": "mlcalc.importing",
    "load_model": "mlcalc.model_file.model_file",
    "load_training_config": "mlcalc.training",
    "local_cluster": "mlcalc.cluster.evaluate",
    "sample": "mlcalc.bundled.structures",
    "save_model": "mlcalc.model_file.model_file",
    "train": "mlcalc.training",
}
__all__ = [
    "Assessment",
    "CalculatorFactory",
    "Examination",
    "MLCalculator",
    "__version__",
    "assess",
    "atom_representations",
    "evaluate",
    "evaluate_on_cluster",
    "examine",
    "hessian",
    "import_checkpoint",
    "load_model",
    "load_training_config",
    "local_cluster",
    "sample",
    "save_model",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mlcalc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
