"""Many structures on many machines, with Dask."""

from __future__ import annotations

from mlcalc.cluster.evaluate import evaluate_on_cluster, local_cluster

__all__ = ["evaluate_on_cluster", "local_cluster"]
