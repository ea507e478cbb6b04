"""The names and spellings under which the ViSNet codes write their settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlcalc.errors import ModelFileError
from mlcalc.importing.request import DEFAULT, Findings, number, switch, whole

# Arguments of torch_geometric.nn.models.ViSNet, with their defaults.
PYG_DEFAULTS: dict[str, Any] = {
    "lmax": 1,
    "vecnorm_type": None,
    "trainable_vecnorm": False,
    "num_heads": 8,
    "num_layers": 6,
    "hidden_channels": 128,
    "num_rbf": 32,
    "trainable_rbf": False,
    "max_z": 100,
    "cutoff": 5.0,
    "max_num_neighbors": 32,
    "vertex": False,
    "atomref": None,
    "reduce_op": "sum",
    "mean": None,
    "std": None,
    "derivative": False,
}
# Further settings of the AI2BMD codes that say how the network is built ...
_AI2BMD = (
    "embedding_dimension rbf_type activation attn_activation vertex_type output_model prior_model prior_args dataset "
    "dataset_arg"
).split()
# ... and those that do not.
_TRAINING = (
    "load_model num_epochs lr_warmup_steps lr lr_patience lr_min lr_factor weight_decay early_stopping_patience "
    "loss_type loss_scale_y loss_scale_dy energy_weight force_weight dataset_root split_mode reload batch_size "
    "inference_batch_size standardize splits train_size val_size test_size num_workers model ngpus num_nodes precision "
    "log_dir task seed distributed_backend redirect accelerator test_interval save_interval conf"
).split()
_ALIASES = {"embedding_dimension": "hidden_channels", "vertex": "vertex_type"}
_HEADS = {
    "scalar": "scalar",
    "dipolemoment": "dipole",
    "electronicspatialextent": "electronic_spatial_extent",
    "vectoroutput": "vector",
}
# What no file shows in its tensors.
NEEDED = {
    "lmax": "1 or 2",
    "num_heads": "for example 8",
    "cutoff": "Å, for example 5.0",
    "vecnorm_type": "'none', 'max_min' or 'rms'",
    "reduce_op": "'add' or 'mean'",
    "activation": "for example 'silu'",
    "attn_activation": "for example 'silu'",
}
_ONLY_AI2BMD = ("activation", "attn_activation")  # PyTorch Geometric's ViSNet always uses silu


class Settings:
    """The settings of the file and of the user under common names, both checked and in one spelling."""

    def __init__(self, facts: Mapping[str, Any], given: Mapping[str, Any] | None, findings: Findings) -> None:
        self.findings = findings
        own = set(_AI2BMD) | set(_TRAINING)
        findings.refuse_unknown(given or {}, own | set(PYG_DEFAULTS))
        self.sources: list[tuple[str, dict[str, Any]]] = [("the file", self._common(facts))]
        # Names that PyTorch Geometric does not know mean that the settings are those of the AI2BMD codes.
        self.pyg = given is not None and not facts and not own & set(given)
        self.sources.append(("settings", self._common(given or {})))
        # A Lightning file names its prior; settings that were passed may be less than all of them.
        self.denies_prior = bool(facts) or (not self.pyg and "prior_model" in (given or {}))
        if self.pyg:
            filled = {name: value for name, value in PYG_DEFAULTS.items() if name not in (given or {})}
            self.defaults = self._common(filled)
            silent = sorted(set(filled) - {"mean", "std", "atomref", "derivative", "max_num_neighbors"})
            if silent:
                listed = ", ".join(f"{name} {PYG_DEFAULTS[name]!r}" for name in silent)
                findings.notes.append(f"settings left out took the defaults of PyTorch Geometric: {listed}")
        else:
            self.defaults = {}

    def get(self, name: str, *shown: tuple[str, Any]) -> Any:
        """The value that the file, the user and what the weights show agree on, else the default, else None."""
        sources = [*shown, *((where, values.get(name)) for where, values in self.sources)]
        argument = any(where == name and value is not None for where, value in shown)  # it replaces the default
        if name in self.defaults and not argument:
            sources.append((DEFAULT, self.defaults[name]))
        return self.findings.agreed(name, sources)

    def needed(self, name: str, *shown: tuple[str, Any], stand_in: Any) -> Any:
        """The same for a setting without which there is no network."""
        value = self.get(name, *shown)
        if value is None and name in _ONLY_AI2BMD and self.pyg:
            return "silu"
        return self.findings.needed(name, value, NEEDED[name], stand_in=stand_in, setting=name != "cutoff")

    def _common(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """One spelling of names and values."""
        origin = self.findings.origin
        common: dict[str, Any] = {}
        for name, value in values.items():
            ours = _ALIASES.get(name, name)
            read = _READERS.get(ours)
            found = value if read is None else read(name, value, origin)
            if ours in common and None not in (found, common[ours]) and found != common[ours]:
                raise ModelFileError(f"{origin}: {name} is {value!r}, but the same setting is {common[ours]!r}")
            if found is not None:
                common[ours] = found
        return common


def _choice(words: Mapping[str, str], *, absent: str | None = None) -> Any:
    def read(name: str, value: Any, origin: str) -> str | None:
        if value is None or (isinstance(value, str) and value.strip().lower() in ("none", "null", "")):
            return absent
        if isinstance(value, bool) and name == "vertex":
            return "edge" if value else "none"
        key = str(value).strip().lower().removeprefix("equivariant")
        if not isinstance(value, str) or key not in words:
            listed = ", ".join(map(repr, words))
            raise ModelFileError(f"{origin}: {name} is {value!r}; known are {listed}{' and None' if absent else ''}")
        return words[key]

    return read


def _same_words(*words: str) -> dict[str, str]:
    return {word: word for word in words}


_READERS: dict[str, Any] = {
    "lmax": whole,
    "num_heads": whole,
    "num_layers": whole,
    "hidden_channels": whole,
    "num_rbf": whole,
    "max_z": whole,
    "max_num_neighbors": whole,
    "cutoff": number,
    "mean": number,
    "std": number,
    "trainable_vecnorm": switch,
    "trainable_rbf": switch,
    "vecnorm_type": _choice(_same_words("max_min", "rms"), absent="none"),
    "vertex_type": _choice(_same_words("edge", "node"), absent="none"),
    "rbf_type": _choice(_same_words("expnorm", "gauss")),
    "activation": _choice(_same_words("silu", "ssp", "swish", "tanh", "sigmoid")),
    "attn_activation": _choice(_same_words("silu", "ssp", "swish", "tanh", "sigmoid")),
    "reduce_op": _choice({"add": "add", "sum": "add", "mean": "mean"}),
    "output_model": _choice(_HEADS),
    "prior_model": _choice({"atomref": "Atomref"}),
}
