"""Clients for i-PI's socket protocol."""

from .client import ServeReport, serve_ipi
from .errors import ConnectionFailedError, ServeError, WireError, WorkerError

__all__ = ["ConnectionFailedError", "ServeError", "ServeReport", "WireError", "WorkerError", "serve_ipi"]
