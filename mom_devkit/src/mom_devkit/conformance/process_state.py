"""What belongs to the whole process and no plugin may change: signal handlers, locale, working directory, environment, umask."""

from __future__ import annotations

import locale
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SIGNALS: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGPIPE,
    signal.SIGCHLD,
    signal.SIGALRM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""Those that a program handles, or might want to."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """How the process was at one moment."""

    handlers: Mapping[int, object]
    locale: str
    directory: str
    environment: Mapping[str, str]
    umask: str

    @classmethod
    def now(cls) -> ProcessState:
        """As it is. Costs some ten microseconds, most of it for the umask, which is read from /proc as asking for it would set it."""
        return cls(
            {number: signal.getsignal(number) for number in SIGNALS},
            locale.setlocale(locale.LC_ALL),
            _directory(),
            dict(os.environ),
            _umask(),
        )

    def changes(self) -> list[str]:
        """What is another now than it was then, in words."""
        now = ProcessState.now()
        found = [f"the handler of {signal.Signals(number).name}" for number in SIGNALS if now.handlers[number] != self.handlers[number]]
        found += [
            f"the {what} ({_short(before)} became {_short(after)})"
            for what, before, after in (
                ("locale", self.locale, now.locale),
                ("working directory", self.directory, now.directory),
                ("umask", self.umask, now.umask),
            )
            if before != after
        ]
        names = sorted(
            name for name in self.environment.keys() | now.environment.keys() if self.environment.get(name) != now.environment.get(name)
        )
        if names:
            found.append(f"the environment ({', '.join(names[:5])})")
        return found

    def put_back(self) -> list[str]:
        """Make everything as it was, and say what was not. Signal handlers only in the main thread, where alone that is possible."""
        found = self.changes()
        if not found:
            return []
        if threading.current_thread() is threading.main_thread():
            for number, handler in self.handlers.items():
                if signal.getsignal(number) != handler and (callable(handler) or isinstance(handler, int)):
                    signal.signal(number, handler)
        locale.setlocale(locale.LC_ALL, self.locale)
        if self.directory and _directory() != self.directory:
            os.chdir(self.directory)
        for name in os.environ.keys() - self.environment.keys():
            del os.environ[name]
        os.environ.update({name: value for name, value in self.environment.items() if os.environ.get(name) != value})
        if self.umask and _umask() != self.umask:
            os.umask(int(self.umask, 8))
        return found


def _directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return ""  # it was removed below us, which no plugin does here


def _umask() -> str:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split()[1] for line in lines if line.startswith("Umask:")), "")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"
