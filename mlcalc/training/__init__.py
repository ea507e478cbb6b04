"""Training of the registered architectures on energies, forces and stress."""

from __future__ import annotations

from mlcalc.training.config import DataConfig, LossConfig, OptimizerConfig, TrainingConfig, load_training_config
from mlcalc.training.data import Frame, StressSource, read_frames
from mlcalc.training.release import train
from mlcalc.training.trainer import Trainer

__all__ = [
    "DataConfig",
    "Frame",
    "LossConfig",
    "OptimizerConfig",
    "StressSource",
    "Trainer",
    "TrainingConfig",
    "load_training_config",
    "read_frames",
    "train",
]
