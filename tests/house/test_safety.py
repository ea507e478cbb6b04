"""What package code must never do: unpickle, evaluate, open to the network, touch global state, assert user input."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {
    "torch.export.load": "runs code of the file",
    "torch.jit.load": "runs code of the file",
    "torch.package.PackageImporter": "runs code of the file",
    "torch.hub.load": "runs code from the network",
    "yaml.full_load": "runs tags of the file",
    "yaml.unsafe_load": "runs tags of the file",
    "phonopy.load": "reads yaml with the full loader",
    "eval": "runs text",
    "exec": "runs text",
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "os.chdir": "global state",
    "numpy.seterr": "global state",
    "torch.set_default_dtype": "global state",
    "torch.set_default_device": "global state",
    "torch.set_default_tensor_type": "global state",
    "torch.set_num_threads": "global state",
    "torch.set_num_interop_threads": "global state",
    "torch.set_grad_enabled": "global state unless a context manager: use torch.no_grad() or torch.enable_grad()",
    "torch.use_deterministic_algorithms": "global state",
}
OWN_GENERATORS = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "RandomState"}
SEEDS = {"torch.manual_seed", "torch.random.manual_seed", "torch.cuda.manual_seed_all", "torch.seed"}


def full_names(tree: ast.AST) -> dict[str, str]:
    """Local name -> dotted name it was imported as."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                local = alias.asname or alias.name.split(".")[0]
                names[local] = alias.name if alias.asname else local
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def call_fault(node: ast.Call, name: str, inside_fork: bool) -> str | None:
    """Why this call of the dotted name is not allowed, or None."""
    keywords = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
    module, _, function = name.rpartition(".")
    faults = {
        UNSAFE_CALLS.get(name, ""): name in UNSAFE_CALLS,
        "needs weights_only=True": name == "torch.load" and keywords.get("weights_only") != "True",
        "needs a safe loader": name == "yaml.load" and "SafeLoader" not in ast.unparse(node),
        "allows pickled objects": keywords.get("allow_pickle", "False") != "False",
        "runs a shell": keywords.get("shell", "False") != "False",
        "listens on every interface": function == "bind" and "(''," in ast.unparse(node),
        "NumPy's global generator": module == "numpy.random" and function not in OWN_GENERATORS,
        "Python's global generator": module == "random" and function not in {"Random", "SystemRandom"},
        "torch's global generator, outside torch.random.fork_rng()": name in SEEDS and not inside_fork,
    }
    return next((fault for fault, found in faults.items() if found), None)


def violations(source: str) -> Iterator[str]:
    """Everything in the source that package code must not do, as `line: reason: text`."""
    tree = ast.parse(source)
    names = full_names(tree)
    forks = [n for n in ast.walk(tree) if isinstance(n, ast.With) and "fork_rng(" in ast.unparse(n.items[0])]
    forked = {id(inner) for fork in forks for inner in ast.walk(fork)}
    for node in ast.walk(tree):
        fault = None
        if isinstance(node, ast.Assert):
            fault = "assert vanishes under python -O"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            fault = "unpickles" if {m.split(".")[0] for m in modules} & UNSAFE_MODULES else None
        elif isinstance(node, ast.Constant) and node.value == "0.0.0.0":  # noqa: S104 - this is the search for it
            fault = "listens on every interface"
        elif isinstance(node, ast.Call):
            first, *rest = ast.unparse(node.func).split(".")
            known = names.get(first, "?" if rest else first)  # `random.normal()` of a local `random` is no module's
            fault = call_fault(node, ".".join([known, *rest]), id(node) in forked)
        if fault:
            yield f"line {node.lineno}: {fault}: {ast.unparse(node)[:80]}"


@pytest.mark.parametrize("folder", ["mlcalc", "models", "md_protocols", "examples", "benchmarks"])
def test_package_code_is_safe(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    found = [f"{path.relative_to(ROOT)}: {fault}" for path in files for fault in violations(path.read_text())]
    if folder == "benchmarks":  # whose processes are their own
        found = [fault for fault in found if "global state" not in fault]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "from torch import load as read\nread(path)",
        "import torch\ntorch.export.load(path)",
        "from torch import export\nexport.load(path)",
        "import torch as t\nt.jit.load(path)",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.load(text, Loader=yaml.CLoader)",
        "import phonopy\nphonopy.load('phonopy.yaml')",
        "eval('1')",
        "exec('1')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "server.bind(('', 31415))",
        "host = '0.0.0.0'",
        "import torch\ntorch.set_default_dtype(torch.float64)",
        "import torch\ntorch.set_num_threads(1)",
        "import torch\ntorch.manual_seed(0)",
        "import numpy as np\nnp.random.seed(0)",
        "import numpy as np\nnp.random.normal()",
        "from numpy.random import normal\nnormal()",
        "import random\nrandom.shuffle(x)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "assert x > 0",
    ],
)
def test_a_violation_is_caught(source: str) -> None:
    assert list(violations(source))


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path, weights_only=True)",
        "import yaml\nyaml.load(text, Loader=yaml.CSafeLoader)",
        "import numpy as np\nnp.random.default_rng(0).normal()",
        "import numpy as np\nrandom = np.random.default_rng(0)\nrandom.normal()",
        "import torch\nwith torch.random.fork_rng():\n    torch.manual_seed(0)",
        "server.bind(('127.0.0.1', 31415))",
        "model.eval()",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
    ],
)
def test_safe_code_passes(source: str) -> None:
    assert not list(violations(source))
