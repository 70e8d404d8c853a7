"""Messages to mom's supervisor (sd_notify(3), for `Type=notify` with `WatchdogSec`), and files for `mom restore`."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from mom_core import Config, Engine, MomError, Report, StateError, StateFile, load_config, untrusted

LOG = logging.getLogger("mom")

IN_FORCE: Final = "in-force.json"
"""Copy of the configuration in force, for `mom restore`."""

KEEP: Final = "keep"
"""File that tells `mom restore --if-unclean` to leave mom's changes to the next start. The command removes this file."""

MARGIN_SECONDS: Final = 5.0
"""Seconds that watchdog and systemd wait beyond mom's time limits."""

RELOAD_SECONDS: Final = 60.0
"""Watchdog period of a reload, in addition to the time to restore values."""

NAME_IT: Final = "give the path of the configuration with -c"


class Supervision:
    """Reporter to the supervisor. Safe in signal handlers."""

    def __init__(self) -> None:
        self._notifier = Notifier()
        self._config: Config | None = None
        self._reloading = False
        self._kept = False
        self._puts_back = False

    def opened(self, engine: Engine) -> None:
        """Report that mom is set up."""
        self._keep(engine.config, wanted=False)
        self._take_in(engine)
        self._notifier.ready("doing the first cycle")

    def progress(self) -> None:
        """Feed the watchdog."""
        self._notifier.progress()

    def reloading(self) -> None:
        """Report the start of a reload."""
        self._reloading = True
        put_back = 0.0 if self._config is None else self._config.stop_timeout  # for values whose plugin is not in the new configuration
        self._notifier.needs(RELOAD_SECONDS + put_back)
        self._notifier.reloading()

    def cycle_done(self, engine: Engine, report: Report, summary: str) -> None:
        """Report a finished cycle."""
        self._take_in(engine)
        if not self._kept:
            self._keep(engine.config, wanted=True)
        if self._reloading:
            self._reloading = False
            self._notifier.ready()
        self._notifier.alive(f"cycle {report.number}: {summary}" if self._notifier else "")

    def stopping(self, config: Config, *, keep: bool) -> None:
        """Report that mom stops."""
        self._keep(config, wanted=keep)
        self._kept = True  # the end of the running cycle must not change this
        self._puts_back = not keep
        self._notifier.stopping(config.stop_timeout + MARGIN_SECONDS, "keeping its changes" if keep else "restoring all values")

    def ended(self, engine: Engine) -> None:
        """Remove files that `mom restore` no longer needs."""
        if self._puts_back:  # a cycle may have created the file just before the signal
            self._keep(engine.config, wanted=False)
        copy = engine.config.run_directory / IN_FORCE
        try:
            if not engine.state().changes:
                copy.unlink(missing_ok=True)
        except OSError as error:
            LOG.error("cannot remove %s: %s", copy, error.strerror)

    def _take_in(self, engine: Engine) -> None:
        config = engine.config
        self._notifier.needs(engine.longest_step + MARGIN_SECONDS)
        if config is not self._config:
            try:
                in_force(config.run_directory).write(config.given, durable=False)
            except StateError as error:  # the next cycle tries again
                LOG.error("%s", error)
            else:
                self._config = config

    def _keep(self, config: Config, *, wanted: bool) -> None:
        path = config.run_directory / KEEP
        try:
            if wanted:
                path.touch(mode=0o600)
            else:
                path.unlink(missing_ok=True)
            self._kept = wanted
        except OSError as error:  # the next cycle tries again, unless mom ends
            LOG.error("cannot record in %s whether changes are kept for the next start of mom: %s", path, error.strerror)


def take_keep(directory: Path) -> bool:
    """Return whether the last run of mom kept its changes. Only the first call returns True."""
    try:
        (directory / KEEP).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise MomError(f"cannot remove {directory / KEEP}: {error.strerror}", hint="run as root") from error
    return True


def config_as_left(directory: Path) -> Config:
    """Return the last configuration in force. Raise `MomError` if there is none, or if another user could have written it."""
    copy = in_force(directory)
    reason = untrusted(copy.path)
    try:
        content = None if reason else copy.look()
    except StateError as error:
        raise MomError(error.message, hint=NAME_IT) from error
    if content is None:
        raise MomError(f"{copy.path} cannot be used: {reason or 'no such file'}", hint=NAME_IT)
    return load_config(content)


def in_force(directory: Path) -> StateFile[dict[str, Any]]:
    """Return the copy of the configuration in force."""
    return StateFile(directory / IN_FORCE, "the copy of the configuration in force", TypeAdapter(dict[str, Any]), mode=0o600, log=LOG)


# --- systemd -------------------------------------------------------------------------------------------------------------------

SECONDS: Final = 0.5
"""Longest wait for a busy systemd."""

FEEDS: Final = 8
"""Maximum number of messages per watchdog period."""


class Notifier:
    """Sender of messages, if a supervisor requested them."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A path, or @ and an abstract name. Other forms (vsock:) are for virtual machines.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address if address.startswith("/") else ""
        self._watchdog = 0.0
        with suppress(ValueError):
            if environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
                self._watchdog = int(environment.get("WATCHDOG_USEC", "0")) / 1e6
        self.watchdog_seconds = self._watchdog if self._address else 0.0
        """Period in which systemd expects a message; 0 without a watchdog."""
        self._fed = float("-inf")

    def __bool__(self) -> bool:
        return bool(self._address)

    def ready(self, status: str = "") -> None:
        """Report the end of setup or reload."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """Report the start of a reload. Call `ready` afterwards."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, seconds: float, status: str = "") -> None:
        """Report that mom stops within this time."""
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}", _status(status))

    def alive(self, status: str = "") -> None:
        """Feed the watchdog and report mom's current work."""
        self._fed = time.monotonic()
        self._send("WATCHDOG=1" if self.watchdog_seconds else "", _status(status))

    def progress(self) -> None:
        """Feed the watchdog, unless it was fed just before."""
        if self.watchdog_seconds and time.monotonic() - self._fed >= self.watchdog_seconds / FEEDS:
            self.alive()

    def needs(self, seconds: float) -> None:
        """Set the watchdog period to this many seconds, but never below systemd's own."""
        longest = max(seconds, self._watchdog)
        if self.watchdog_seconds and longest != self.watchdog_seconds:
            self.watchdog_seconds = longest
            self._send(f"WATCHDOG_USEC={round(longest * 1e6)}")

    def _send(self, *lines: str) -> None:
        message = "\n".join(line for line in lines if line)
        if not self._address or not message:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(SECONDS)
            sender.sendto(message.encode(errors="backslashreplace"), self._address)


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}" if text else ""
