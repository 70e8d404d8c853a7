"""Mistyped commands of an operator never reach the servers."""

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from memory_store import Memory

from mom_core import ConfigError, MomError, load_config
from mom_kvm import Destination
from mom_plugins_fleet.accounts import FleetRoot
from mom_plugins_fleet.buckets import AUTHORIZED, COORDINATOR, COORDINATORS, LEASES, ORDERS, ROSTER, STATES, StoredEntry
from mom_plugins_fleet.records import AuthorizedKeys, GroupStatus, HostedGuest, HostState, Member, Move, Orders, read
from mom_plugins_fleet.signatures import Signer
from mom_plugins_fleet.verbs.fleet import fleet
from mom_plugins_fleet.verbs.server_setup import make_key
from mom_plugins_fleet.verbs.status import host_rows, print_hosts
from mom_plugins_fleet.view import FleetView

ASK = "mom_plugins_fleet.verbs.home.FleetHome.ask"


class Servers(Memory):
    """Servers that log the order of written records and accounts."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.folder, self.done, self.accounts = folder, list[str](), list[dict[str, Any]]()
        self.fail = ""
        self.now = 0.0
        monkeypatch.setattr(ASK, lambda _self, what: asyncio.run(what(self)))
        monkeypatch.setattr("mom_plugins_fleet.verbs.home.FleetHome.give", lambda _self, *given: self.give(*given))
        monkeypatch.chdir(folder)
        FleetRoot.make(folder / "root.key")
        (folder / "servers").write_text("tls://localhost:1")
        (folder / "ca.pem").write_text("a certificate")
        self.operator = make_key(folder, FleetRoot(folder / "root.key"))
        (folder / "operators").write_text(self.operator)

    def typed(self, *words: str) -> BaseException | None:
        """Run a command. Return its error."""
        return CliRunner().invoke(fleet, ["--home", str(self.folder), *words]).exception

    def printed(self, *words: str) -> str:
        return CliRunner().invoke(fleet, ["--home", str(self.folder), *words]).stdout

    def give(self, *given: str) -> None:
        self._do("give", *["give"] * len(given))
        self.accounts += [json.loads(base64.urlsafe_b64decode(one.split(".")[1] + "==")) for one in given]

    def _do(self, what: str, *done: str) -> None:
        if done and self.fail == what:
            raise MomError("the servers do not answer")
        self.done += done

    @property
    def member(self) -> Member:
        data = self.kept[ROSTER, "h1"].data
        assert data is not None
        return read(Member, data.partition(b"\n")[2])

    async def clock(self) -> float:
        return self.now or time.time()

    async def put(self, bucket: str, key: str, data: bytes, revision: int | None = None) -> int:
        self._do("put", *["put"] if bucket == ROSTER else [])
        stored = await super().put(bucket, key, data, revision)
        self._do("answer", *["answer"] if bucket == ROSTER else [])
        return stored


KEY = "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK"


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Servers:
    """Return servers with the enrolled host h1."""
    found = Servers(tmp_path, monkeypatch)
    assert found.typed("enroll", "h1", "--group", "g1") is None
    assert found.done == ["put", "answer", "give"]
    (tmp_path / "h1.join").unlink()
    found.done.clear()
    return found


@pytest.mark.parametrize("name", ["*", "h1\n", "a" * 64])
@pytest.mark.parametrize("command", [["remove"], ["drain"], ["policy", "show"], ["enroll", "--group", "g1"]])
def test_a_pattern_or_a_typing_error_is_no_name(servers: Servers, command: list[str], name: str):
    assert "is not a valid name of a host or group" in str(servers.typed(*command, "--", name))
    assert servers.done == []


@pytest.mark.parametrize("address", ["h2", "qemu+tls://h2/system\n", "-oProxyCommand=x", "qemu+ext:///system?command=/tmp/evil.sh", ""])
def test_an_address_that_is_none_is_refused_before_a_key_is_made(servers: Servers, address: str):
    assert isinstance(servers.typed("enroll", "h2", "--group", "g1", f"--address={address}"), MomError)
    assert not Path("h2.join").exists()


@pytest.mark.parametrize("wrong", [KEY[:-1] + "H", KEY[:9] + KEY[10] + KEY[9] + KEY[11:]])
@pytest.mark.parametrize("words", [["revoke"], ["authorize"]])
def test_a_key_with_a_typing_error_changes_nothing(servers: Servers, words: list[str], wrong: str):
    known = dict(servers.kept)
    assert f"{wrong} is not a public key of a user: its checksum does not match" in str(servers.typed(*words, wrong))
    assert (servers.done, servers.kept) == ([], known)
    with pytest.raises(ConfigError, match="typing error"):
        load_config({"plugins": {"fleet": {"operators": [wrong]}}})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("operators", KEY[:-1] + "H", "its checksum does not match"),
        ("sign.key", "SU!!", "sign.key contains no NKEY user seed"),
        ("servers", None, "servers cannot be read: No such file or directory"),
        ("servers", "http://h1", "http://h1 is not a server address"),
    ],
)
def test_a_folder_that_is_damaged_is_said(servers: Servers, name: str, text: str | None, said: str):
    if text is None:
        (servers.folder / name).unlink()
    else:
        (servers.folder / name).write_text(text)
    assert said in str(servers.typed("enroll", "h2", "--group", "g1"))
    assert not Path("h2.join").exists()


def test_a_host_whose_removal_was_ended_half_way_is_removed_by_the_next_one(servers: Servers):
    assert servers.typed("remove", "h1") is None
    servers.kept[ORDERS, "h1"] = StoredEntry(9, b"left")
    assert servers.typed("remove", "h1") is None
    assert servers.kept[ORDERS, "h1"].data is None
    assert servers.accounts[-1]["nats"]["limits"]["conn"] == 0
    assert "the fleet has no host h2" in str(servers.typed("remove", "h2"))


def test_a_coordinators_key_is_authorized_once(servers: Servers):
    for _ in range(2):
        assert servers.typed("authorize", KEY) is None
    data = servers.kept[AUTHORIZED, COORDINATORS].data or b""
    assert read(AuthorizedKeys, data.partition(b"\n")[2]).keys == (KEY,)


def test_policies_of_a_group_are_set_shown_as_they_were_set_and_removed(servers: Servers):
    text = "# \x1b[31mred\r\n(+ 1 2)"
    Path("a").write_bytes(text.encode())
    assert servers.typed("policy", "set", "g1", "60_fleet_x", "a") is None
    shown = CliRunner().invoke(fleet, ["--home", str(servers.folder), "policy", "show", "g1", "60_fleet_x"])
    assert shown.stdout_bytes == text.encode()
    assert servers.printed("policy", "show", "g1").startswith("60_fleet_x\nrevision ")
    assert servers.typed("policy", "remove", "g1", "60_fleet_x") is None
    assert json.loads(servers.printed("policy", "show", "g1", "--json"))["policies"] == {}
    assert "the group g1 has no policy 60_fleet_x" in str(servers.typed("policy", "remove", "g1", "60_fleet_x"))
    assert "a fleet policy is named NN_fleet_NAME" in str(servers.typed("policy", "set", "g1", "60_night", "a"))
    Path("a").write_bytes(b"\xff")
    assert "is not valid UTF-8" in str(servers.typed("policy", "set", "g1", "60_fleet_x", "a"))


def test_a_new_key_that_cannot_be_kept_changes_nothing(servers: Servers):
    old = servers.member
    Path("h1.join").mkdir()
    assert "cannot create the key file h1.join: " in str(servers.typed("enroll", "h1", "--group", "g1", "--new-key"))
    assert (servers.done, servers.member) == ([], old)


@pytest.mark.parametrize(("fail", "done"), [("put", []), ("answer", ["put"]), ("give", ["put", "answer"])])
def test_where_the_servers_fail_a_host_keeps_its_old_key_until_the_command_is_repeated(servers: Servers, fail: str, done: list[str]):
    old, servers.fail = servers.member.key_issued, fail
    anew = "enroll", "h1", "--group", "g1", "--new-key"
    assert "do not answer (then repeat the command with --new-key" in str(servers.typed(*anew))
    assert servers.done == done, "its account, which lets its old key in, is as it was"
    assert not Path("h1.join").exists()
    servers.fail = ""
    assert servers.typed(*anew) is None
    assert servers.member.key_issued > old
    assert servers.accounts[-1]["nats"]["revocations"] == {"*": servers.member.key_issued - 1}
    assert servers.accounts[-1]["sub"] == servers.accounts[0]["sub"]


def test_a_change_of_the_group_goes_to_the_account_and_keeps_the_key(servers: Servers):
    before = servers.member.key_issued
    assert servers.typed("enroll", "h1", "--group", "g3") is None
    assert servers.member.key_issued == before
    assert "$KV.mom-groups.g3" in {share["subject"] for share in servers.accounts[-1]["nats"]["imports"]}
    assert servers.accounts[-1]["nats"]["revocations"] == servers.accounts[0]["nats"]["revocations"]
    assert servers.accounts[-1]["iat"] > servers.accounts[0]["iat"], "servers keep the newer one"


def test_by_a_clock_that_is_off_nothing_is_signed_and_no_account_given(servers: Servers):
    servers.now = time.time() - 92_000.0
    for words in (["cordon", "h1"], ["revoke", KEY], ["enroll", "h2", "--group", "g1"]):
        assert "nothing is signed, because the clock here is 1 d 1 h ahead of the servers' clock" in str(servers.typed(*words))
    assert servers.done == []


def test_what_was_signed_by_a_clock_that_was_ahead_is_replaced_by_the_next_change(servers: Servers, monkeypatch):
    signer = Signer((servers.folder / "sign.key").read_text().strip())
    ahead = signer.signed("h1", Member(group="g1"), int(time.time()) + 92_000)
    servers.set(ROSTER, "h1", ahead, None)
    assert servers.typed("drain", "h1") is None
    assert servers.member.draining
    assert servers.typed("uncordon", "h1") is None


def test_a_coordinator_believes_the_operators_of_its_folder_and_not_itself(servers: Servers, monkeypatch):
    given: list[frozenset[str]] = []

    class Seen:
        def __init__(self, *parts: Any) -> None:
            given.append(parts[4])

        async def run(self) -> None:
            """Do nothing."""

    monkeypatch.setattr("mom_plugins_fleet.coordinator.coordinator.Coordinator", Seen)
    assert servers.typed("key", "c1") is None
    assert CliRunner().invoke(fleet, ["--home", "c1", "coordinator"]).exception is None
    assert given == [{servers.operator}]
    assert "cannot create the folder c1: File exists" in str(servers.typed("key", "c1"))


@pytest.mark.parametrize(("ago", "holder"), [(3 * 86_400.0 + 3600.0, None), (10.0, "c1"), (-3600.0, "c1")])
def test_a_fleet_of_which_nobody_has_spoken_for_days_is_not_shown_as_if_it_had_just_now(ago, holder, monkeypatch):
    view, store, at = FleetView(), Memory(), time.time() - ago
    store.kept[STATES, "h1"] = StoredEntry(1, HostState(mode="enforce").packed(), at)
    store.kept[LEASES, COORDINATOR] = StoredEntry(2, b"c1", at + 1)
    asyncio.run(view.load(store))
    view.members.records["h1"] = (1, Member(group="g1"))
    monkeypatch.setattr(ASK, lambda _self, _what: view)
    told = json.loads(CliRunner().invoke(fleet, ["status", "--json"]).stdout)
    (row,) = told["hosts"]
    assert (told["coordinator"], row["silent"]) == (holder, holder is None)
    assert row["age_s"] == pytest.approx(ago if holder is None else 1.0, abs=60.0 if holder is None else 0.9)
    said = " ".join(CliRunner().invoke(fleet, ["status"]).stdout.split())
    assert ("no host has reported for 3 d" in said) == (holder is None)


def test_what_a_host_tells_of_itself_steers_no_terminal(capsys):
    nasty = "\x1b]0;title\x07\n\x9b2J"
    view = FleetView()
    view.members.records["h1"] = (1, Member(group="g1", draining=True, cordoned=True))
    guest = HostedGuest(id="1", name=nasty, stays=nasty)
    state = HostState(mode=nasty, memory_state=nasty, group=GroupStatus(refused=nasty, classes_unused=nasty), guests=(guest,))
    view.states.records["h1"] = (1, state)
    move = Move(guest="1", name=nasty, to="h2", destination=Destination.parse("qemu+tls://h2/system"), takes=1, number=1, error=nasty)
    view.orders.records["h1"] = (1, Orders(moves=(move,)))
    print_hosts([host_rows(view)[0]])
    said = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in said)
    assert said.count("title") >= 6
