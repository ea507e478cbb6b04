"""Files that are damaged, hostile or of another kind: each refused with its reason, and nothing in them is executed.

Every group has a broken twin: a loader without the check, which executes or accepts what is refused here.
"""

from __future__ import annotations

import collections
import io
import os
import pickle
import resource
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from checkpoint_files import CUTOFF, dgl_hermnet, lightning, rezipped, saved, visnet, written
from hostile_files import Payload, hostile
from import_cases import refused
from model_bytes import unreadable

from mlcalc import import_checkpoint
from mlcalc.errors import ModelFileError

STATE = dgl_hermnet(("Cu",), dtype=torch.float32)
NAME = "fc.0.weight"


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    for path, text in (
        (tmp_path / "absent.pt", "absent.pt does not exist: check the path"),
        (tmp_path, "is a folder: name the checkpoint file"),
        (tmp_path / "pipe", r"not a regular file .*: name a checkpoint"),
        ("a\0b", "cannot be read .*: check the path"),
    ):
        with pytest.raises(ModelFileError, match=text) as caught:
            import_checkpoint(path)
        assert str(caught.value).count(": check the path") == ("check the path" in text)  # one text, not one in another


def test_pickle_protocols(tmp_path: Path) -> None:
    """Those that torch reads as data are read; for the others the text names the protocol, and not a damage."""
    for protocol in range(6):
        for zipped in (True, False):
            path = tmp_path / "a.pt"
            written(path, STATE, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
            if protocol in (2, 3):
                import_checkpoint(path, cutoff=CUTOFF, energy_shift=0.0)
            elif zipped or protocol > 1:  # a text file without a zip archive around it is no checkpoint
                shown = protocol if protocol > 1 else "0 or 1"
                refused(path, path.read_bytes(), f"with pickle protocol {shown}, .*default protocol")


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pt", STATE)
    with (
        unreadable(path),
        pytest.raises(ModelFileError, match=r"may not be read \(permission denied\): ask for read access"),
    ):
        import_checkpoint(path)


FOREIGN = {
    "empty": (b"", r"is empty \(0 bytes\): copy or download it again"),
    "page": (b"<!DOCTYPE html>\n<html><body>404</body></html>", r"a web page \(HTML\).*[Dd]ownload the file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer.*git lfs pull"),
    "text": (b"once upon a time", "not a PyTorch checkpoint: it begins with b'once upo'.*torch.save"),
    "model": (safetensors.torch.save({"a": torch.ones(2)}), "safetensors file.*use it as it is.*load_model"),
    "archive": (b"PK\x05\x06" + b"\0" * 18, "zip archive, but not one written by torch.save"),
    "bare pickle": (pickle.dumps({"a": 1}), "a pickle, but not one written by torch.save"),
    "cut pickle": (saved(STATE, _use_new_zipfile_serialization=False)[:90], "damaged: pickle . .*download it again"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_named(tmp_path: Path, name: str) -> None:
    content, text = FOREIGN[name]
    refused(tmp_path / "a.pt", content, text)


def executing(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Files that run code when they are loaded the usual way."""
    files = hostile(marker)
    state: dict[str, Any] = dict(STATE)
    return {
        "alone": (files["zip"][0], "Python objects whose loading would run code: .*nothing is executed"),
        "legacy": (files["pickle"][0], "Python objects whose loading would run code"),
        "among weights": (saved(state | {"x": Payload(marker)}), "whose loading would run code"),
        "script": (files["script"][0], "TorchScript.*executes code.*never does: load it where"),
        "exported": (files["exported"][0], r"exported program \(.pt2\).*executes code.*never does"),
        "protocol 4": (
            saved(state | {"x": Payload(marker)}, pickle_protocol=4),
            "whose loading would run code: pathlib",
        ),
        "bare": (pickle.dumps(Payload(marker)), "whose loading would run code"),
    }


def test_nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "executed"
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.serialization.add_safe_globals([Path.touch])  # a user's own list is not ours
    try:
        for content, text in executing(marker).values():
            for name in ("model.pt", "model.safetensors"):
                refused(tmp_path / name, content, text)
    finally:
        torch.serialization.clear_safe_globals()
    assert not marker.exists()
    with pytest.warns(UserWarning, match="forcing weights_only=False"):  # the broken twin: here the payload runs
        torch.load(io.BytesIO(executing(marker)["among weights"][0]))
    assert marker.exists()


class Foreign:
    """Stands for a class of another package."""


def foreign(module: str, name: str) -> bytes:
    """A checkpoint that holds an object of another package, which need not be installed."""
    content = saved({"model": STATE, "elems": Foreign()})
    before = b"c" + f"{__name__}\nForeign\n".encode()
    return rezipped(content, lambda entry, data: data.replace(before, f"c{module}\n{name}\n".encode()))


def test_objects_of_other_packages_are_named(tmp_path: Path) -> None:
    for module, name, text in (
        ("omegaconf.listconfig", "ListConfig", "objects of omegaconf .*plain lists.*: omegaconf.listconfig.ListConfig"),
        ("somewhere", "Thing", "Python objects whose loading would run code: somewhere.Thing"),
    ):
        refused(tmp_path / "a.pt", foreign(module, name), f"{text}.*In the environment where it was made.*torch.save")
    for content in ({"trn_mean": np.float64(-3.0)}, {"trn_mean": np.zeros(2)}):
        refused(tmp_path / "a.pt", saved({"model": STATE} | content), r"holds NumPy objects: numpy.*In the environment")


def test_pickles_that_exhaust_the_machine(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    nested = rezipped(
        saved({"model": STATE}), lambda entry, data: _with_depth(data) if entry.endswith(".pkl") else data
    )
    refused(tmp_path / "a.pt", nested, "nested more than 40 deep")
    bomb = pickle.dumps(10**11)[2:-1]
    many = rezipped(
        saved({"model": STATE}),
        lambda entry, data: b"\x80\x02c__builtin__\nbytearray\n" + bomb + b"\x85R." if entry.endswith(".pkl") else data,
    )
    refused(tmp_path / "a.pt", many, "would run code: __builtin__.bytearray")
    long = rezipped(
        saved({"model": STATE}),
        lambda entry, data: b"\x80\x02" + b"N0" * 2_000_000 + b"}." if entry.endswith(".pkl") else data,
    )
    refused(tmp_path / "a.pt", long, "more than 2000000 instructions")
    laughs: Any = ["ha"] * 10
    for _ in range(20):
        laughs = [laughs] * 10
    refused(tmp_path / "a.pt", saved({"model": STATE, "loss": laughs}), "more than 1000000 values")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def _with_depth(data: bytes) -> bytes:
    """The pickle of a dict with one more entry, a list in a list in a list ..."""
    depth = 100_000
    return data[:-1] + b"X\4\0\0\0deep" + b"]" * depth + b"a" * (depth - 1) + b"s."


def test_attributes_smuggled_into_a_dict(tmp_path: Path) -> None:
    state = collections.OrderedDict(STATE)
    vars(state).update(jtems="not callable", jeys="nor this")
    content = rezipped(saved(state), lambda _, data: data.replace(b"jtems", b"items").replace(b"jeys", b"keys"))
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(TypeError, match="not callable"):  # the broken twin: what reads it as it is
        dict(torch.load(path, weights_only=True).items())
    import_checkpoint(path, cutoff=CUTOFF, energy_shift=0.0)


def test_torch_is_left_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pt", STATE, _use_new_zipfile_serialization=False)
    filters = list(warnings.filters)
    torch.set_default_dtype(torch.float64)
    try:
        network = import_checkpoint(path, cutoff=CUTOFF, energy_shift=0.0)
        assert torch.get_default_dtype() == torch.float64
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)
    assert warnings.filters == filters
    assert torch.is_grad_enabled()


def test_optimizer_states_of_any_shape_are_harmless(tmp_path: Path) -> None:
    checkpoint = lightning(visnet(), trained=(1, 8))
    for odd in (3, [], [{}], [{"state": {}}], [{"state": {0: {"exp_avg_sq": torch.zeros(1).expand(20, 8)}}}], {"a": 1}):
        path = written(tmp_path / "a.ckpt", checkpoint | {"optimizer_states": odd})
        with pytest.warns(UserWarning, match="elements was not given"):
            import_checkpoint(path)
