"""Mover that runs an operator's program as mom's user, without a shell.

A placeholder is a whole argument, so guests' names cannot add options or arguments.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints

from mom_core import HypervisorError, MomError, NotSupported, PluginContext, PluginSettings, printable, untrusted, user_name
from mom_kvm import Destination, MoverAbilities, ProcessStat
from mom_plugins_sla.eviction.movers.mover import DONE, RUNNING, UNKNOWN, MoveJob, MoveReport, MoverPlugin, failed

KILL_SECONDS: Final = 20.0

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@:-]{0,127}")
"""Names that are safe as arguments: no options, paths or shell characters."""

_PLACEHOLDERS: Final[Mapping[str, Callable[[MoveJob], str]]] = {
    "{guest}": lambda job: job.guest.name,
    "{id}": lambda job: job.guest.id,
    "{host}": lambda job: job.destination.host,
    "{uri}": lambda job: str(job.destination),
    "{move}": lambda job: job.id,
}

_CHECKED: Final = ("{guest}", "{id}")
"""Placeholders with free text. Other placeholders have restricted types."""

_DESTINATIONS: Final = frozenset({"{host}", "{uri}"})


def _argument(text: str) -> str:
    if ("{" in text or "}" in text) and text not in _PLACEHOLDERS:
        raise ValueError(f"an argument with braces must be exactly one of {', '.join(_PLACEHOLDERS)}")
    if "\0" in text:
        raise ValueError("an argument must not contain a null character")
    return text


Argument = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_argument)]


def _command_line(arguments: list[str]) -> list[str]:
    if arguments and not arguments[0].startswith("/"):
        raise ValueError(f"the command {printable(arguments[0], 60)!r} is not an absolute path: write /usr/sbin/qm, not qm")
    return arguments


Arguments = Annotated[list[Argument], Field(max_length=100), AfterValidator(_command_line)]


def arguments_of(template: Sequence[str], job: MoveJob) -> list[str]:
    """Return the program's arguments. Raise `NotSupported` for an unsafe name or id."""
    result = []
    for part in template:
        value_of = _PLACEHOLDERS.get(part)
        text = part if value_of is None else value_of(job)
        if part in _CHECKED and _NAME.fullmatch(text) is None:
            subject = "name" if part == "{guest}" else "id"
            raise NotSupported(
                f"the guest's {subject} {printable(text, 60)!r} cannot be an argument of a command",
                hint="use letters, digits and _ . + @ : -, with a letter, a digit or _ at the beginning",
            )
        result.append(text)
    return result


class CommandMoverPlugin(MoverPlugin):
    """Plugin that moves guests with a program, started for each move."""

    subject = "command mover"

    class Settings(PluginSettings):
        """Program and its abilities."""

        command: Arguments = Field(default_factory=list)
        """Absolute path of the program and its arguments, as a list. mom replaces whole arguments: `{guest}` (name), `{id}`, `{host}` (the
        destination's host), `{uri}` (the whole destination) and `{move}` (unique id of the move). Put a secret into a file, because every
        user of the host sees arguments. Exit code 0 means that the guest has moved; any other code means that it has not. On SIGTERM the
        program must cancel the move. If a move ends while mom restarts, the move counts as done once the guest is gone. Otherwise the
        operator must check."""
        live: bool | None = None
        """Whether the guest runs during the move. Unset: unknown, so mom moves only guests that may also be saved."""
        within: Annotated[str, StringConstraints(max_length=64)] = ""
        """Group of hosts in a fleet: guests move between hosts with the same value. If empty, between all hosts."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        super().__init__(context.name, MoverAbilities(settings.live, not _DESTINATIONS & set(settings.command), settings.within))
        self._command, self._proc = settings.command, context.root / "proc"
        self._runs: dict[str, subprocess.Popen[bytes]] = {}

    def why_not(self, destination: Destination) -> str:
        """Return why the command cannot move guests there; empty if it can. Without a host placeholder, it accepts only `ANYWHERE`."""
        if self.abilities.chooses is (destination == Destination.ANYWHERE):
            return ""
        reason = "chooses the host: use the destination `anywhere`" if self.abilities.chooses else "needs a host as destination"
        return f"the command of {self.name} {reason}"

    def begin(self, job: MoveJob) -> str:
        """Start the program; return PID and start time. Raise `HypervisorError` if impossible."""
        arguments = arguments_of(self._command, job)
        _refuse_foreign(arguments[0])
        try:
            process = subprocess.Popen(  # a list from the host's own configuration, no shell
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=None,  # to mom's log
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise HypervisorError(f"cannot start {printable(arguments[0], 100)}: {error}") from None
        self._runs[job.id] = process
        return f"{process.pid} {self._started(process.pid)}"

    def look(self, job: MoveJob) -> MoveReport:
        """Return the result. If an earlier mom process started the program, the result only says whether the program is running."""
        run = self._runs.get(job.id)
        if run is None:
            return RUNNING if self._runs_still(job.reference) else UNKNOWN
        code = run.poll()
        if code is None:
            return RUNNING
        self._runs.pop(job.id, None)  # the move is over
        if code == 0:
            return DONE
        if code < 0 and code != -signal.SIGTERM:  # killed or crashed; the move may continue
            return UNKNOWN
        return failed(f"exit code {code}: see mom's log" if code > 0 else f"ended by signal {-code}")

    def cancel(self, job: MoveJob) -> None:
        """Terminate the program and its children; kill them after `KILL_SECONDS`."""
        run = self._runs.get(job.id)
        if run is None:
            if self._runs_still(job.reference):
                _signal_group(int(job.reference.split()[0]), signal.SIGTERM)
            return
        if run.poll() is not None:  # its pid may be reused
            return
        _signal_group(run.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            run.wait(KILL_SECONDS)
            return
        _signal_group(run.pid, signal.SIGKILL)

    def ready(self) -> None:
        """Raise `MomError` if no command is set."""
        if not self._command:
            raise MomError("the setting `command` is missing", hint="set `command: [/PATH/TO/PROGRAM, ARGUMENT, ...]`")

    def check(self) -> str:
        """Return how guests move. Raise `MomError` if the program cannot run, or users other than root can change it."""
        program = self._command[0]
        _refuse_foreign(program)
        if not os.access(program, os.X_OK):
            raise MomError(f"{program} is not executable", hint="run `chmod +x` on it, or set another program")
        return f"guests are moved by {printable(program, 100)}, which runs as user {user_name(os.geteuid())}"

    def _started(self, pid: int) -> int:
        status = ProcessStat.of(self._proc / str(pid))
        return 0 if status is None or status.state in "ZX" else status.started

    def _runs_still(self, reference: str) -> bool:
        match = re.fullmatch(r"([1-9][0-9]{0,9}) ([1-9][0-9]{0,18})", reference)
        return match is not None and self._started(int(match[1])) == int(match[2])


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(OSError):  # the command has just ended
        os.killpg(pid, number)


def _environment() -> Mapping[str, str]:
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": str(Path.home())}


def _refuse_foreign(program: str) -> None:
    reason = untrusted(Path(program))
    if reason:
        raise NotSupported(
            f"mom does not run {program}: {reason}", hint="only root must be able to change it: `chown root` and `chmod go-w`"
        )
