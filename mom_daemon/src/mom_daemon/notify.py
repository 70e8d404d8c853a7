"""Messages to systemd: sd_notify(3), for `Type=notify` with `WatchdogSec`."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

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
