"""A program that moves guests: its arguments, checks of the file, and programs that hang, die or outlive mom."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mom_core import Entity, HypervisorError, NotSupported, PluginContext, Scope
from mom_devkit import wait_until
from mom_kvm import Destination
from mom_plugins_sla.eviction.movers import command
from mom_plugins_sla.eviction.movers.command import CommandMoverPlugin, arguments_of
from mom_plugins_sla.eviction.movers.mover import MoveJob, MoveReport, MoveStanding

pytestmark = pytest.mark.processes

JOB = MoveJob(Entity(Scope.GUEST, "6f2c7c1e-0000-4000-8000-000000000001", "web-1"), Destination.parse("host://pve2"), "ab12", 60.0)


def named(name: str, identity: str = "id-1") -> MoveJob:
    return MoveJob(Entity(Scope.GUEST, identity, name), Destination.parse("qemu+tls://h2/system"), "ab12", 60.0)


def mover(*arguments: str) -> CommandMoverPlugin:
    return CommandMoverPlugin(CommandMoverPlugin.Settings(command=list(arguments)), PluginContext(name="movers"))


def script(folder: Path, text: str, name: str = "move") -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def until(look: Callable[[], MoveReport], *standings: MoveStanding) -> MoveReport:
    return wait_until(lambda: report if (report := look()).standing in standings else None)


def test_it_is_told_what_to_move_in_place_of_whole_arguments_and_no_shell_reads_them(tmp_path: Path) -> None:
    said = tmp_path / "said"
    one = mover(
        script(tmp_path, f"printf '%s\\n' \"$@\" > {said}"), "migrate", "{guest}", "{id}", "{host}", "{uri}", "{move}", "$(reboot); *"
    )
    one.begin(JOB)
    until(lambda: one.look(JOB), MoveStanding.DONE)
    assert said.read_text().splitlines() == ["migrate", "web-1", JOB.guest.id, "pve2", "host://pve2", "ab12", "$(reboot); *"]


@pytest.mark.parametrize("name", ["-o", "a b", "$(reboot)", "../../etc"])
def test_a_guest_that_has_a_name_which_could_be_an_option_or_more_is_not_moved(name: str) -> None:
    with pytest.raises(NotSupported, match="cannot be an argument"):
        mover("/bin/true", "{guest}").begin(named(name))
    with pytest.raises(NotSupported, match="cannot be an argument"):
        mover("/bin/true", "{id}").begin(named("web-1", name))


@given(st.text(max_size=40))
def test_no_name_becomes_anything_but_one_plain_argument(name: str) -> None:
    try:
        arguments = arguments_of(["/bin/true", "{guest}"], named(name))
    except NotSupported:
        return
    assert arguments == ["/bin/true", name]
    assert not name.startswith(("-", "/", "."))
    assert not set(name) & set(" /;&|<>$`\\\"'*?\n\0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["qm", "migrate"], "is not an absolute path"),
        (["/usr/sbin/qm", "--target={host}"], "an argument with braces must be exactly one of"),
        (["/usr/sbin/qm", "{password}"], "an argument with braces must be exactly one of"),
        (["/usr/sbin/qm", "{guest}{host}"], "an argument with braces must be exactly one of"),
        ("/usr/sbin/qm migrate", "list"),
        (["/usr/sbin/qm", 7], "string"),
    ],
)
def test_what_could_be_read_otherwise_than_it_is_meant_is_refused_in_the_configuration(arguments: object, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CommandMoverPlugin.Settings(command=arguments)  # type: ignore[arg-type]  # as in YAML


def test_a_program_that_another_user_could_change_is_not_run(tmp_path: Path) -> None:
    path = script(tmp_path, "exit 0")
    Path(path).chmod(0o777)
    with pytest.raises(NotSupported, match="can be written by everybody"):
        mover(path).begin(JOB)
    with pytest.raises(HypervisorError):
        mover(str(tmp_path / "missing")).begin(JOB)


def test_it_has_failed_by_its_exit_code(tmp_path: Path) -> None:
    one = mover(script(tmp_path, "exit 3"))
    one.begin(JOB)
    report = until(lambda: one.look(JOB), MoveStanding.FAILED)
    assert report.error == "exit code 3: see mom's log"


def test_one_that_another_has_killed_or_that_has_crashed_has_not_said_that_the_guest_stays(tmp_path: Path) -> None:
    for number, standing in (("KILL", MoveStanding.UNKNOWN), ("SEGV", MoveStanding.UNKNOWN), ("TERM", MoveStanding.FAILED)):
        one = mover(script(tmp_path, f"kill -{number} $$", number))
        one.begin(JOB)
        report = until(lambda: one.look(JOB), MoveStanding.UNKNOWN, MoveStanding.FAILED)  # noqa: B023  # it is called here
        assert report.standing is standing
        one.cancel(JOB)


def test_one_that_hangs_gives_up_when_told_to_or_is_killed_with_all_it_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    polite = mover(script(tmp_path, "sleep 300", "polite"))
    polite.begin(JOB)
    assert polite.look(JOB).standing is MoveStanding.RUNNING
    polite.cancel(JOB)
    until(lambda: polite.look(JOB), MoveStanding.FAILED)
    monkeypatch.setattr(command, "KILL_SECONDS", 0.2)
    marker = tmp_path / "marker"
    deaf = mover(script(tmp_path, f"trap '' TERM; touch {marker}; while :; do sleep 1; done", "deaf"))
    deaf.begin(JOB)
    wait_until(marker.exists)
    deaf.cancel(JOB)
    assert until(lambda: deaf.look(JOB), MoveStanding.UNKNOWN).error == "", "what it has begun elsewhere may go on"


def test_after_a_restart_one_that_still_runs_is_known_and_of_one_that_has_ended_nothing_is_guessed(tmp_path: Path) -> None:
    path = script(tmp_path, "sleep 300")
    first, next_one = mover(path), mover(path)
    reference = first.begin(JOB)
    job = MoveJob(JOB.guest, JOB.destination, JOB.id, JOB.seconds, reference=reference)
    assert next_one.look(job).standing is MoveStanding.RUNNING
    next_one.cancel(job)
    until(lambda: first.look(JOB), MoveStanding.FAILED)
    assert next_one.look(job).standing is MoveStanding.UNKNOWN, "how it ended is not known"
    for strange in ("", "1 1", f"{reference.split()[0]} 5", "-1 -1", "x"):
        assert next_one.look(MoveJob(JOB.guest, JOB.destination, "cd34", 60.0, reference=strange)).standing is MoveStanding.UNKNOWN


def test_a_command_without_a_place_for_the_host_chooses_it() -> None:
    told, chooses = mover("/usr/sbin/qm", "migrate", "{id}", "{host}"), mover("/usr/bin/evacuate", "{id}")
    assert not told.abilities.chooses
    assert told.why_not(Destination.ANYWHERE)
    assert not told.why_not(JOB.destination)
    assert chooses.abilities.chooses
    assert chooses.why_not(JOB.destination)
    assert not chooses.why_not(Destination.ANYWHERE)
