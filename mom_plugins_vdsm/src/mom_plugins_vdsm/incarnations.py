"""Whether a guest was started anew: vdsm has no number for that, only for how long the guest has been running.

What was found out is kept in a file, so that mom knows a guest again after mom itself was restarted.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mom_core import replace_file
from mom_plugins_vdsm.statistics import Vm

_SLACK_SECONDS = 30.0
"""By how much a guest may have been running shorter than expected and still be the same: clocks are set, and answers are cached."""

_KEPT_SECONDS = 600.0
"""How long a guest that is not listed is remembered: vdsm may be restarted, and be wrong for a moment."""


@dataclass(slots=True)
class _Run:
    """One run of a guest: its mark, since when it runs and when it was last seen, in seconds since the host was started, and for how long
    it had been running then."""

    mark: str
    started: float
    elapsed: float
    seen: float


class Incarnations:
    """Gives every run of every guest a mark of its own.

    :param path: the file that is kept; its folder is made when it is first written
    :param keep: whether to write it: a command that only takes a look must not
    :param boot: tells one run of the host from the next, in which no guest is the same
    :param since_boot: the clock that was 0 then
    """

    def __init__(self, path: Path, boot: str, since_boot: Callable[[], float], log: logging.Logger, *, keep: bool = True) -> None:
        self._path = path
        self._boot = boot
        self._since_boot = since_boot
        self._log = log
        self._keep = keep
        self._runs = _read(path, boot, since_boot())
        self._written = True

    def follow(self, vms: Iterable[Vm]) -> Mapping[str, str]:
        """The marks of these guests, which are all that run here now, by guest id."""
        now = self._since_boot()
        runs: dict[str, _Run] = {}
        before = self._runs
        for vm in vms:
            run = before.get(vm.id)
            started = None if vm.elapsed is None else now - vm.elapsed
            if run is None or _is_new(run, vm.elapsed, started):
                run = _Run(uuid.uuid4().hex[:12], now if started is None else started, vm.elapsed or 0.0, now)
                self._written = False
            elif vm.elapsed is not None and started is not None:
                run.elapsed, run.started = vm.elapsed, started
            run.seen = now
            runs[vm.id] = run
        marks = {identity: run.mark for identity, run in runs.items()}
        for identity, run in before.items():
            if identity not in runs and now - run.seen < _KEPT_SECONDS:
                runs[identity] = run
        self._written = self._written and len(runs) == len(before)
        self._runs = runs
        if self._keep and not self._written:
            self._write()
        return marks

    def _write(self) -> None:
        text = json.dumps({"boot": self._boot, "guests": {identity: [run.mark, run.started] for identity, run in self._runs.items()}})
        self._written = True
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            replace_file(self._path, text, durable=False)
        except OSError as error:
            # Without it all works, but what an earlier mom changed on guests is taken for history.
            self._log.warning("%s cannot be written: %s", self._path, error.strerror)


def _is_new(run: _Run, elapsed: float | None, started: float | None) -> bool:
    if elapsed is None or started is None:
        return False
    return elapsed < run.elapsed or started > run.started + _SLACK_SECONDS


def _read(path: Path, boot: str, now: float) -> dict[str, _Run]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(kept, dict) or kept.get("boot") != boot:
            return {}
        return {str(identity): _Run(str(mark), float(started), 0.0, now) for identity, (mark, started) in kept["guests"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
