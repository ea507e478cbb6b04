"""A training that takes seconds: EMT copper and a small HVNet."""

from __future__ import annotations

from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

SETTINGS = """
name = "small"
[model]
kind = "hvnet"
cutoff = 4.0
hidden_channels = 8
num_layers = 1
num_rbf = 6
neighbor_norm = 4.0
[data]
train = "frames.xyz"
test = "frames.xyz"
validation = 4
[loss]
energy = 10.0
forces = 1.0
stress = 10.0
[optimizer]
epochs = 3
batch_size = 4
learning_rate = 0.01
warmup_steps = 5
ema_decay = 0.9
"""


def emt_frames(count: int) -> list[Atoms]:
    frames = []
    for seed in range(count):
        atoms = bulk("Cu", cubic=True, a=3.6 + 0.02 * (seed % 5))
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames
