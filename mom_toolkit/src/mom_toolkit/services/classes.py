"""Service classes that many hosts share: what the plugin that knows classes says of a file of them, to the plugin that brings the file."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class ClassFiles(Protocol):
    """A reader of service classes from a file that may change at any time. Any thread may call this; wait for nothing."""

    def why_unused(self, path: Path) -> str:
        """Why the classes of that file are not in force, by the last look at it; empty: they are."""
