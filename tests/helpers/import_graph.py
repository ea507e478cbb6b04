"""Who imports whom, imports inside functions included: `python tests/helpers/import_graph.py` prints what there is.

Imports under TYPE_CHECKING do not count.  A name taken from a package counts as an import of the module that the
package's `__init__` has it from.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLOORS = {"mlcalc": "mlcalc", "models": "mlcalc.models", "md_protocols": "mlcalc.md_protocols"}
OUTSIDE = ("benchmarks",)


@dataclass(frozen=True)
class Import:
    """One name that one module takes from another."""

    importer: str
    imported: str  # a module of ours
    line: int
    late: bool  # inside a function


@dataclass(frozen=True)
class Module:
    """A source file."""

    name: str
    path: Path
    tree: ast.Module
    package: bool


def modules(root: Path = ROOT) -> dict[str, Module]:
    """All modules by their full names."""
    found = {}
    for top in (*FLOORS, *OUTSIDE):
        for path in sorted((root / top).rglob("*.py")):
            parts = [*FLOORS.get(top, top).split("."), *path.relative_to(root / top).with_suffix("").parts]
            package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if package else parts)
            found[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8")), package)
    return found


def imports(known: dict[str, Module]) -> list[Import]:
    """All imports of our modules by our modules."""
    return [found for module in known.values() for found in _imports_of(module, known)]


def _imports_of(module: Module, known: dict[str, Module]) -> Iterator[Import]:
    for node, late in _statements(module.tree, late=False):
        if isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
        else:
            names = [(_base(module, node), alias.name) for alias in node.names]
        for base, name in names:
            target = _module(base, name, known)
            if target and target != module.name:
                yield Import(module.name, target, node.lineno, late)


def _statements(node: ast.AST, late: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, late
        yield from _statements(child, late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def _base(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts if module.package else parts[:-1]
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _module(base: str, name: str, known: dict[str, Module]) -> str | None:
    """Our module that `from base import name` is about."""
    if base not in known:
        return None
    if known[base].package:
        for node in known[base].tree.body:
            if isinstance(node, ast.ImportFrom) and name in {alias.asname or alias.name for alias in node.names}:
                return _module(_base(known[base], node), name, known)
    return f"{base}.{name}" if f"{base}.{name}" in known else base


def circles(edges: set[tuple[str, str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (strongly connected components)."""
    onward: dict[str, list[str]] = {}
    for start, end in sorted(edges):
        onward.setdefault(start, []).append(end)
        onward.setdefault(end, [])
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in onward[name]:
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(onward):
        if name not in order:
            visit(name)
    return found


def room(name: str) -> str:
    """The folder that a module lives in."""
    return name.rpartition(".")[0] or name


def main() -> int:
    """Print the numbers; 1 where there is a circle."""
    known = modules()
    found = imports(known)
    groups = circles({(each.importer, each.imported) for each in found})
    late = {
        (each.importer, each.line): each for each in found if each.late and not each.importer.startswith("benchmarks")
    }
    rooms: dict[str, int] = {}
    for module in known.values():
        folder = str(module.path.parent.relative_to(ROOT))
        rooms[folder] = rooms.get(folder, 0) + 1
    lines = sum(len(module.path.read_text(encoding="utf-8").splitlines()) for module in known.values())
    print(
        f"{len(known)} files in {len(rooms)} folders, {lines} lines; fullest:",
        *sorted(rooms.items(), key=lambda r: -r[1])[:4],
    )
    print(f"{len(late)} statements inside functions that import our own modules:")
    for each in late.values():
        print(f"  {each.importer}:{each.line} {each.imported}")
    print(f"{len(groups)} circles:")
    for group in groups:
        print("  " + " ".join(group))
    return 1 if groups else 0


if __name__ == "__main__":
    sys.exit(main())
