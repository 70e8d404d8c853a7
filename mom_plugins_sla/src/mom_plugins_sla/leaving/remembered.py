"""Which guests were stopped here, on disk: whoever comes after a crash knows whom to let go on."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mom_core import MomError, replace_file
from mom_plugins_sla.leaving.ladder import Stopped
from mom_plugins_sla.leaving.steps import Step

_FORMAT = 1


class Remembered:
    """The guests that were stopped, first to last. Each change is on disk when it returns. For several threads.

    :param path: the file
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stopped: Mapping[str, Stopped] = {}
        self.unwritten = False
        """Whether the file says something else, because the disk did not take the last change."""

    def load(self) -> None:
        """Read what an earlier run has left. Raises `MomError` when it cannot be read: then nobody is let go on by mistake."""
        with self._lock:
            self._stopped = {one.identity: one for one in read(self._path)}

    @property
    def stopped(self) -> Sequence[Stopped]:
        """First to last."""
        return tuple(self._stopped.values())

    def get(self, identity: str) -> Stopped | None:
        """What was done to that guest."""
        return self._stopped.get(identity)

    def add(self, one: Stopped) -> None:
        """Before it is done. Raises `OSError`: then it must not be done."""
        with self._lock:
            self._write({**self._stopped, one.identity: one})

    def done(self, identity: str) -> None:
        """It has stopped. Raises `OSError`, and knows it nevertheless, until it ends."""
        with self._lock:
            one = self._stopped.get(identity)
            if one is not None and not one.done:
                self._change({**self._stopped, identity: replace(one, done=True)})

    def remove(self, identity: str) -> None:
        """It goes on. Raises `OSError`, and knows it nevertheless, until it ends."""
        with self._lock:
            if identity in self._stopped:
                self._change({key: one for key, one in self._stopped.items() if key != identity})

    def write_again(self) -> None:
        """Write what the disk did not take before. Raises `OSError`."""
        with self._lock:
            if self.unwritten:
                self._write(self._stopped)

    def _change(self, stopped: Mapping[str, Stopped]) -> None:
        try:
            self._write(stopped)
        except OSError:
            self._stopped, self.unwritten = stopped, True
            raise

    def _write(self, stopped: Mapping[str, Stopped]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        text = json.dumps({"format": _FORMAT, "stopped": [asdict(one) for one in stopped.values()]})
        replace_file(self._path, text, durable=True)
        self._stopped, self.unwritten = stopped, False


def read(path: Path) -> Sequence[Stopped]:
    """The guests in such a file; none when there is no file. Raises `MomError`."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        if kept["format"] != _FORMAT:
            raise ValueError(f"its format is {kept['format']}")
        return tuple(_stopped(one) for one in kept["stopped"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise MomError(
            f"{path}, which says which guests mom has stopped, cannot be read: {why}",
            hint="start those guests by hand if there are any, and remove the file",
        ) from None


def _stopped(one: Mapping[str, object]) -> Stopped:
    identity, name, needs, time = one["identity"], one["name"], one["needs"], one["time"]
    if not isinstance(identity, str) or not isinstance(name, str):
        raise TypeError("a guest has no name")
    if not isinstance(needs, int | float) or not isinstance(time, int | float) or not math.isfinite(needs):
        raise TypeError("a guest's numbers are none")
    return Stopped(identity, name, Step(str(one["step"])), float(needs), one["comes_back"] is True, one["done"] is True, float(time))
