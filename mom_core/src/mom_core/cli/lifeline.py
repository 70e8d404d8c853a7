"""What keeps a running mom safe: the guardian beside it, systemd's watchdog, and a copy of the configuration with which to put back."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Final

from mom_core.config import Config, load_config
from mom_core.engine import Engine
from mom_core.errors import MomError, StateError
from mom_core.guardian import command, guarded, something_left
from mom_core.lease import LeaseFile
from mom_core.model import Report
from mom_core.notify import Notifier
from mom_core.processes import boot_id
from mom_core.state_files import LARGEST_BYTES, StateFile

LOG = logging.getLogger("mom.guardian")

IN_FORCE: Final = "in-force.json"
"""The configuration in force, in the run directory: the file may be changed, or broken, when something is to be put back."""

RETRY_SECONDS: Final = 10.0
"""Between two attempts to start a guardian: one that starts takes 0.1 s, one that cannot be started is tried six times a minute."""

MARGIN_SECONDS: Final = 5.0
"""What the watchdog gives beyond the longest cycle, and systemd beyond the longest stop."""

PUT_BACK_SECONDS: Final = 15.0
"""How long a new mom waits for a guardian that puts back what others have left. That takes some seconds; when it takes longer, the
hypervisor does not answer, and the new mom may as well take over."""


class Lifeline:
    """Everything outside the engine that says or sees whether it is alive. Used from the engine's thread and from signal handlers."""

    def __init__(self) -> None:
        self._notifier = Notifier()
        self._config: Config | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._started = self._seen = float("-inf")
        self._reloading = False

    def opened(self, engine: Engine) -> None:
        """Everything is set up."""
        self._take_in(engine)
        self._notifier.ready("doing the first cycle")

    def reloading(self) -> None:
        """A new configuration is about to be read."""
        self._reloading = True
        self._notifier.reloading()

    def cycle_done(self, engine: Engine, report: Report, summary: str) -> None:
        """A cycle was completed: only that feeds the watchdog."""
        self._take_in(engine)
        if self._reloading:
            self._reloading = False
            self._notifier.ready()
        self._notifier.alive(f"cycle {report.number}: {summary}" if self._notifier else "")

    def stopping(self, config: Config, *, keep: bool) -> None:
        """mom was told to end."""
        self._notifier.stopping(config.stop_timeout + MARGIN_SECONDS, "keeping what was changed" if keep else "putting everything back")

    def ended(self, engine: Engine) -> None:
        """All that could be done is done."""
        if not engine.ledger_entries:
            (engine.config.run_directory / IN_FORCE).unlink(missing_ok=True)

    def _take_in(self, engine: Engine) -> None:
        config = engine.config
        if config is not self._config:
            self._config = config
            self._notifier.needs(engine.patience + MARGIN_SECONDS)
            try:
                in_force(config.run_directory).write(config.in_force(secrets=True), durable=False)
            except StateError as error:
                LOG.error("%s", error)
        if config.lease > 0:
            self._ensure_guardian(config)

    def _ensure_guardian(self, config: Config) -> None:
        """One is there, whoever started it; a look costs some ten microseconds."""
        if self._child is not None:
            self._child.poll()  # takes note of one that has ended
        now = time.monotonic()
        if guarded(config.run_directory):
            self._seen = now
            return
        # One that was there and is gone is perhaps a service, which is started again by whoever has started it.
        if now - max(self._started, self._seen) < RETRY_SECONDS:
            return
        if max(self._started, self._seen) > 0:
            LOG.warning("the guardian has ended; another one is started")
        self._started = now
        words = command(config.run_directory, config.state_directory)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("NOTIFY_", "WATCHDOG_"))}
        try:
            # A session of its own: what ends mom from a terminal does not end it.
            self._child = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/", env=environment)
        except OSError as error:
            LOG.error("no guardian can be started, so nothing is put back if mom hangs or dies: %s", error)


def let_guardian_finish(config: Config, stopped: threading.Event) -> None:
    """Wait while a guardian puts back what is left of moms whose lease is over for good.

    One that came in between would keep `mom restore` from it, and begin a lease anew; and so would all that die as early and follow it.
    """
    file, boot, until = LeaseFile(config.run_directory), boot_id(), time.monotonic() + PUT_BACK_SECONDS
    waits = False
    while config.lease > 0 and time.monotonic() < until and not stopped.is_set():
        term = file.term()
        if term is None or term.ended or term.boot != boot or time.monotonic() < term.limit:
            return
        if not something_left(config.state_directory) or not guarded(config.run_directory):
            return
        if not waits:
            LOG.info(
                "the lease of an earlier mom is over: waiting until the guardian has put back what it left, for %g s at most",
                PUT_BACK_SECONDS,
            )
            waits = True
        stopped.wait(0.1)


def config_as_left(directory: Path) -> Config:
    """The configuration that the last mom with this run directory had in force.

    :raises MomError: there is none, or somebody else may have written it
    """
    path = directory / IN_FORCE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in {0, os.geteuid()} or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise MomError(f"{path} is not used: others may have written it", hint="name the configuration with -c")
            content = in_force(directory).decoded(file.read(LARGEST_BYTES + 1))
    except OSError as error:
        raise MomError(f"cannot read {path}: {error.strerror}", hint="name the configuration with -c") from error
    except StateError as error:
        raise MomError(error.message, hint="name the configuration with -c") from error
    return load_config(content)


def in_force(directory: Path) -> StateFile[dict[str, Any]]:
    """The file with the configuration in force."""
    return StateFile(directory / IN_FORCE, "the copy of the configuration in force", _settings, mode=0o600, log=LOG)


def _settings(content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise TypeError("it is no configuration")
    return content
