"""The floors: models/ knows torch only, md_protocols/ never sees torch, mlcalc/ uses full names; a ground below all."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import import_graph
import pytest

ROOT = Path(__file__).parents[2]
OUTSIDERS = {"models", "md_protocols"}  # a top-level `models` would be a second copy, or the user's own file
FORBIDDEN = {
    "models": {"ase", "mlcalc", "numpy", "matscipy", "vesin", "phonopy", "ipi", "matplotlib", *OUTSIDERS},
    "md_protocols": {"torch", "safetensors", "mlcalc", *OUTSIDERS},
    "mlcalc": {".", *OUTSIDERS},
    "tests": {".", *OUTSIDERS},
}
LATE = {
    "md_protocols": {"phonopy", "phono3py", "seekpath", "symfc", "yaml", "ipi", "matplotlib"},
    "mlcalc": {"matplotlib"},
}  # only inside functions
FLOORS = sorted(FORBIDDEN)


def broken_rules(source: str, floor: str, depth: int = 0) -> Iterator[str]:
    """Imports of the source, so many folders below its floor, that it must not have, or only inside a function."""
    tree = ast.parse(source)
    late = {id(node) for block in ast.walk(tree) if runs_later(block) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = ["." if 0 < node.level <= 1 + depth else ".." if node.level else str(node.module)]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for root in (name if name.startswith(".") else name.split(".")[0] for name in names):
            if (
                (root in FORBIDDEN[floor] and not on_the_ground(node))
                or root == ".."
                or (root in LATE.get(floor, ()) and id(node) not in late)
            ):
                yield f"line {node.lineno}: {ast.unparse(node)}"


def on_the_ground(node: ast.AST) -> bool:
    """Whether the import is one of what all floors stand on."""
    return isinstance(node, ast.ImportFrom) and str(node.module).startswith("mlcalc.ground.")


def runs_later(block: ast.AST) -> bool:
    """Whether the code in it does not run on import."""
    if isinstance(block, ast.If):
        return ast.unparse(block.test) == "TYPE_CHECKING"
    return isinstance(block, ast.FunctionDef | ast.AsyncFunctionDef)


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_keep_to_their_floor(floor: str) -> None:
    files = sorted((ROOT / floor).rglob("*.py"))
    assert files
    broken = [
        f"{path.relative_to(ROOT)}: {rule}"
        for path in files
        for rule in broken_rules(path.read_text(), floor, len(path.relative_to(ROOT / floor).parts) - 1)
    ]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("floor", "source"),
    [
        ("models", "import ase"),
        ("models", "def f():\n    from ase.units import fs"),
        ("models", "from mlcalc.errors import MLCalcError"),
        ("models", "from ..errors import X"),
        ("md_protocols", "import torch.nn as nn"),
        ("md_protocols", "def f():\n    import torch"),
        ("md_protocols", "from mlcalc.models import predict"),
        ("md_protocols", "import matplotlib.pyplot as plt"),
        ("models", "from mlcalc.grounds.errors import X"),
        ("mlcalc", "from models import predict"),
        ("mlcalc", "import md_protocols"),
        ("mlcalc", "from matplotlib.axes import Axes"),
        ("mlcalc", "from .errors import MLCalcError"),
        ("tests", "from models.graph import Graph"),
    ],
)
def test_a_broken_rule_is_caught(floor: str, source: str) -> None:
    assert list(broken_rules(source, floor))


@pytest.mark.parametrize(
    ("floor", "source"),
    [
        ("models", "import torch\nfrom .graph import Graph\nfrom mlcalc.ground.errors import MLCalcError"),
        ("md_protocols", "from ase import Atoms\nfrom .errors import X\ndef f():\n    import matplotlib.pyplot"),
        ("mlcalc", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
        ("mlcalc", "import torch\nfrom mlcalc.models import predict\nfrom mlcalc.errors import X"),
    ],
)
def test_allowed_imports_pass(floor: str, source: str) -> None:
    assert not list(broken_rules(source, floor))


def test_a_folder_inside_a_floor_may_look_up_as_far_as_the_floor() -> None:
    assert not list(broken_rules("from ..errors import X", "md_protocols", depth=1))
    assert list(broken_rules("from ...errors import X", "md_protocols", depth=1))


# Who may know whom among the rooms, beyond its own rooms and what lies at the top of its floor.
BELOW: dict[str, set[str]] = {
    "md_protocols.folders": set(),
    "md_protocols.dynamics": {"folders"},
    "md_protocols.crystals": set(),
    "md_protocols.relaxation": {"crystals", "folders"},
    "md_protocols.elasticity": {"crystals", "relaxation", "folders"},
    "md_protocols.defects": {"crystals", "relaxation", "folders"},
    "md_protocols.phonons": {"crystals", "relaxation", "folders"},
    "md_protocols.ipi": {"folders", "dynamics", "crystals"},
    "mlcalc.ground": set(),
    "mlcalc.graphs": {"ground"},
    "mlcalc.kernels": {"graphs", "ground"},
    "mlcalc.engine": {"graphs", "kernels", "gpu", "ground"},
    "mlcalc.model_file": {"graphs", "bundled", "ground"},
    "mlcalc.importing": {"graphs", "model_file", "ground"},
    "mlcalc.training": {"graphs", "model_file", "kernels", "ground"},
    "mlcalc.cluster": {"graphs", "engine", "ground"},
}


def trespasses(found: list[import_graph.Import]) -> list[str]:
    """Imports of rooms that the importer's room may not know."""
    wrong = []
    for each in found:
        start, end = (name.removeprefix("mlcalc.").split(".") for name in (each.importer, each.imported))
        floor = start[0] if start[0] == "md_protocols" else "mlcalc"
        here, there = (parts[1:] if floor == "md_protocols" else parts for parts in (start, end))
        known = BELOW.get(f"{floor}.{here[0]}") if here else None
        if known is None or end[0] == "models" or (end[0] == "md_protocols") != (floor == "md_protocols"):
            continue
        if len(there) > 1 and there[0] not in known | {here[0]}:
            wrong.append(f"{each.importer}:{each.line} knows {each.imported}")
    return wrong


def test_no_imports_go_in_circles_and_few_are_late() -> None:
    found = import_graph.imports(import_graph.modules())
    assert len(found) > 500
    assert not import_graph.circles({(each.importer, each.imported) for each in found})
    assert len({(each.importer, each.line) for each in found if each.late}) < 20


def test_rooms_know_only_what_lies_below() -> None:
    wrong = trespasses(import_graph.imports(import_graph.modules()))
    assert not wrong, "\n".join(wrong)


def test_circles_and_trespasses_are_caught() -> None:
    edges = {("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")}
    assert import_graph.circles(edges) == [["a", "b", "c"]]
    assert not import_graph.circles(edges - {("c", "a")})
    late = import_graph.Import("mlcalc.md_protocols.folders.lock", "mlcalc.md_protocols.dynamics.run", 3, late=True)
    assert trespasses([late])
    assert not trespasses([import_graph.Import("mlcalc.engine.engine", "mlcalc.graphs.graphs", 3, late=False)])
