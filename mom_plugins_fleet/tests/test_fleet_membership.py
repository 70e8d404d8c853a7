"""How a host joins: what can fail is seen before its token is used, and what is written holds wherever it is read from."""

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mom_core import MomError, load_config
from mom_plugins_fleet.accounts import ACCOUNT, new_seed, pair
from mom_plugins_fleet.host import membership
from mom_plugins_fleet.invitation import Invitation, Token
from mom_plugins_fleet.link import LinkError
from mom_plugins_fleet.verbs import server_setup
from mom_plugins_fleet.verbs.fleet import fleet

OPERATOR = "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK"


class Invited:
    """A host that has a token, and servers that give once what it opens."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config, self.token, self.taken = folder / "mom.yaml", Token.made("h1", pair(new_seed(ACCOUNT)), int(time.time()), bytes(32)), 0
        self.config.write_text("plugins:\n  sim: {}\n")
        self.invitation = Invitation(key="its key", operators=(OPERATOR,), servers=("tls://nats1:4222",), ca="its certificate")
        monkeypatch.setattr(membership, "ask", self.ask)

    def ask(self, *_: Any) -> bytes:
        self.taken += 1
        return self.token.sealed(self.invitation)

    def joins(self) -> None:
        membership.join(self.config, "nats1", self.token)


@pytest.fixture
def invited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invited:
    return Invited(tmp_path, monkeypatch)


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_afterwards_is_said_with_the_file_and_the_cure(invited: Invited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "replace_file", lambda *_, **__: _full())
    with pytest.raises(MomError) as failed:
        invited.joins()
    assert failed.value.message == f"{invited.config.with_name('fleet.key')} cannot be written: No space left on device"
    assert failed.value.hint == "the token is used up: make a new token: `mom fleet enroll h1 --group GROUP --token`"


def test_the_cure_for_a_token_that_is_of_no_use_is_a_whole_command(invited: Invited, monkeypatch: pytest.MonkeyPatch) -> None:
    def over(*_: object) -> None:
        raise LinkError("the servers refuse this key")

    monkeypatch.setattr(membership, "ask", over)
    monkeypatch.setattr(time, "time", lambda: invited.token.ends + 1.0)
    with pytest.raises(MomError) as failed:
        invited.joins()
    assert failed.value.hint.endswith("make a new token: `mom fleet enroll h1 --group GROUP --token`")


def test_plugins_in_one_line_are_not_called_wrong(invited: Invited) -> None:
    text = "interval: 5s\nplugins: {sim: {}, policy: {}}\n"
    invited.config.write_text(text)
    with pytest.raises(MomError, match="its section `plugins` must list one plugin per line"):
        invited.joins()
    assert (invited.config.read_text(), invited.taken) == (text, 0)


def test_a_host_joins_by_a_path_that_holds_in_every_folder(invited: Invited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(invited.config.parent)
    done = CliRunner().invoke(fleet, ["-c", "mom.yaml", "join", "nats1", str(invited.token)])
    assert done.exception is None
    assert f"Now reload the mom that uses {invited.config}." in " ".join(done.stdout.split())
    assert "systemctl" not in done.stdout, "another mom is the unit's"
    monkeypatch.chdir("/")
    settings = load_config(invited.config).plugins["fleet"].settings
    assert {settings.key, settings.ca} == {invited.config.with_name("fleet.key"), invited.config.with_name("fleet-ca.pem")}  # type: ignore[attr-defined]  # those of the plugin fleet


def test_a_fleet_is_begun_by_paths_that_hold_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr(server_setup, "make_server", lambda home, _, store: made.extend([home, store]))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(fleet, ["--home", "nf", "init", "nats1", "--store", "js", "--no-start"])
    assert done.exception is None
    assert made == [tmp_path / "nf", tmp_path / "js"]
    assert f"nats-server -c {tmp_path}/nf/nats.conf" in " ".join(done.stdout.split())
