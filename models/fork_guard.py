"""Processes that were forked after torch had computed: its threads are not in them, and they would wait for ever."""

from __future__ import annotations

import os

import torch

from .errors import ModelError


class ForkedProcessError(ModelError):
    """A network asked to compute in the fork of a process in which one has computed."""


class _Forks:
    def __init__(self) -> None:
        self._used = self._forked = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._note)

    def _note(self) -> None:
        self._forked = self._used

    def refuse(self, device: torch.device) -> None:
        """ForkedProcessError in such a process, unless torch has one thread only, on the CPU."""
        if self._forked and (device.type != "cpu" or torch.get_num_threads() > 1):
            raise ForkedProcessError(
                f"this process is a fork of one in which a network has computed on {device} with "
                f"{torch.get_num_threads()} threads, and would wait for them for ever: start processes by 'spawn' and "
                "give them a CalculatorFactory, or call torch.set_num_threads(1) first"
            )
        self._used = True


forks = _Forks()
