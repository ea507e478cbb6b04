"""The oldest versions that pyproject.toml allows, as constraints of pip: `python .ci/oldest_versions.py`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def oldest(requirements: list[str]) -> list[str]:
    """`name==version` of every lower bound."""
    found = (re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([0-9.]+)", each) for each in requirements)
    return [f"{match[1]}=={match[2]}" for match in found if match]


def main() -> None:
    """Print the constraints of the dependencies and of all that `dev` installs, tools apart."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tools = {"ruff", "mypy", "build", "setuptools", "pytest", "pytest-xdist", "hypothesis"}
    known = oldest(project["dependencies"] + project["optional-dependencies"]["dev"])
    print("\n".join(line for line in known if line.partition("==")[0] not in tools))


if __name__ == "__main__":
    main()
