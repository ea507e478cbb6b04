"""AIMNet2 (wB97M-D3), evaluated in batches: the labels of this tool.

D. M. Anstine, R. Zubatyuk and O. Isayev, Chem. Sci. 16, 10228 (2025).  The TorchScript files are those of the wheel
Auto3D 2.3.1 (MIT).  TorchScript is executed when it is loaded, so that only files of known content are opened.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.organic.errors import OrganicError
from training.organic.frames import Frames, sum_by_frame

SINGLE = "aimnet2_wb97m-d3_0.jpt"
ENSEMBLE = "aimnet2_wb97m_ens_f.jpt"
SHA256 = {
    SINGLE: "a6d366b05c5997668f24a834584b4033d0cab67d13d2f8caf143b965018d3735",
    ENSEMBLE: "e34e147e3dd67bfe3e5ae8c2a2a097d59ff3a8260d98e42552004f710bb3a68b",
}
MEMBERS = 4
_PAIRS = 24_000  # atoms squared of one batch: larger ones leave the cache and gain nothing
_WHEEL = "Auto3D-2.3.1-py3-none-any.whl"


def unpack_wheel(folder: Path) -> None:
    """Copy both files of the teacher and their licence out of the wheel in the folder, once."""
    wheel = folder / _WHEEL
    if not wheel.is_file():
        raise OrganicError(
            f"{wheel}: there is no such file: pip download --no-deps --dest {folder} Auto3D==2.3.1 (README.md)"
        )
    with zipfile.ZipFile(wheel) as archive:
        for name in SHA256:
            (folder / name).write_bytes(archive.read(f"Auto3D/models/{name}"))
        (folder / "LICENSE.AIMNet2").write_bytes(archive.read("Auto3D-2.3.1.dist-info/LICENSE"))


def load(path: Path) -> torch.jit.ScriptModule:
    """The TorchScript module of a file whose name and content are known; OrganicError for any other."""
    expected = SHA256.get(path.name)
    if expected is None:
        raise OrganicError(f"{path}: not a file of the teacher: one of {', '.join(SHA256)} is")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise OrganicError(f"{path}: its sha256 is {found}, that of Auto3D 2.3.1 is {expected}: not loaded")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, the format that these weights come in
        # The bytes that were checked, not the file once more.
        module: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(content), map_location="cpu")
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


class Teacher:
    """Energies and forces of one member of AIMNet2, and the spread of all four."""

    def __init__(self, folder: Path) -> None:
        self._single = load(folder / SINGLE)
        members = load(folder / ENSEMBLE).models
        self._others = [getattr(members, str(k)).module for k in range(1, MEMBERS)]  # member 0 is SINGLE
        # The network adds energies of free atoms in float32: rounded to 1 meV for chlorine.  They are added here.
        self.shifts = _take_shifts(self._single)  # (64,) eV, by atomic number
        for member in self._others:
            _take_shifts(member)
        self.structures = 0  # evaluated so far, by one member each

    def __call__(self, frames: Frames) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Total energies (F,) eV and forces (A, 3) eV/Å of member 0."""
        energies, forces = self._evaluate(self._single, frames)
        return energies + sum_by_frame(frames, self.shifts[frames.numbers]), forces

    def spread(self, frames: Frames, forces: NDArray[np.float64]) -> NDArray[np.float64]:
        """(A,) eV/Å: root mean square, over components, of the standard deviation of the four members' forces."""
        members = np.stack([forces, *(self._evaluate(member, frames)[1] for member in self._others)])
        return np.asarray(np.sqrt(np.mean(members.var(0, ddof=1), axis=-1)))

    def _evaluate(
        self, member: torch.jit.ScriptModule, frames: Frames
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        self.structures += len(frames)
        energies, forces = np.empty(len(frames)), np.empty((len(frames.numbers), 3))
        padded_positions = np.vstack([frames.positions, np.zeros((1, 3))]).astype(np.float32)
        padded_numbers = np.append(frames.numbers, 0)
        for batch in _batches(frames):
            found, gradient = _run(member, padded_numbers[batch.atoms], padded_positions[batch.atoms])
            energies[batch.frames] = found
            real = batch.atoms < len(frames.numbers)
            forces[batch.atoms[real]] = -gradient[real]
        return energies, forces


@dataclass(frozen=True, eq=False)
class _Batch:
    frames: NDArray[np.int64]  # (B,)
    atoms: NDArray[np.int64]  # (B, N); one past the last atom where a structure is smaller than the largest


def _batches(frames: Frames) -> list[_Batch]:
    """Structures of about equal size together: all pairs of a padded batch are computed."""
    order, sizes = np.argsort(-frames.sizes, kind="stable"), frames.sizes
    batches, begin = [], 0
    while begin < len(order):
        largest = int(sizes[order[begin]])
        end = min(len(order), begin + max(1, _PAIRS // largest**2))
        while sizes[order[end - 1]] < 0.8 * largest:
            end -= 1
        chosen = order[begin:end]
        place = np.arange(largest)[None, :]
        atoms = np.where(place < sizes[chosen, None], frames.first_atom[chosen, None] + place, len(frames.numbers))
        batches.append(_Batch(chosen, atoms))
        begin = end
    return batches


def _run(
    member: torch.jit.ScriptModule, numbers: NDArray[np.int64], positions: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    coordinates = torch.from_numpy(positions).requires_grad_(True)
    # Specialisation for shapes that change with each batch costs more than it gains.
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        out = member({"coord": coordinates, "numbers": torch.from_numpy(numbers), "charge": torch.zeros(len(numbers))})
        (gradient,) = torch.autograd.grad(out["energy"].sum(), coordinates)
    return out["energy"].detach().numpy(), gradient.numpy().astype(np.float64)


def _take_shifts(member: torch.jit.ScriptModule) -> NDArray[np.float64]:
    weight = member.outputs.atomic_shift.shifts.weight
    shifts: NDArray[np.float64] = weight.numpy()[:, 0].astype(np.float64)
    weight.zero_()
    return shifts
