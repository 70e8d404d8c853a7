"""What mom asks of a hypervisor: one small protocol. What it can do besides, controllers ask of it by protocols of their own.

Its calls come from the threads of several plugins. Every call is bounded in time by the implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from mom_core.model import Guest


@runtime_checkable
class Hypervisor(Protocol):
    """Who runs the guests."""

    @property
    def uri(self) -> str:
        """How people name this hypervisor, such as `qemu:///system`."""
        ...

    def guests(self) -> Sequence[Guest]:
        """The guests that are active now, without fields, read with a number of calls that does not grow with them.

        Raises `HypervisorError` when the hypervisor cannot be reached: mom then knows of no guest, and touches none.
        """
        ...
