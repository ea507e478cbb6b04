"""i-PI: clients for its servers, and runs of it."""

from .client import ServeReport, serve_ipi
from .errors import ConnectionFailedError, ServeError, WireError, WorkerError
from .runs.result import IPIRun
from .runs.run import run_ipi

__all__ = [
    "ConnectionFailedError",
    "IPIRun",
    "ServeError",
    "ServeReport",
    "WireError",
    "WorkerError",
    "run_ipi",
    "serve_ipi",
]
