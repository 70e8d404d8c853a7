"""A mover that is a program of the operator's: a fixed list of arguments, no shell, and nothing in it that another host could have written.

It runs as mom's user, with that one's rights, so that only the host's own configuration names it. In place of whole arguments stand what is
to be moved, and where to, each of a type that can be no option and no second argument.
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints

from mom_core import HypervisorError, MomError, NotSupported, PluginContext, PluginSettings, printable, untrusted, user_name
from mom_kvm import Destination, MoveJob, MoverAbilities, MoveReport, ProcessStat
from mom_plugins_sla.eviction.movers.mover_plugin import MoverPlugin
from mom_plugins_sla.eviction.movers.reports import DONE, RUNNING, UNKNOWN, failed

KILL_SECONDS: Final = 20.0
"""How long a command that was told to end (SIGTERM) may take before it is killed."""

KEPT_OUTPUT: Final = 2000
"""Bytes at the end of what a command says that are kept, for its error."""

KEPT_ENDED: Final = 20
"""Commands that have ended and are remembered, the newest: it may be that nobody has looked yet at what came of them. A move whose guest
has gone is never looked at again."""

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@:-]{0,127}")
"""The names and ids that can be an argument: no option, no path, nothing that is split or expanded."""

_PLACES: Final[Mapping[str, Callable[[MoveJob], str]]] = {
    "{guest}": lambda job: job.guest.name,
    "{id}": lambda job: job.guest.id,
    "{host}": lambda job: job.destination.host,
    "{uri}": lambda job: str(job.destination),
    "{move}": lambda job: job.id,
}

_CHECKED: Final = ("{guest}", "{id}")
"""Those whose text another one chooses. The others are of a type that holds nothing else."""

_TO: Final = frozenset({"{host}", "{uri}"})


def _an_argument(text: str) -> str:
    if ("{" in text or "}" in text) and text not in _PLACES:
        raise ValueError(f"a placeholder is a whole argument, one of {', '.join(_PLACES)}; other braces are not taken")
    if "\0" in text:
        raise ValueError("an argument has no null in it")
    return text


Argument = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_an_argument)]


def _a_command(arguments: list[str]) -> list[str]:
    if arguments and not arguments[0].startswith("/"):
        raise ValueError(f"the command {printable(arguments[0], 60)!r} has no absolute path: write /usr/sbin/qm, not qm")
    return arguments


Arguments = Annotated[list[Argument], Field(max_length=100), AfterValidator(_a_command)]


def arguments_of(template: Sequence[str], job: MoveJob) -> list[str]:
    """Return the arguments for one move. Raises `NotSupported` for a guest that has a name which can be no argument."""
    result = []
    for part in template:
        place = _PLACES.get(part)
        text = part if place is None else place(job)
        if part in _CHECKED and _NAME.fullmatch(text) is None:
            what = "name" if part == "{guest}" else "id"
            raise NotSupported(
                f"the guest's {what} {printable(text, 60)!r} can be no argument of a command",
                hint="letters, digits and _ . + @ : - can, with none of . + @ : - at its beginning",
            )
        result.append(text)
    return result


class CommandMover:
    """`Mover` that starts a program for each move.

    :param root: where /proc is found
    """

    def __init__(self, name: str, command: Sequence[str], *, live: bool | None, within: str, root: Path = Path("/")) -> None:
        self.name, self._command, self._proc = name, command, root / "proc"
        self.abilities = MoverAbilities(live, not _TO & set(command), within)
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}

    def why_not(self, destination: Destination) -> str:
        """By the placeholders: a command that has none for the host chooses it."""
        if self.abilities.chooses is (destination == Destination.ANYWHERE):
            return ""
        how = "chooses the host: the destination is `anywhere`" if self.abilities.chooses else "must be told where to"
        return f"the command of {self.name} {how}"

    def begin(self, job: MoveJob) -> str:
        """Start it. Raises `HypervisorError` when it cannot be started."""
        arguments = arguments_of(self._command, job)
        _refuse_foreign(arguments[0])
        try:
            process = subprocess.Popen(  # a list from the host's own configuration, no shell
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise HypervisorError(f"{printable(arguments[0], 100)} cannot be started: {error}") from None
        with self._lock:
            ended = [move for move, run in self._runs.items() if run.process.poll() is not None]
            for move in ended[:-KEPT_ENDED]:
                del self._runs[move]
            self._runs[job.id] = _Run(process)
        return f"{process.pid} {self._started(process.pid)}"

    def look(self, job: MoveJob) -> MoveReport:
        """By its exit code; where an earlier mom started it, only whether it runs still."""
        with self._lock:
            run = self._runs.get(job.id)
        if run is not None:
            return self._look_at(run)
        return RUNNING if self._runs_still(job.reference) else UNKNOWN

    def _look_at(self, run: _Run) -> MoveReport:
        code = run.process.poll()
        if code is None:
            return RUNNING
        run.reader.join(1.0)
        if code == 0:
            return DONE
        if code < 0 and code != -signal.SIGTERM:  # killed, or it has crashed: what it had begun elsewhere may go on without it
            return UNKNOWN
        said = (run.last_words.decode("utf-8", "replace").strip().splitlines() or [""])[-1][-300:]
        how = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
        return failed(f"{said} ({how})" if said else how)

    def cancel(self, job: MoveJob) -> None:
        """Tell it to end, with what it has started; kill it when it does not."""
        with self._lock:
            run = self._runs.get(job.id)
        if run is None:
            if self._runs_still(job.reference):
                _signal_group(int(job.reference.split()[0]), signal.SIGTERM)
            return
        if run.process.poll() is not None:  # its number may be another one's by now
            return
        _signal_group(run.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            run.process.wait(KILL_SECONDS)
            return
        _signal_group(run.process.pid, signal.SIGKILL)

    def ready(self) -> None:
        """Raises `MomError` where there is no command."""
        if not self._command:
            raise MomError("no program is named that moves guests", hint="give it `command`: [/PATH/TO/PROGRAM, ARGUMENT, ...]")

    def check(self) -> str:
        """See that the program can be run, and only root can change it. Raises `MomError`."""
        program = self._command[0]
        _refuse_foreign(program)
        if not os.access(program, os.X_OK):
            raise MomError(f"{program} is no program that can be run", hint="chmod +x it, or name another one")
        return f"guests are moved by {printable(program, 100)}, which runs as user {user_name(os.geteuid())}"

    def _started(self, pid: int) -> int:
        """When that process was started, in ticks; 0: it is not there."""
        found = ProcessStat.of(self._proc / str(pid))
        return 0 if found is None or found.state in "ZX" else found.started

    def _runs_still(self, reference: str) -> bool:
        """Return True while the process of that reference runs, and not another one of the same number."""
        match = re.fullmatch(r"([1-9][0-9]{0,9}) ([1-9][0-9]{0,18})", reference)
        return match is not None and self._started(int(match[1])) == int(match[2])


@dataclass(slots=True)
class _Run:
    """Command that was started here."""

    process: subprocess.Popen[bytes]
    last_words: bytes = b""
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, name="mom command mover", daemon=True)
        self.reader.start()

    def _read(self) -> None:
        """Whatever it says, so that it never waits for a reader; the end is kept."""
        with suppress(OSError, ValueError):
            while self.process.stdout is not None and (part := self.process.stdout.read1(4096)):  # type: ignore[attr-defined]  # buffered
                self.last_words = (self.last_words + part)[-KEPT_OUTPUT:]
        if self.process.stdout is not None:
            self.process.stdout.close()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(OSError):  # it has just ended
        os.killpg(pid, number)


def _environment() -> Mapping[str, str]:
    """Return the environment that a program of the system's needs, and nothing of mom's own."""
    with suppress(KeyError):
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": pwd.getpwuid(os.geteuid()).pw_dir}
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/"}


def _refuse_foreign(program: str) -> None:
    reason = untrusted(Path(program))
    if reason:
        raise NotSupported(
            f"{program} is not run: {reason}", hint="who can write there decides what mom does: `chown root` and `chmod go-w`"
        )


class CommandMoverPlugin(MoverPlugin):
    """Has guests moved by a program."""

    class Settings(PluginSettings):
        """Which program, and what it can do."""

        command: Arguments = Field(default_factory=list)
        """The program by its absolute path, and its arguments, as a list. Whole arguments `{guest}` (name), `{id}`, `{host}` (the
        destination's host), `{uri}` (the whole destination) and `{move}` (of this move, never used again) stand for what is moved and where
        to. A secret belongs in a file that the program reads: arguments are seen by every user of the host. It ends with 0 when the guest
        has moved, otherwise when it has not; told to end (SIGTERM), it gives the move up. A move that ended while mom was restarted
        is over when the guest is gone; else the operator must look."""
        live: bool | None = None
        """Whether the guest works on while it is moved. Unset: unknown, and only guests that may also be saved are moved."""
        within: Annotated[str, StringConstraints(max_length=64)] = ""
        """Between which hosts of a fleet it moves guests: those whose movers have the same word here. Empty: all."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        mover = CommandMover(context.name, settings.command, live=settings.live, within=settings.within, root=context.root)
        super().__init__(mover, "command mover", mover.ready)
