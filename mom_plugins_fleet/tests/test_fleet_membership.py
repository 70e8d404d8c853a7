"""Joining a fleet: the written settings work from any folder."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mom_core import MomError, load_config
from mom_plugins_fleet.records import Invitation
from mom_plugins_fleet.verbs import join as membership
from mom_plugins_fleet.verbs import server_setup
from mom_plugins_fleet.verbs.fleet import fleet

OPERATOR = "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK"
TEXT = "# mine\nplugins:  # of this host\n  sim: {}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a configuration and a join file of a host."""
    invitation = Invitation(host="h1", credentials="its key", operators=(OPERATOR,), servers=("tls://nats1:4222",), ca="its certificate")
    (tmp_path / "h1.join").write_bytes(invitation.packed())
    (tmp_path / "mom.yaml").write_text(TEXT)
    (tmp_path / "mom.yaml").chmod(0o640)
    return tmp_path / "mom.yaml"


def joins(config: Path) -> str:
    """Join, and return the error."""
    return str(CliRunner().invoke(fleet, ["join", "-c", str(config), str(config.with_name("h1.join"))]).exception or "")


def test_a_host_joins_by_a_path_that_holds_in_every_folder(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(config.parent)
    done = CliRunner().invoke(fleet, ["join", "-c", "mom.yaml", "h1.join"])
    assert done.exception is None
    assert f"Now reload the mom that uses {config}." in " ".join(done.stdout.split())
    assert "systemctl" not in done.stdout, "another mom is the unit's"
    monkeypatch.chdir("/")
    settings = load_config(config).plugins["fleet"].settings
    assert {settings.key, settings.ca} == {config.with_name("fleet.key"), config.with_name("fleet-ca.pem")}  # type: ignore[attr-defined]  # those of the plugin fleet
    assert config.read_text().startswith("# mine\nplugins:  # of this host\n  fleet:\n    servers: ")
    assert config.read_text().endswith("\n  sim: {}\n")
    assert [path.stat().st_mode & 0o777 for path in (config, config.with_name("fleet.key"))] == [0o640, 0o600]
    before = config.read_text()
    config.with_name("fleet.key").write_text("an old key")
    assert joins(config) == ""
    assert (config.read_text(), config.with_name("fleet.key").read_text()) == (before, "its key"), "with a new key it joins again"
    config.write_text(before.replace("host: ", "host: x", 1).replace('x"h1"', "h2"))
    assert "this host is already in a fleet, with other settings" in joins(config)


def test_the_unit_of_a_host_that_joins_may_use_the_network(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "DEFAULT_CONFIG", config)
    monkeypatch.setattr(membership, "UNITS", config.parent)
    done = CliRunner().invoke(fleet, ["join", "-c", str(config), "--no-restart", str(config.with_name("h1.join"))])
    assert "mom was not restarted (--no-restart was given)" in " ".join(done.stdout.split())
    assert "AF_INET" in (config.parent / "mom.service.d" / "fleet.conf").read_text()


def test_what_cannot_be_used_changes_nothing(config: Path) -> None:
    text = "interval: 5s\nplugins: {sim: {}, policy: {}}\n"
    config.write_text(text)
    assert "its section `plugins` must list one plugin per line" in joins(config)
    config.with_name("h1.join").write_text("{}")
    assert "invalid Invitation record" in joins(config)
    config.with_name("h1.join").unlink()
    assert "h1.join cannot be read: No such file or directory" in joins(config)
    assert config.read_text() == text


def test_a_disk_that_is_full_is_said(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(membership, "replace_file", full)
    with pytest.raises(MomError, match="No space left on device"):
        membership.join(config, config.with_name("h1.join"))
    assert config.read_text() == TEXT


def test_a_fleet_is_begun_by_paths_that_hold_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr(server_setup, "make_server", lambda home, _: made.append(home))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(fleet, ["--home", "nf", "init", "nats1", "--no-start"])
    assert made == [tmp_path / "nf"]
    assert f"nats-server -c {tmp_path}/nf/nats.conf" in " ".join(done.stdout.split())
