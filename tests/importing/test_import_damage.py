"""Checkpoints that are damaged, or whose tensors are none that a network could have: each refused with its reason."""

from __future__ import annotations

import io
import resource
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import CUTOFF, dgl_hermnet, rezipped, saved, written
from import_cases import refused

from mlcalc import import_checkpoint
from mlcalc.errors import ModelFileError

STATE = dgl_hermnet(("Cu",), dtype=torch.float32)
NAME = "fc.0.weight"


def special(name: str) -> Any:
    """A weight that is no ordinary tensor."""
    good = STATE[NAME]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: dict[str, Callable[[], Any]] = {
            "sparse": good.to_sparse,
            "compressed": good.to_sparse_csr,
            "meta": lambda: good.to("meta"),
            "quantized": lambda: torch.quantize_per_tensor(good, 0.1, 0, torch.qint8),
            "complex": lambda: good.to(torch.complex64),
            "integer": lambda: good.to(torch.int64),
            "boolean": lambda: good > 0,
            "float8": lambda: good.to(torch.float8_e4m3fn),
            "NaN": lambda: torch.where(good == good[0, 0], torch.nan, good),
            "infinite": lambda: torch.where(good == good[0, 0], torch.inf, good),
            "a number": lambda: 3.5,
            "nothing": lambda: None,
            "a bomb": lambda: torch.zeros(1).expand(8, 10**12),
        }
        return made[name]()


SPECIAL = {
    "sparse": "sparse, quantized, meta or otherwise special",
    "compressed": "sparse, quantized, meta or otherwise special",
    "meta": "sparse, quantized, meta or otherwise special",
    "quantized": "sparse, quantized, meta or otherwise special",
    "complex": f"'{NAME}' in its weights has dtype complex64",
    "integer": f"'{NAME}' in its weights has dtype int64",
    "boolean": f"'{NAME}' in its weights has dtype bool",
    "float8": "sparse, quantized, meta or otherwise special",
    "NaN": f"'{NAME}' in its weights holds 1 NaN or infinite values of 64",
    "infinite": f"'{NAME}' in its weights holds 1 NaN or infinite values of 64",
    "a number": f"'{NAME}' in its weights is a float, not a tensor",
    "nothing": f"'{NAME}' in its weights is a NoneType, not a tensor",
    "a bomb": f"'{NAME}' in its weights claims 8000000000000 numbers .*where the file holds 4 bytes",
}


@pytest.mark.parametrize("name", SPECIAL)
def test_only_ordinary_finite_weights_are_taken(tmp_path: Path, name: str) -> None:
    content = saved(STATE | {NAME: special(name)})
    refused(tmp_path / "a.pt", content, SPECIAL[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert NAME in torch.load(io.BytesIO(content), weights_only=True)  # the broken twin takes all of them


def test_every_flipped_bit_of_the_weights_is_found(tmp_path: Path) -> None:
    good = saved(STATE)
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        entries = [entry for entry in archive.infolist() if "/data/" in entry.filename]
    random = np.random.default_rng(4)
    accepted_by_torch = 0
    for entry in random.choice(entries, size=60):  # type: ignore[arg-type]
        start = entry.header_offset + 30 + int.from_bytes(good[entry.header_offset + 26 :][:2], "little")
        start += int.from_bytes(good[entry.header_offset + 28 :][:2], "little")
        bit = 8 * start + int(random.integers(8 * entry.file_size))
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << (bit % 8)
        refused(tmp_path / "a.pt", bytes(damaged), "damaged: the checksum of .*again")
        torch.load(io.BytesIO(bytes(damaged)), weights_only=True)
        accepted_by_torch += 1
    assert accepted_by_torch == 60


def test_flipped_bits_anywhere_do_no_harm(tmp_path: Path) -> None:
    good = saved(STATE)
    path = tmp_path / "a.pt"
    for bit in np.random.default_rng(5).integers(8 * len(good), size=150):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        try:
            network = import_checkpoint(path, cutoff=CUTOFF, energy_shift=0.0)
        except ModelFileError:
            continue
        state = network.state_dict()  # a bit that nothing depends on, such as a date in the archive
        path.write_bytes(good)
        expected = import_checkpoint(path, cutoff=CUTOFF, energy_shift=0.0).state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_every_truncation_is_found(tmp_path: Path) -> None:
    for content in (saved(STATE), saved(STATE, _use_new_zipfile_serialization=False)):
        for length in np.random.default_rng(6).integers(1, len(content), size=40):
            refused(tmp_path / "a.pt", content[:length], "truncated|damaged|not a PyTorch|cannot be read")


def test_archives_of_other_programs(tmp_path: Path) -> None:
    good = saved(STATE)
    packed = rezipped(good, lambda _, data: data, compression=zipfile.ZIP_DEFLATED)
    refused(tmp_path / "a.pt", packed, "compressed or repeated entries.*Give the original file")
    torch.load(io.BytesIO(packed), weights_only=True)  # the broken twin
    buffer = io.BytesIO(good)
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(archive.namelist()[0], b"another pickle")
    refused(tmp_path / "a.pt", buffer.getvalue(), "compressed or repeated entries")
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("notes.txt", "hello")
    refused(tmp_path / "a.pt", other.getvalue(), "zip archive, but not one written by torch.save")


def test_views_of_one_storage_are_no_bomb(tmp_path: Path) -> None:
    whole = torch.zeros(10**5)
    path = written(tmp_path / "a.pt", {f"hermconv1.mods.Cu.x{k}": whole[:] for k in range(2000)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelFileError, match="together .*bytes"):
        import_checkpoint(path, cutoff=CUTOFF)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB
