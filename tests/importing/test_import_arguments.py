"""Arguments of the import that are of no use as they are: each error names the argument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_files import CUTOFF, written
from import_cases import DGL, GIVEN

from mlcalc import import_checkpoint
from mlcalc.md_protocols.errors import ConfigError

ARGUMENTS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"units": 3}, "units is 3, which is no text"),
    ({"quantity": 5}, "quantity is 5, which is no text"),
    ({"n_ref": True}, "n_ref is True; it must be"),
    ({"n_ref": "108"}, "n_ref is '108'; it must be"),
    ({"n_ref": 0}, "n_ref is 0; it must be a positive whole number"),
    ({"max_num_neighbors": 1.5}, "max_num_neighbors is 1.5; it must be a positive whole number"),
    ({"elements": 3.5}, "elements is 3.5: give a list"),
    ({"legacy_mic": "no"}, "legacy_mic is 'no': give True or False"),
    ({"settings": [2]}, r"settings is \[2\]: give a dict"),
)


@pytest.mark.parametrize(("given", "text"), ARGUMENTS)
def test_arguments_of_other_types(tmp_path: Path, given: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        import_checkpoint(written(tmp_path / "a.pt", DGL), **GIVEN | given)


def test_a_path_that_is_none() -> None:
    for path in (None, 3, "~nobody-of-this-name/a.pt"):
        with pytest.raises(ConfigError, match="path of the checkpoint is .*give the path of a file"):
            import_checkpoint(path)  # type: ignore[arg-type]


def test_numbers_of_numpy(tmp_path: Path) -> None:
    """As they come out of an npz file."""
    path = written(tmp_path / "a.pt", DGL)
    plain = import_checkpoint(path, **GIVEN, n_ref=4, legacy_mic=True)
    arrays = {"cutoff": np.array(CUTOFF), "energy_shift": np.float32(0), "n_ref": np.array(4), "legacy_mic": np.True_}
    found = import_checkpoint(path, **arrays, elements=np.array(plain.elements))
    assert found.config == plain.config
