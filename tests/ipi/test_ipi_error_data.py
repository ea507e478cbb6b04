"""Errors on their way from the computing process to the user: their data arrives, and each surface has its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ase.build import fcc111
from ase.calculators.emt import EMT
from ase.io import write
from ipi_servers import IPI, Client, Listener, copper, posdata

from mlcalc.ground.errors import MLCalcError, Use
from mlcalc.ground.told_data import told_data, told_keywords
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.ipi import WorkerError, serve_ipi

pytestmark = pytest.mark.skipif(not IPI.exists(), reason="i-PI is an extra")

ATOMS = copper()
TEXT = "the pairs are too many"
REMEDIES = (Use("max_edges", 100, "if memory allows"), "take a smaller cell")


class Picky(EMT):
    """Fails with an error of ours."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        raise ConfigError(TEXT, setting="max_edges", value=120, limit=50, remedies=REMEDIES)


def picky() -> Any:
    raise ConfigError(TEXT, setting="max_edges", value=120, limit=50, remedies=REMEDIES)


def as_option(remedy: Use) -> str | None:
    return f"give --max-edges {remedy.value} {remedy.why}" if remedy.setting == "max_edges" else None


@pytest.mark.parametrize("isolated", [True, False])
def test_settings_and_remedies_of_a_failing_calculator_arrive(isolated: bool, tmp_path: Path) -> None:
    listener = Listener(tmp_path)
    client = Client(Picky(), ATOMS, unix=listener.path, isolated=isolated)
    peer = listener.accept()
    peer.ready()
    peer.say("POSDATA", posdata(ATOMS))
    peer.say("GETFORCE")
    with pytest.raises(WorkerError) as caught:
        client.ended()
    listener.close()
    assert len(caught.value.structures) == 1
    _check(caught.value)


def test_settings_and_remedies_of_a_calculator_that_cannot_be_made_arrive() -> None:
    with pytest.raises(WorkerError, match="cannot be made: ConfigError: the pairs") as caught:
        serve_ipi(picky, ATOMS, port=1, connect_s=0.0, progress=False)
    _check(caught.value)


def _check(error: MLCalcError) -> None:
    assert TEXT in error.text
    assert "take a smaller cell" not in error.text
    assert (error.setting, error.value, error.limit, error.remedies) == ("max_edges", 120, 50, REMEDIES)
    assert str(error).endswith("pass max_edges=100 if memory allows, or take a smaller cell")
    assert error.worded(as_option).endswith("give --max-edges 100 if memory allows, or take a smaller cell")
    assert error.worded(lambda remedy: None).endswith(" take a smaller cell")  # a surface without this setting


def test_only_plain_values_cross() -> None:
    error = ConfigError("text", setting="calc", value=object, limit=(1, {"a": b"x"}), remedies=[Use("calc", EMT)])
    data = told_data(error)
    assert data["value"] == repr(object)
    assert data["limit"] == [1, {"a": "b'x'"}]
    again = ConfigError(data["text"], **told_keywords(data))
    assert again.remedies == (Use("calc", repr(EMT)),)
    assert told_data(KeyError("gone"))["text"] == "'gone'"
    assert told_keywords(told_data(KeyError("gone"))) == {"setting": None, "value": None, "limit": None, "remedies": []}


def test_the_driver_of_ipi_names_its_own_parameters(tmp_path: Path) -> None:
    from mlcalc.ipi_driver import MLCalcDriver, in_parameters

    slab = fcc111("Cu", (2, 2, 2), vacuum=8.0)
    slab.info.clear()
    slab.pbc = [True, True, False]
    write(tmp_path / "slab.extxyz", slab)
    with pytest.raises(ConfigError) as caught:
        MLCalcDriver(template=str(tmp_path / "slab.extxyz"), model="cu-hvnet")
    told = str(caught.value)
    assert "make the file say so" in told
    assert "set virial: none in the parameters (zeros;" in told
    assert "pass " not in told
    assert "atoms.pbc" not in told
    assert in_parameters(Use("max_edges", 7)) == "set max_edges: 7 in the parameters"
    assert in_parameters(Use("isolated", False)) is None
    assert in_parameters(Use("relax", True, python="relax it first")) is None
