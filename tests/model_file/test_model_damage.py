"""Model files that are damaged, forged, foreign or hostile: one clear refusal each, and nothing is executed."""

from __future__ import annotations

import io
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hostile_files import hostile
from model_bytes import edited, everywhere, good_file, refused, split, unreadable
from safetensors import SafetensorError

from mlcalc.errors import ModelFileError
from mlcalc.model_file.model_file import load_model


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    for path, text in (
        (tmp_path / "absent.safetensors", "absent.safetensors does not exist: check the path"),
        (tmp_path, "is a folder: name the .safetensors"),
        (tmp_path / "pipe", "not a regular file .*: name a .safetensors"),
    ):
        if path.name == "pipe":
            os.mkfifo(path)  # opening it would wait for ever
        with pytest.raises(ModelFileError, match=text):
            load_model(path)
    refused(tmp_path / "empty.safetensors", b"", r"is empty \(0 bytes\): copy or download it again")


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(good_file("hvnet"))
    with (
        unreadable(path),
        pytest.raises(ModelFileError, match=r"may not be read \(permission denied\): ask for read access"),
    ):
        load_model(path)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    good = good_file("hvnet")
    header = 8 + int.from_bytes(good[:8], "little")
    bits = np.concatenate([random.integers(8 * header, size=150), random.integers(8 * header, 8 * len(good), size=150)])
    accepted_by_library = 0
    for bit in bits:
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << (bit % 8)
        refused(tmp_path / "a.safetensors", bytes(damaged), "damaged|again|Upgrade|mlcalc import", verify=False)
        try:  # the broken twin: a loader without the hash
            safetensors.torch.load(bytes(damaged))
            accepted_by_library += 1
        except (SafetensorError, KeyError):
            pass
    assert accepted_by_library > 200


def test_every_truncation_and_any_addition_is_found(tmp_path: Path) -> None:
    good = good_file("hvnet")
    for length in np.random.default_rng(2).integers(1, len(good), size=100):
        refused(tmp_path / "a.safetensors", good[:length], "truncated.* again", verify=False)
    refused(tmp_path / "a.safetensors", good + b"\0", r"1 bytes too many at its end.*again")


def test_damage_names_the_hashes(tmp_path: Path) -> None:
    stated = split(good_file("hvnet"))[1]["sha256"]
    damaged = good_file("hvnet")[:-1] + bytes([good_file("hvnet")[-1] ^ 1])
    refused(tmp_path / "a.safetensors", damaged, f"contents of sha256 [0-9a-f]{{64}}, its header says {stated}.*again")


def test_a_flip_that_changes_no_value_is_found(tmp_path: Path) -> None:
    good = edited(good_file("hvnet"), lambda header: header["errors"].update(tiny=1e-7))
    (tmp_path / "a.safetensors").write_bytes(good)
    assert load_model(tmp_path / "a.safetensors").info.errors == {"tiny": 1e-7}
    assert good.count(b"1e-07") == 1
    refused(tmp_path / "a.safetensors", good.replace(b"1e-07", b"1E-07"), "sha256.*again")


FOREIGN = {
    "page.safetensors": (
        b"<!DOCTYPE html>\n<html><body>404</body></html>",
        r"a web page \(HTML\).*[Dd]ownload the file",
    ),
    "pointer.safetensors": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
        "git-lfs pointer.*git lfs pull",
    ),
    "archive.safetensors": (b"PK\x03\x04" + b"\0" * 60, "zip archive.*unpack"),
    "short.safetensors": (b"abc", "truncated: it holds only 3 bytes.*again"),
    "text.pt": (b"c__builtin__\nlist\n.", "named like a PyTorch checkpoint.*mlcalc import SRC"),
    "noise.safetensors": (bytes(range(200, 256)) * 9, "not a model file, .*header of [0-9]+ bytes.*limit [0-9]+"),
    "huge.safetensors": ((2**62).to_bytes(8, "little") + b"{" * 99, "header of 4611686018427387904 bytes.*limit"),
    "long.safetensors": (
        (2**21).to_bytes(8, "little") + b"{" * 99,
        "truncated, or lies about its header: .* 107 bytes",
    ),
    "deep.safetensors": ((2**20).to_bytes(8, "little") + b'{"a":' + b"[" * 2**20, "cannot be read .*nested too deeply"),
    "binary.safetensors": ((64).to_bytes(8, "little") + b"{" + b"\xff" * 63, "cannot be read .*utf-8.*again"),
    "twice.safetensors": ((13).to_bytes(8, "little") + b'{"a":1,"a":2}', "cannot be read .*repeated name 'a'.*again"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_named(tmp_path: Path, name: str) -> None:
    content, text = FOREIGN[name]
    refused(tmp_path / name, content, text)


def test_safetensors_of_other_programs_are_to_be_imported(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.ones(3)}, tmp_path / "a.safetensors", {"format": "pt"})
    with pytest.raises(ModelFileError, match=r"another program.*metadata: \['format'\].*mlcalc import SRC"):
        load_model(tmp_path / "a.safetensors")


def test_nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "executed"
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    for content, text in hostile(marker).values():
        for name in ("model.pt", "model.safetensors"):
            refused(tmp_path / name, content, text)
    assert not marker.exists()
    with pytest.warns(UserWarning, match="forcing weights_only=False"):  # the broken twin: here the payload runs
        torch.load(io.BytesIO(hostile(marker)["zip"][0]))
    assert marker.exists()


def _wide(header: dict[str, Any]) -> None:
    everywhere(header, cutoff=3000.0)
    header["golden"].reverse()  # the crystal first: 1e10 pairs


def test_a_hostile_header_takes_no_memory(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = "(takes more than [0-9]+ (bytes|steps)|allocate memory|overflow).*again from its source"
    for kind, name in (("hvnet", "hidden_channels"), ("hvnet", "num_layers"), ("visnet", "num_rbf")):
        for size in (10**6, 10**15):
            forged = edited(
                good_file(kind), lambda header, name=name, size=size: header["settings"].update({name: size})
            )
            refused(tmp_path / "a.safetensors", forged, text)
    forged = edited(good_file("hvnet"), _wide)
    refused(tmp_path / "a.safetensors", forged, "golden structure.*cannot be evaluated.*again from its source")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB
