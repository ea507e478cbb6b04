"""Errors and warnings on their way between workers and client: pickled by Dask, with all that they know."""

from __future__ import annotations

import copy
import warnings

import pytest

from mlcalc.cluster.evaluate import ClusterEvaluationError, tell
from mlcalc.cluster.worker import Outcome
from mlcalc.errors import ConfigError, MLCalcError, PhysicsWarning, Use
from mlcalc.evaluation import Evaluation

REMEDIES = (Use("min_distance", 0.1), "look at it")


def sent(error: Exception) -> Exception:
    """The error as it comes out of another process: made again from what pickle keeps of it."""
    made, arguments, state = error.__reduce_ex__(4)[:3]  # type: ignore[index]
    again: Exception = made(*arguments)
    again.__dict__.update(copy.deepcopy(state or {}))
    return again


@pytest.mark.parametrize("kind", [ConfigError, PhysicsWarning, ClusterEvaluationError])
def test_errors_cross_with_setting_and_remedies(kind: type[Exception]) -> None:
    error = kind("too near", setting="min_distance", value=0.2, limit=0.3, remedies=REMEDIES)
    again = sent(error)
    assert type(again) is kind
    assert (str(again), vars(again)) == (str(error), vars(error))
    assert str(again).endswith("pass min_distance=0.1, or look at it")


def test_failures_and_results_cross() -> None:
    failures: dict[int, Exception] = {1: ConfigError("bad", remedies=REMEDIES)}
    again = sent(ClusterEvaluationError("1 of 2", failures, [Evaluation(energy=1.0), None]))
    assert isinstance(again, ClusterEvaluationError)
    assert list(again.failures) == [1]
    assert isinstance(again.failures[1], MLCalcError)
    assert again.failures[1].remedies == REMEDIES
    assert [None if result is None else result.energy for result in again.results] == [1.0, None]


def test_cautions_are_told_once_with_their_remedies_at_the_line_of_the_user() -> None:
    cautions = [PhysicsWarning(f"structure {k}: atoms are near", remedies=REMEDIES) for k in range(3)]
    outcome = Outcome(cautions=(*cautions, PhysicsWarning("structure 4: something else")))
    told: set[str] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tell(outcome.cautions, told)
        tell(outcome.cautions, told)
    assert [str(each.message) for each in caught] == [str(cautions[0]), "structure 4: something else"]
    assert {each.filename for each in caught} == {__file__}
    assert isinstance(caught[0].message, PhysicsWarning)
    assert caught[0].message.remedies == REMEDIES
