"""Checkpoints that lack something, contradict what was given, or are of no known kind: one text that names it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import CUTOFF, PYG_SETTINGS, dgl_hermnet, lightning, old_readout, visnet, written
from import_cases import DGL, GIVEN, HO, PYG, SAVED, SETTINGS, VISNET

from mlcalc import import_checkpoint
from mlcalc.errors import ModelFileError


def without(content: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in names}


def changed(state: dict[str, torch.Tensor], name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    return state | {name: tensor}


def triplets() -> dict[str, torch.Tensor]:
    return {name.replace(".mods.H.", ".mods.H-O-H."): tensor for name, tensor in DGL.items()}


MEANS = "representation_model.distance_expansion.means"
Q = "representation_model.vis_mp_layers.0.q_proj.weight"
MS1 = "hermconv2.mods.H.ms1.weight"
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    # what is missing
    "no cutoff": (DGL, {}, r"does not hold everything.*Give also: cutoff \(Å.*for example 5.0\)"),
    "no cutoff, later version": (PYG, {}, r"Give also: cutoff \(Å"),
    "no cutoff and no aggregation": (
        old_readout(DGL),
        {},
        r"Give also: cutoff \(.*; settings=\{'aggregation': \.\.\.\}, with aggregation \('sum' .*2021-09-01.*'mean'"
        r".*\. At the command line: --cutoff \.\.\. --settings '\{\"aggregation\": \.\.\.\}'$",
    ),
    "weights of ViSNet only": (
        VISNET,
        {},
        r"lmax \(1 or 2\); num_heads .*; cutoff \(Å.*; vecnorm_type .*suggests a cutoff of 4 Å. Pass settings"
        r".*settings=\{'lmax': \.\.\., .*--settings '\{\"lmax\": \.\.\., ",
    ),
    "hyper-parameters that lack some": (
        lightning(VISNET, num_heads=None, lmax=None, reduce_op=None),
        HO,
        r"Give also: settings=\{'lmax': \.\.\., 'num_heads': \.\.\., 'reduce_op': \.\.\.\}, with lmax \(1 or 2\); "
        r"num_heads \(for example 8\); reduce_op \('add' or 'mean'\)\. At the command "
        r"line: --settings '\{\"lmax\": \.\.\., \"num_he",
    ),
    "no name of the head": (
        VISNET,
        {"settings": PYG_SETTINGS | {"activation": "silu"}},
        "vecnorm_type .*attn_activation.*output_model|output_model.*vecnorm_type",
    ),
    "energy shift of one of two elements": (
        DGL,
        GIVEN | {"energy_shift": {"H": -1.0}},
        "energy_shift names H.*has .*H, O",
    ),
    "energy shift of a stranger": (
        DGL,
        GIVEN | {"energy_shift": {"H": -1.0, "O": 0.0, "C": 2.0}},
        "energy_shift names H, O, C.*has .*H, O",
    ),
    # contradictions
    "another cutoff": (SAVED, {"cutoff": 5.5}, r"4.0 according to the file \(rc\), but 5.5 .*cutoff. Leave out"),
    "another cutoff in settings": (
        SAVED,
        {"settings": {"rc": 3.0}},
        r"file \(rc\), but 3.0 .* settings \(rc\). Leave out",
    ),
    "two cutoffs": (
        SAVED | {"rc": 6.0, "model_rc": CUTOFF},
        {},
        r"6.0 .*file \(rc\), but 4.0 .*\(model_rc\).*pass cutoff",
    ),
    "two cutoffs, and a third": (SAVED | {"rc": 6.0, "model_rc": CUTOFF}, {"cutoff": 5.0}, "file contradicts itself"),
    "two cutoffs, both given": (
        DGL,
        GIVEN | {"settings": {"rc": 5.0}},
        r"5.0 according to settings \(rc\), but 4.0 according to cutoff. Give one value$",
    ),
    "two shifts, both given": (
        DGL,
        GIVEN | {"settings": {"trn_mean": 1.0}},
        "but 0.0 .* energy_shift. Give one value$",
    ),
    "another shift": (SAVED, {"energy_shift": 1.0}, r"-7.5 according to the file \(trn_mean\), but 1.0"),
    "other elements": (DGL, GIVEN | {"elements": ["H"]}, r"\('H', 'O'\) according to its sub-networks, but \('H',\)"),
    "elems of another network": (SAVED | {"elems": ["C"]}, {}, r"\('H', 'O'\) .*but \('C',\) according to the file"),
    "another l": (
        SAVED | {"l": (30,)},
        {},
        "l is 5 according to the weights, but 30 according to the file. The file cont",
    ),
    "another in_feats": (SAVED, {"settings": {"in_feats": 128}}, "in_feats is 8 .* but 128 .*settings. Leave out what"),
    "another basis": (PYG, GIVEN | {"settings": {"rbf": "bernstein"}}, "rbf is 'gaussian' .*but 'bernstein'"),
    "another number of channels": (
        PYG,
        GIVEN | {"settings": {"hidden_channels": 512}},
        "hidden_channels is 8 according to the weights, but 512 according to settings",
    ),
    "more channels than the weights": (
        VISNET,
        {"settings": PYG_SETTINGS | {"hidden_channels": 128}},
        "hidden_channels is 8 according to the shapes of the weights, but 128 according to settings",
    ),
    "the default number of layers": (
        VISNET,
        {"settings": without(PYG_SETTINGS, "num_layers")},
        "num_layers is 2 according to the shapes of the weights, but 6 according to the default .*Add to settings",
    ),
    "a shorter table": (lightning(VISNET, max_z=100), HO, "max_z is 20 .*weights, but 100 according to the file"),
    "heads that do not divide": (VISNET, {"settings": PYG_SETTINGS | {"num_heads": 3}} | HO, "8 .*into 3 heads"),
    "a cutoff that the basis denies": (
        lightning(VISNET, cutoff=5.0),
        HO,
        "cutoff is 5 Å by its settings, but its radial basis is that of a cutoff of 4.0000 Å.*trainable_rbf",
    ),
    "a cutoff that the Gaussians deny": (
        lightning(visnet(rbf="gauss"), rbf_type="gauss", cutoff=5.0),
        HO,
        "cutoff is 5 Å .*cutoff of 4.0000 Å",
    ),
    "vertex angles that are not there": (
        VISNET,
        {"settings": PYG_SETTINGS | {"vertex": True}},
        "weights are those of vertex_type 'none', its settings say 'edge'",
    ),
    "vertex angles that were not announced": (
        lightning(visnet(vertex="node")),
        HO,
        "weights are those of vertex_type 'node', its settings say 'none'",
    ),
    "another basis than announced": (lightning(VISNET, rbf_type="gauss"), HO, "rbf_type is 'expnorm' .*but 'gauss'"),
    "a head that is not there": (lightning(VISNET, output_model="DipoleMoment"), HO, "weights have no such head"),
    "a head that was not announced": (lightning(visnet(head="dipole")), HO, "output_model is 'dipole' .*but 'scalar'"),
    "a mean that is not the file's": (
        VISNET,
        {"settings": PYG_SETTINGS | {"mean": 123.0}} | HO,
        "mean is .* according to the file, but 123.0 according to settings",
    ),
    "a shift beside the file's": (lightning(VISNET), HO | {"energy_shift": 9.0}, r"the file \(mean\), but 9.0"),
    "references beside the file's": (
        lightning(VISNET),
        HO | {"energy_shift": {"H": -13.0, "O": -2000.0}},
        r"energy shift of H is .* the file \(atomref\), but -13.0",
    ),
    "elements beyond the table": (lightning(VISNET), {"elements": ["H", "Cu"]}, "names Cu, .*ends at Z = 19"),
    "norms that were trained": (
        lightning(changed(VISNET, "representation_model.vec_out_norm.weight", torch.full((8,), 0.5).double())),
        HO,
        "vec_out_norm.weight.*trainable_vecnorm",
    ),
    # names and values
    "a misspelled setting": (VISNET, {"settings": {"l_max": 2}}, r"unknown setting l_max \(did you mean 'lmax'\?\)"),
    "a setting of another network": (DGL, GIVEN | {"settings": {"lmax": 2}}, "unknown setting lmax.*aggregation"),
    "no such norm": (
        VISNET,
        {"settings": {"vecnorm_type": "max"}},
        "vecnorm_type is 'max'; known are 'max_min', 'rms'",
    ),
    "no such sum": (VISNET, {"settings": {"reduce_op": "max"}}, "reduce_op is 'max'; known are 'add', 'sum', 'mean'"),
    "no such order": (VISNET, {"settings": PYG_SETTINGS | {"lmax": 3}} | HO, "lmax is 3"),
    "half an order": (VISNET, {"settings": {"lmax": 1.5}}, "lmax is 1.5; it must be a positive whole number"),
    "a word for a switch": (VISNET, {"settings": {"trainable_rbf": "yes"}}, "trainable_rbf is 'yes'; .*true or false"),
    "a word for a number": (DGL, {"cutoff": "five"}, "cutoff is 'five'; it must be a finite number"),
    "a number beyond all": (DGL, {"cutoff": 10**400}, "cutoff is 1000.*it must be a finite number"),
    "not a number": (DGL, {"cutoff": float("nan")}, "cutoff is nan; it must be a finite number"),
    "a negative cutoff": (DGL, GIVEN | {"cutoff": -1.0}, "checkpoint .*cutoff is -1"),
    "no element": (DGL, GIVEN | {"elements": ["Xx"]}, "elements is .*'Xx'.*give a list such as"),
    "no elements": (lightning(VISNET), {"elements": []}, r"elements is \(\) .*name at least one"),
    "options of the other network": (DGL, GIVEN | {"max_num_neighbors": 32}, "only a ViSNet has: leave it out"),
    "images for ViSNet": (VISNET, SETTINGS | {"legacy_mic": True}, "only a HermNet of the DGL version has"),
    "a reference size for the later version": (PYG, GIVEN | {"n_ref": 9}, "only a HermNet of the DGL version has"),
    "a reference size for means": (
        DGL,
        GIVEN | {"n_ref": 9, "settings": {"intensive": True}},
        "n_ref and intensive exclude each other",
    ),
    "a quantity that the head denies": (
        lightning(visnet(head="dipole"), output_model="DipoleMoment"),
        HO | {"quantity": "energy levels"},
        "a dipole head predicts dipole, not 'energy levels'",
    ),
    "a shift of a dipole": (
        lightning(visnet(head="dipole"), output_model="DipoleMoment"),
        HO | {"energy_shift": {"H": 1.0, "O": 2.0}},
        "energy_shift .*no meaning for a dipole head",
    ),
    # what is no such network
    "HTNet": (triplets(), GIVEN, "HTNet .*H-O-H.*wrong edges.*Train an HTNet of mlcalc.models"),
    "HTNet of one element": (
        {name.replace(".H.", ".H-H-H."): t for name, t in dgl_hermnet(("H",)).items()},
        GIVEN,
        "HTNet .*H-H-H",
    ),
    "another program": (
        {"layer.weight": torch.ones(3)},
        {},
        "no known layout: it holds 'layer.weight'. Known are .*ViSNet",
    ),
    "nothing": ({}, {}, "no known layout: it holds nothing"),
    "only losses": ({"epoch": 3, "loss": 0.1}, {}, "no known layout: it holds 'epoch', 'loss'"),
    "no dict": ([torch.ones(2)], {}, "holds a list, not a dict"),
    "a tensor": (torch.ones(2), {}, "holds a Tensor, not a dict"),
    "numbers for names": ({3: torch.ones(2)}, {}, "a name of type int"),
    "a sub-network of no element": (
        {name.replace(".H.", ".Pt_surf."): t for name, t in DGL.items()},
        GIVEN,
        "sub-networks is .*Pt_surf",
    ),
    "twice the same": (DGL | {"module.embed.weight": DGL["embed.weight"]}, GIVEN, "'embed.weight' twice"),
    # tensors that are missing, left over or of other shapes
    "a tensor is missing": (without(DGL, MS1), GIVEN, f"lacks tensors .*{MS1}"),
    "a bias is missing": (
        without(DGL, "fc.0.bias"),
        GIVEN,
        "lacks tensors .*: fc.0.bias. The file is incomplete: save",
    ),
    "a matrix is missing": (without(VISNET, Q), SETTINGS, f"lacks the tensor '{Q}'"),
    "no embedding": (
        without(VISNET, "representation_model.embedding.weight"),
        SETTINGS,
        "lacks the tensor 'repr.*embedding",
    ),
    "no mean": (without(VISNET, "mean"), SETTINGS, "lacks the tensor 'mean'"),
    "too many means": (changed(VISNET, "mean", torch.ones(2)), SETTINGS, "mean is tensor.*must be a finite number"),
    "a tensor too many": (DGL | {"extra.weight": torch.ones(2).double()}, GIVEN, "holds tensors .*extra.weight"),
    "a matrix too many": (VISNET | {"extra.weight": torch.ones(2).double()}, SETTINGS, "1 tensors that .*extra.weight"),
    "another shape": (changed(DGL, MS1, torch.ones(8, 9).double()), GIVEN, rf"{MS1}.*\(8, 9\).*\(8, 8\)"),
    "another shape in ViSNet": (changed(VISNET, Q, torch.ones(4, 8).double()), SETTINGS, rf"{Q}.*\(4, 8\).*\(8, 8\)"),
    "an odd basis": (changed(VISNET, MEANS, torch.ones(2, 3).double()), SETTINGS, "2 dimensions in the tensor .*means"),
    "references of another shape": (
        changed(VISNET, "prior_model.atomref.weight", torch.ones(()).double()),
        SETTINGS,
        r"atomref.weight' is of shape \(\)",
    ),
    "no masses for all": (
        lightning(
            changed(visnet(head="dipole"), "output_model.atomic_mass", torch.ones(5)), output_model="DipoleMoment"
        ),
        HO,
        r"atomic_mass' is of shape \(5,\); .*up to Z = 8",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_what_is_wrong(tmp_path: Path, name: str) -> None:
    content, given, text = REFUSED[name]
    path = written(tmp_path / "a.pt", content)
    with pytest.raises(ModelFileError, match=text) as caught:
        import_checkpoint(path, **given)
    assert str(path) in str(caught.value)


def test_the_good_twins_of_these_files_are_accepted(tmp_path: Path) -> None:
    for content, given in (
        (DGL, GIVEN),
        (PYG, GIVEN),
        (SAVED, {"cutoff": CUTOFF, "energy_shift": -7.5, "elements": ["O", "H"]}),
        (DGL, GIVEN | {"n_ref": np.int64(108), "energy_shift": {1: -1.0, 8: -2.0}}),
        (DGL, GIVEN | {"n_ref": 108.0}),
        (SAVED | {"rc": 6.0, "model_rc": CUTOFF}, {"cutoff": CUTOFF}),
        (SAVED | {"rc": CUTOFF, "model_rc": 5.1}, {"cutoff": np.float32(5.1)}),
        (VISNET, HO | {"settings": without(PYG_SETTINGS, "cutoff"), "cutoff": CUTOFF}),
        (dgl_hermnet(("Cu",)), GIVEN | {"elements": 29}),
        (dgl_hermnet(("Cu",)), GIVEN | {"elements": np.int64(29)}),
        (dgl_hermnet(("Cu",)), GIVEN | {"elements": "Cu"}),
        (VISNET, SETTINGS),
        (lightning(VISNET, cutoff=5.0, trainable_rbf=True), HO),
        (lightning(VISNET), HO | {"energy_shift": float(VISNET["mean"])}),
        (lightning(visnet(layers=1), num_layers=1, vertex_type="Edge"), HO),  # alike in the only block
        (old_readout(dgl_hermnet(("H",))), GIVEN),  # one element: nothing to aggregate
    ):
        import_checkpoint(written(tmp_path / "a.pt", content), **given)
