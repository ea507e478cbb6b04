"""Factories that workers of a test cluster import: calculators that kill their process, or that cannot be made."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from distributed import KilledWorker

from mlcalc import MLCalculator
from mlcalc.cluster.worker import Chunk, Outcome, Work
from mlcalc.errors import DeviceError
from mlcalc.factory import CalculatorFactory
from mlcalc.models import Graph, Prediction

FAR = 1000.0  # Å; structures whose first atom is farther out are deadly


@dataclass(frozen=True)
class Deadly:
    """ethanol-visnet; deadly structures kill the process until the log is so many bytes long."""

    log: str
    deaths: int

    def __call__(self) -> MLCalculator:
        calculator = CalculatorFactory("ethanol-visnet")()
        evaluate = calculator.engine.evaluate

        def deadly(graph: Graph, **asked: Any) -> Prediction:
            log = Path(self.log)
            if bool((graph.positions[:, 0] > FAR).any()) and log.stat().st_size < self.deaths:
                with log.open("ab") as file:
                    file.write(b".")
                os.kill(os.getpid(), signal.SIGKILL)
            return evaluate(graph, **asked)

        calculator.engine.evaluate = deadly  # type: ignore[method-assign]
        return calculator

    def describe(self) -> dict[str, Any]:
        return CalculatorFactory("ethanol-visnet").describe()


@dataclass(frozen=True)
class Broken:
    """Works nowhere, as on workers without a GPU."""

    def __call__(self) -> MLCalculator:
        raise DeviceError("device 'cuda' is not available: this machine has cpu")

    def describe(self) -> dict[str, Any]:
        return {}


class KillingWork(Work):
    """Ends as chunks with structure 5 do when too many workers have died on them."""

    def __call__(self, chunk: Chunk) -> Outcome:
        if 5 in chunk.places:
            raise KilledWorker(task="chunk", last_worker=SimpleNamespace(address="none"), allowed_failures=0)
        return super().__call__(chunk)
