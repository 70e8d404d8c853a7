"""`mom` without arguments: the state of the host, and the next steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mom_daemon.cli.frame import run
from mom_daemon.look.here import HostSight, how_to_start, look, next_steps

MOM = Path(sys.executable).with_name("mom")


def host(folder: Path) -> Path:
    """Create the files of a host with KVM."""
    (folder / "dev").mkdir()
    (folder / "dev/kvm").touch()
    return folder


def commands(sight: HostSight, *, root: bool = True) -> list[str]:
    return [command for command, _ in next_steps(sight, root=root)]


def test_it_sees_kvm_and_that_mom_is_not_configured(tmp_path: Path) -> None:
    assert not look(tmp_path).kvm
    sight = look(host(tmp_path))
    assert (sight.kvm, sight.configured, sight.pid, sight.left) == (True, False, 0, 0)


def test_a_configuration_that_this_user_may_not_look_for_is_not_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator may close a folder to other users."""
    real = Path.stat

    def denied(path: Path, **named: bool) -> os.stat_result:
        if "etc/mom" in str(path):
            raise PermissionError(13, "Permission denied")
        return real(path, **named)

    monkeypatch.setattr(Path, "stat", denied)
    assert look(host(tmp_path)).configured


@pytest.mark.parametrize("text", ['state_directory: "a\\0b"\nrun_directory: "a\\0b"\n', "[", "- 1\n"])
def test_a_configuration_that_is_no_configuration_keeps_nothing_from_being_seen(tmp_path: Path, text: str) -> None:
    (tmp_path / "etc/mom").mkdir(parents=True)
    (tmp_path / "etc/mom/mom.yaml").write_text(text)
    sight = look(host(tmp_path))
    assert (sight.kvm, sight.configured) == (True, True)


def test_a_ledger_with_changes_that_stand_is_told_first(tmp_path: Path) -> None:
    assert commands(HostSight(kvm=True, left=3))[0] == "mom restore"
    (tmp_path / "etc/mom").mkdir(parents=True)
    (tmp_path / "etc/mom/mom.yaml").write_text("state_directory: /srv/state\n")
    (tmp_path / "srv/state").mkdir(parents=True)
    (tmp_path / "srv/state/ledger.json").write_text("damaged")
    sight = look(tmp_path)
    assert sight.left is None, "what the ledger holds is unknown, and not nothing"
    assert dict(next_steps(sight, root=True))["mom status"] == "says why changes of an earlier run of mom are unknown"


def test_a_host_without_configuration_is_led_to_one_and_one_with_it_to_a_run() -> None:
    assert commands(HostSight(kvm=True)) == ["mom config init", "mom doctor", "mom run --observe", "mom run"]
    assert commands(HostSight(kvm=True, configured=True)) == ["mom doctor", "mom run --observe", "mom run"]
    assert commands(HostSight(kvm=True, configured=True), root=False)[0] == "sudo mom doctor"


def test_where_systemd_knows_mom_it_is_started_as_a_service_and_not_by_hand(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/systemd/system").mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/system/mom.service").write_text("")
    assert look(tmp_path).unit
    assert commands(HostSight(kvm=True, configured=True, unit=True))[-1] == "systemctl enable --now mom"
    assert how_to_start(None, tmp_path) == "mom run", "in a container there may be the unit, and no systemd"
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert how_to_start(None, tmp_path) == how_to_start("/etc/mom/mom.yaml", tmp_path) == "systemctl start mom"
    assert how_to_start("other.yaml", tmp_path) == "mom run -c other.yaml"


def test_the_configuration_that_the_environment_names_is_the_one_that_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.yaml"
    monkeypatch.setenv("MOM_CONFIG", str(file))
    assert run([]) == 0
    assert f"mom config init -o {file}" in capsys.readouterr().out
    file.write_text(f"mode: observe\nstate_directory: {tmp_path}/state\nrun_directory: {tmp_path}/run\n")
    assert run([]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"mom is not running; {file} makes mom observe" in said
    assert "systemctl" not in said


def test_where_mom_only_observes_it_is_said_and_how_mom_is_made_to_act(tmp_path: Path) -> None:
    (host(tmp_path) / "etc/mom").mkdir(parents=True)
    file, line = tmp_path / "etc/mom/mom.yaml", "line 2 of /etc/mom/mom.yaml"
    for text, where in (("interval: 5s\nmode: observe\n", line), ("history: 5\n", f"/{file.relative_to(tmp_path)}"), ("[", "")):
        file.write_text(text)
        assert look(tmp_path).observes == where, text
    runs = HostSight(configured=True, observes=line, unit=True, pid=4)
    (said,) = [what for command, what in next_steps(runs, root=True) if command == "systemctl reload mom"]
    assert f"until `mode: enforce` is in {line}" in said
    assert "kill -HUP 4" in commands(HostSight(configured=True, observes=line, pid=4))
    for unit in (True, False):
        *_, (_, started) = next_steps(HostSight(configured=True, observes=line, unit=unit), root=True)
        assert f"until `mode: enforce` is in {line}" in started
    assert not [command for command in commands(HostSight(configured=True, unit=True, pid=4)) if "reload" in command]


@pytest.mark.processes
def test_it_imports_no_plugin() -> None:
    alone = subprocess.run([MOM], capture_output=True, text=True, timeout=60, check=True)
    assert alone.stdout.startswith("mom manages memory overcommitment on KVM hosts.\n")
    assert "What to type next:" in alone.stdout
    program = "import sys; from mom_daemon.cli import main; sys.argv = ['mom']; main(); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert not [name for name in done.stderr.split() if name.startswith("mom_plugins_")]
    assert "pydantic" not in done.stderr.split(), "it is most of a second on a slow host"
