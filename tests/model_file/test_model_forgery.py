"""Forged model files, whose hash is right: settings and tensors that do not belong together are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_bytes import edited, everywhere, good_file, join, refused, signed, split

from mlcalc.model_file.model_file import load_model


def _drop(*names: str) -> Callable[[dict[str, Any]], Any]:
    def change(header: dict[str, Any]) -> None:
        for name in names[:-1]:
            header = header[name]
        del header[names[-1]]

    return change


FORGED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda h: h.update(format_version=2), "format version 2 .*mlcalc 0.*reads up to version 1. Upgrade mlcalc"),
    (lambda h: h.update(format_version="1"), "format version '1', which is no version.*again"),
    (lambda h: h.update(format="other"), "does not say format 'mlcalc-model'.*again"),
    (
        lambda h: h.update(kind="schnet"),
        "kind 'schnet'; this version knows hpnet, htnet, hvnet, visnet. Upgrade",
    ),
    (lambda h: h.update(kind="visnet"), "settings that give no visnet network.*source"),
    (lambda h: h.update(surprise=1), "not that of a model .*unknown entry 'surprise'.*again"),
    (lambda h: h.update(cutoff="4"), "'cutoff' of the header is a str, not float.*again"),
    (lambda h: h.update(units="kcal/mol, Å"), "units 'kcal/mol, Å'.*'eV, Å' only: convert"),
    (lambda h: h.update(neighbor_convention="half"), "neighbor_convention 'half'.*convert"),
    (lambda h: h.update(energy_shift=[1.0, 2.0]), r"2 values in energy_shift for 1 elements \(Cu\), one each.*again"),
    (lambda h: everywhere(h, energy_shift=[1.0, 2.0]), r"2 values in energy_shift for 1 elements \(Cu\)"),
    (lambda h: h["settings"].update(energy_shift=[1.0, 2.0]), "energy_shift has 2 values for 1 elements.*source"),
    (lambda h: h["settings"].update(cutoff=3.0), "says cutoff 4.0, but its settings say 3.0.*source"),
    (lambda h: h["settings"].update(typo=3), "unknown setting typo for a hvnet model: allowed are.*source"),
    (lambda h: h["settings"].update(num_layers="2"), "num_layers is '2': it must be a whole number.*source"),
    (lambda h: h["settings"].update(hidden_channels=16), r"'embed.weight' is .*\(1, 8\).*ask for .*\(1, 16\).*source"),
    (lambda h: h["settings"].update(num_layers=3), "lacks 9 tensors which the network needs: hermconv.2.*source"),
    (lambda h: h["settings"].update(num_layers=1), "has 9 tensors which the network does not have: hermconv.1.*source"),
    (lambda h: h.update(dtype="float64"), "claims weights of dtype 'float64' and holds torch.float32.*source"),
    (_drop("settings"), "not that of a model .*lacks 'settings'.*again"),
    (_drop("settings", "elements"), "settings that give no hvnet network: .*elements.*source"),
    (_drop("settings", "hidden_channels"), "Settings missing in the file, .*: hidden_channels. .*source"),
    (lambda h: h.update(golden=[]), "holds no golden structures.*save the model again"),
    (
        lambda h: h["golden"][1].update(energy=h["golden"][1]["energy"] + 1e-4),
        "golden structure 1 .'cluster'.*expected",
    ),
    (
        lambda h: h["golden"][1]["forces"][3].__setitem__(1, 0.5),
        "force of .* on atom 3 along y, expected 0.5 eV/Å.*source",
    ),
    (lambda h: h["golden"][1].update(numbers=[29]), "golden structure 1 does not hold N atomic numbers.*again"),
    (lambda h: h["golden"][2].update(cell=[[0, 0, 0]] * 3), "golden structure 2.*cannot be evaluated .*axis 0.*source"),
]


@pytest.mark.parametrize("number", range(len(FORGED)))
def test_a_forged_header_with_the_right_hash_is_refused(tmp_path: Path, number: int) -> None:
    change, text = FORGED[number]
    forged = edited(good_file("hvnet"), change)
    assert forged != edited(good_file("hvnet"), lambda header: None)
    refused(tmp_path / "a.safetensors", forged, text)


WRONG_BUT_FITTING = [
    ("hvnet", {"cutoff": 4.01}),
    ("hvnet", {"energy_shift": [-3.70001]}),
    ("hvnet", {"energy_scale": 1.0}),
    ("hvnet", {"neighbor_norm": 2.0}),
    ("hvnet", {"envelope_exponent": 6}),
    ("visnet", {"cutoff": 3.99}),
    ("visnet", {"num_heads": 4}),
    ("visnet", {"lmax": 1}),
    ("visnet", {"elements": ["H", "S"]}),
    ("visnet", {"energy_shift": [-2041.3, -13.6]}),
    ("visnet", {"variant": "original"}),
    ("visnet", {"activation": "tanh"}),
    ("visnet", {"quantity": "gap"}),
    ("limited", {"max_num_neighbors": None}),
    ("limited", {"max_num_neighbors": 33}),
    ("limited", {"reduce": "mean"}),
    ("limited", {"structure_shift": 0.1}),
    ("limited", {"vecnorm_type": "rms"}),
    ("dgl", {"legacy_mic": True}),
    ("dgl", {"n_ref": 32}),
    ("dgl", {"intensive": True}),
    ("dgl", {"structure_shift": 0.1}),
]


@pytest.mark.parametrize(("kind", "values"), WRONG_BUT_FITTING)
def test_golden_structures_catch_settings_that_fit_every_tensor(
    tmp_path: Path, kind: str, values: dict[str, Any]
) -> None:
    forged = edited(good_file(kind), lambda header: everywhere(header, **values))
    refused(tmp_path / "a.safetensors", forged, "golden structure [0-9]+ .*(expected|evaluated).*source")
    load_model(tmp_path / "a.safetensors", verify=False)  # the broken twin takes it for good


def forged_tensors(content: bytes, change: Callable[[dict[str, Any], bytearray], Any]) -> bytes:
    outer, header, data = split(content)
    raw = bytearray(data)
    change(outer, raw)
    return signed(outer, header, bytes(raw))


def _rename(outer: dict[str, Any], raw: bytearray) -> None:
    outer["embed.stolen"] = outer.pop("embed.weight")


def _nan(outer: dict[str, Any], raw: bytearray) -> None:
    begin = outer["embed.weight"]["data_offsets"][0]
    raw[begin : begin + 4] = np.float32("nan").tobytes()


def _integers(outer: dict[str, Any], raw: bytearray) -> None:
    outer["embed.weight"]["dtype"] = "I32"


def _flat(outer: dict[str, Any], raw: bytearray) -> None:
    outer["embed.weight"]["shape"] = [8]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_rename, "lacks 1 tensors which the network needs: embed.weight"),
        (_nan, "'embed.weight' holds 1 NaN or infinite values of 8.*earlier checkpoint"),
        (_integers, "'embed.weight' is torch.int32 .*ask for torch.float32"),
        (_flat, r"'embed.weight' is .*\(8,\).*ask for .*\(1, 8\)"),
    ],
)
def test_forged_tensors_with_the_right_hash_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any], bytearray], Any], text: str
) -> None:
    refused(tmp_path / "a.safetensors", forged_tensors(good_file("hvnet"), change), text)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"shape": [2**45]}, "contradicts itself: tensor 'embed.weight' of dtype F32 .* takes 140737488355328 bytes"),
        ({"shape": [10**30]}, "'embed.weight' has an impossible shape"),
        ({"shape": [-8]}, "'embed.weight' has an impossible shape"),
        ({"shape": [1] * 10000}, "'embed.weight' has an impossible shape"),
        ({"data_offsets": [0, 2**40]}, "contradicts itself"),
        ({"dtype": "F8_E4M3"}, "dtype 'F8_E4M3', allowed are BOOL"),
        ({"dtype": ["F32"]}, "cannot be read"),
        ({"extra": 1}, "'embed.weight' is described by"),
    ],
)
def test_a_tensor_table_that_lies_is_refused(tmp_path: Path, values: dict[str, Any], text: str) -> None:
    outer, _, data = split(good_file("hvnet"))
    outer["embed.weight"].update(values)
    refused(tmp_path / "a.safetensors", join(outer, data), text)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("not JSON", "not JSON .*again"),
        ('{"a": NaN}', "not JSON .*NaN is not a JSON number"),
        ('{"a": 1e999}', "not JSON .*1e999 is beyond float64"),
        ("[" * 100000, "not JSON .*nested too deeply"),
        ("[]", "does not say format"),
        ('{"format": "mlcalc-model", "format_version": 1, "name": "\\ud800"}', "cannot be read .*again"),
    ],
)
def test_a_header_that_is_no_header_is_refused(tmp_path: Path, text: str, cause: str) -> None:
    outer, _, data = split(good_file("hvnet"))
    outer["__metadata__"]["mlcalc"] = text
    refused(tmp_path / "a.safetensors", join(outer, data), cause)


def test_texts_beside_the_header_are_hashed_too(tmp_path: Path) -> None:
    outer, _, data = split(good_file("hvnet"))
    outer["__metadata__"]["about"] += " and Ag"
    refused(tmp_path / "a.safetensors", join(outer, data), "its header says.*again")
