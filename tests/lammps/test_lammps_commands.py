"""Commands of LAMMPS input that would be wrong beside the model, and others that look like them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcalc.lammps.commands import check_before, check_commands, included, stretches
from mlcalc.md_protocols.errors import ConfigError

WRONG = [
    "fix g all gcmc 1 5 5 1 2 300 -3 0.1",
    "  fix   g all widom/omp 1 20 1 2 300",
    "fix g all &\n  numdiff 1 1e-4",
    'run 10 every 5 "fix g all widom 1 20 1 2 300"',
    'if "${x} > 1" then "unfix mlcalc"',
    "fix_modify mlcalc energy no",
    "compute s all stress/mop x center total",
    "compute s all stress/atom NULL ke pair",
    "temper 10 5 300 f 1 2",
    "replicate 2 2 2 # larger",
    "pair_style hybrid/overlay zero 2.0 zbl 0.5 1.5",
    "pair_style zero ${c}",
    "pair_coeff * * zero 4.9",
    "pair_coeff 1 1 3",
    "neigh_modify delay 0 once yes # a crystal",
    "neigh_modify once on",
    'if "${x} > 1" then "neigh_modify once yes every 1"',
    'if "${x} > 1" then "pair_style zero 2.0"',
]
RIGHT = [
    "pair_style hybrid/overlay zero 5.0 zbl 0.5 1.5\npair_coeff * * zero\npair_coeff * * zbl 29 29",
    "pair_style zero 6",
    "fix s all atom/swap 1 1 2 300 types 1 2",
    "# fix g all gcmc",
    "run 10 # fix g all gcmc 1",
    'print "fix g all gcmc is not used"',
    "compute s all stress/atom NULL",
    "compute s all stress/atom NULL pair fix",
    "compute s all pressure NULL virial",
    "fix_modify 1 energy yes",
    "unfix 1",
    "neigh_modify once no every 1",
]


@pytest.mark.parametrize("text", WRONG)
def test_commands_that_would_be_wrong_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="`"):
        check_commands(f"units metal\n{text}\nrun 1", cutoff=5.0)


@pytest.mark.parametrize("text", RIGHT)
def test_others_are_not(text: str) -> None:
    check_commands(f"units metal\n{text}\nrun 1", cutoff=5.0)


def test_what_comes_before_the_model_is_looked_at_too() -> None:
    """Once a fix is there LAMMPS says nothing of `once yes` any more."""
    check_before("neigh_modify delay 5\nfix g all gcmc 1\nprint 'neigh_modify once yes'", "in.a")
    with pytest.raises(ConfigError, match=r"in.a: `neigh_modify once yes`: neighbors are never"):
        check_before("units metal\nneigh_modify once yes", "in.a")


def test_included_files_and_what_clear_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").write_text("include b # more\ninclude ${c}")
    Path("b").write_text("include a\nunfix mlcalc")
    assert dict(included("run 1\n include 'a'\n")) == {"a": Path("a").read_text(), "b": Path("b").read_text()}
    assert stretches("a\nclear # all\nb\nprint clear") == ["a", "b\nprint clear"]
