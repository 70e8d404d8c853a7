"""Commands never report no guests if the guests are unknown, and wait for a slow hypervisor."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mom_core import (
    Condition,
    Config,
    Declarations,
    EngineState,
    Guest,
    HypervisorError,
    MomError,
    PluginSettings,
    Report,
    Severity,
    Verdict,
    hookimpl,
)
from mom_core.testing import snapshot
from mom_daemon import NoSuchGuest, doctor, find_guest
from mom_daemon.look.sources import LOOK_SECONDS, look
from mom_daemon.look.status import _show
from mom_daemon.report_models import ReportDocument, report_document
from mom_daemon.report_words import reported
from mom_daemon.status_file import RunningStatus
from mom_devkit import config_of

WHY = "the guests are unknown: libvirtd is away"
UNKNOWN = Condition("guests", WHY, cure="check that the hypervisor is running", plugins=("core",))


def document(*conditions: Condition, **guests: dict[str, Any]) -> ReportDocument:
    verdict = Verdict(conditions)
    report = Report(7, 1.5, "enforce", snapshot(guests=guests), (), (), (), (), (), 0.1, verdict=verdict)
    return report_document(report, Declarations(), EngineState(), 5.0)


def test_a_guest_that_is_looked_for_is_unknown_and_not_gone() -> None:
    report = reported(document(UNKNOWN))
    with pytest.raises(MomError, match=WHY) as raised:
        find_guest(report.snapshot.guests, "web-1", report.guests_unknown)
    assert not isinstance(raised.value, NoSuchGuest)
    assert raised.value.hint == "check that the hypervisor is running"


@pytest.mark.parametrize(
    "condition",
    [Condition("guests", WHY, severity=Severity.OK, plugins=("core",), over=70.0), Condition("guests", "too many", plugins=("quota",))],
    ids=["it is over", "another plugin's"],
)
def test_what_does_not_say_so_now_hides_no_missing_guest(condition: Condition) -> None:
    report = reported(document(condition))
    with pytest.raises(NoSuchGuest):
        find_guest(report.snapshot.guests, "web-1", report.guests_unknown)


@pytest.mark.parametrize(("conditions", "told"), [([UNKNOWN], "guests unknown; decided"), ([], "0 guests; decided")])
def test_the_status_counts_no_unknown_guests(conditions: Sequence[Condition], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    _show(Config(), RunningStatus(document(*conditions), 1, 0.0, "here"))
    assert told in capsys.readouterr().out


class AwayHost:
    """Unreachable hypervisor."""

    uri = "away:///"
    Settings = PluginSettings

    def __init__(self, settings: PluginSettings, context: Any) -> None:
        pass

    @hookimpl
    def mom_hypervisor(self) -> Any:
        return self

    def guests(self) -> Sequence[Guest]:
        raise HypervisorError("libvirtd is away", hint="start it")


def test_a_look_without_a_running_mom_takes_no_silence_for_an_empty_host(tmp_path: Path) -> None:
    with pytest.raises(MomError, match=f": {WHY}") as raised:
        look(config_of(tmp_path, {"away": AwayHost}))
    assert str(raised.value) == f"away: {WHY} (start it; `mom doctor` says more)", "one cure, and that of who knows it"


def test_doctor_sends_nobody_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    condition = Condition("guests", WHY, cure="start it; `mom doctor` says more", plugins=("core",))
    monkeypatch.setattr(doctor, "read_status", lambda _: RunningStatus(document(condition), 1, 0.0))
    (found,) = (finding for _, finding in doctor._daemon(Config(), 1) if finding.subject == "verdict")
    assert (found.message, found.cure) == (f"{WHY}, for less than 1 s", "start it")


def test_a_configuration_without_a_hypervisor_is_an_error_and_not_a_host_without_guests(tmp_path: Path, mom) -> None:
    file = tmp_path / "mom.yaml"
    file.write_text(f"plugins: {{host: {{}}}}\nstate_directory: {tmp_path}\nrun_directory: {tmp_path}/run\n")
    code, out, err = mom("guests", "-c", file)
    assert (code, out) == (1, "")
    assert "no enabled plugin provides a hypervisor" in err


class SlowHost(AwayHost):
    """Hypervisor that answers later than the deadline of a cycle."""

    class Settings(PluginSettings):
        deadline: Any = 0.2

    def __init__(self, settings: PluginSettings, context: Any) -> None:
        self.given = settings.deadline

    def guests(self) -> Sequence[Guest]:
        time.sleep(0.6)
        return [Guest("1", f"booting, given {self.given:g} s")]


def test_guests_of_a_slow_host_are_listed_though_a_cycle_would_not_wait_for_them(tmp_path: Path) -> None:
    seen, problems = look(config_of(tmp_path, {"slow": SlowHost}))
    assert [row[1] for row in seen["guests"]["rows"]] == [f"booting, given {LOOK_SECONDS:g} s"]
    assert not problems
