"""What an operator mistypes never reaches the servers."""

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
from mom_plugins_fleet.accounts import USER, FleetRoot, new_seed
from mom_plugins_fleet.records import Group, GroupStatus, HostedGuest, HostState, Lease, Member, Move, Orders, read
from mom_plugins_fleet.signatures import Signer
from mom_plugins_fleet.subjects import COORDINATOR, LEASES, ORDERS, ROSTER, STATES, StoredEntry
from mom_plugins_fleet.verbs import enroll
from mom_plugins_fleet.verbs.changes import change
from mom_plugins_fleet.verbs.fleet import fleet
from mom_plugins_fleet.verbs.status import host_rows, print_hosts, remarks_of
from mom_plugins_fleet.verbs.where import Where
from mom_plugins_fleet.view import FleetView

NOBODY = ["--server", "nats://localhost:1"]


@pytest.mark.parametrize("name", ["*", "h1\n", "a" * 64])
@pytest.mark.parametrize("command", [["remove"], ["drain"], ["policy", "show"], ["enroll", "--group", "g1"]])
def test_a_pattern_or_a_typing_error_is_no_name(command, name, monkeypatch):
    monkeypatch.setattr("mom_plugins_fleet.verbs.fleet.Where.ask", lambda _self, what: asyncio.run(what(None)))  # servers cannot be asked
    done = CliRunner().invoke(fleet, [*NOBODY, *command, "--", name])
    assert isinstance(done.exception, MomError)
    assert "is not a valid name of a host or group" in done.exception.message


def test_a_token_without_tls_is_refused_before_anything_is_changed():
    done = CliRunner().invoke(fleet, [*NOBODY, "enroll", "h1", "--group", "g1", "--token"])
    assert "a token needs servers with TLS" in str(done.exception)


@pytest.mark.parametrize("address", ["h2", "qemu+tls://h2/system\n", "-oProxyCommand=x", "qemu+ext:///system?command=/tmp/evil.sh", ""])
def test_an_address_that_is_none_is_refused_before_a_key_is_made(tmp_path, address):
    key = tmp_path / "h2.key"
    done = CliRunner().invoke(fleet, [*NOBODY, "enroll", "h2", "--group", "g1", f"--address={address}", "--new-key", str(key)])
    assert isinstance(done.exception, MomError)
    assert not key.exists()


class Servers(Memory):
    """They have noted, in order, that the host's record was set and that accounts were given."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.folder, self.done, self.accounts = folder, list[str](), list[dict[str, Any]]()
        self.fail = ""
        self.now = 0.0
        monkeypatch.setattr("mom_plugins_fleet.verbs.fleet.Where.ask", lambda _self, what: asyncio.run(what(self)))
        monkeypatch.setattr("mom_plugins_fleet.verbs.fleet.Where.give", lambda _self, *given: self.give(*given))
        FleetRoot.make(folder / "root.key")
        self.typed("key", str(folder / "operator.key"))

    def typed(self, *words: str) -> BaseException | None:
        """What went wrong."""
        at = ["--server", "tls://localhost:1", "--root", str(self.folder / "root.key"), "--key", str(self.folder / "operator.key")]
        return CliRunner().invoke(fleet, [*at, *words]).exception

    def enroll(self, key: str) -> BaseException | None:
        return self.typed("enroll", "h1", "--group", "g1", "--new-key", str(self.folder / key))

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


@pytest.mark.parametrize("wrong", [KEY[:-1] + "H", KEY[:9] + KEY[10] + KEY[9] + KEY[11:]])
@pytest.mark.parametrize("words", [["revoke"], ["authorize"], ["countersign"], ["--operator"]])
def test_a_key_with_a_typing_error_changes_nothing(servers: Servers, words: list[str], wrong: str):
    known = dict(servers.kept)
    more = ["status"] if words == ["--operator"] else []
    assert f"{wrong} is not a public key of a user: its checksum does not match" in str(servers.typed(*words, wrong, *more))
    assert (servers.done, servers.kept) == ([], known)
    with pytest.raises(ConfigError, match="typing error"):
        load_config({"plugins": {"fleet": {"operators": [wrong]}}})


def test_a_host_whose_removal_was_ended_half_way_is_removed_by_the_next_one(servers: Servers):
    assert servers.enroll("h1.key") is None
    assert servers.typed("remove", "h1") is None
    servers.kept[ORDERS, "h1"] = StoredEntry(9, b"left")
    assert servers.typed("--anew", "remove", "h1") is None
    assert servers.kept[ORDERS, "h1"].data is None
    assert "the fleet has no host h1" in str(servers.typed("--anew", "remove", "h1"))


def test_an_operator_goes_on_with_servers_that_were_set_back_after_saying_so(servers: Servers, capsys):
    before = servers.kept[ROSTER, "h1"]
    assert servers.typed("drain", "h1") is None
    assert servers.typed("balance", "h1") is None  # which notes that it is drained
    servers.kept[ROSTER, "h1"] = before
    for words in (["drain", "h1"], ["enroll", "h1", "--group", "g1"], ["remove", "h1"]):
        said = str(servers.typed(*words))
        assert ", which was in force here" in said
        assert "`mom fleet --anew`" in said
    at = ["--server", "tls://localhost:1", "--key", str(servers.folder / "operator.key")]
    shown = CliRunner().invoke(fleet, [*at, "--anew", "cordon", "h1"]).output
    assert "+ group: g1" in shown, "all of it is shown, as others may have set it"
    assert read(Member, (servers.kept[ROSTER, "h1"].data or b"").partition(b"\n")[2]).cordoned
    assert servers.typed("drain", "h1") is None, "and it is the newest now"


def test_a_coordinators_key_that_was_not_authorized_is_not_said_to_be_removed(servers: Servers):
    assert "is not authorized (authorized: no coordinator)" in str(servers.typed("authorize", "--remove", KEY))
    assert servers.typed("authorize", KEY) is None
    assert f"is not authorized (authorized: {KEY})" in str(servers.typed("authorize", "--remove", KEY[:-1] + "H"))
    assert servers.typed("authorize", "--remove", KEY) is None


def test_at_a_terminal_it_is_asked_whether_an_operator_means_to_revoke_the_own_key(servers: Servers, monkeypatch):
    def no(question: str) -> None:
        raise MomError("nothing was revoked")

    monkeypatch.setattr("mom_plugins_fleet.verbs.keys.ask_a_person", no)
    own = Where(["tls://localhost:1"], str(servers.folder / "operator.key")).signer().public
    assert "nothing was revoked" in str(servers.typed("revoke", own))
    assert servers.done == []
    assert servers.typed("revoke", KEY) is None
    assert servers.done == ["give"]


def test_a_policy_that_no_host_can_read_is_not_signed(servers: Servers):
    known = dict(servers.kept)
    (servers.folder / "bad.policy").write_text("(if (")
    said = str(servers.typed("policy", "set", "g1", "60_fleet_x", str(servers.folder / "bad.policy")))
    assert f"{servers.folder}/bad.policy:1:5: syntax: ( is never closed" in said
    assert servers.kept == known
    (servers.folder / "good.policy").write_text('(host.Control "what_hosts_have" 1)')
    assert servers.typed("policy", "set", "g1", "60_fleet_x", str(servers.folder / "good.policy")) is None


def test_of_a_group_that_is_new_it_is_said(servers: Servers, capsys):
    (servers.folder / "a").write_text("(+ 1 2)")
    at = ["--server", "tls://localhost:1", "--root", str(servers.folder / "root.key"), "--key", str(servers.folder / "operator.key")]

    def printed(*words: str) -> str:
        return CliRunner().invoke(fleet, [*at, *words]).stdout

    assert "new" not in printed("policy", "set", "g1", "60_fleet_a", str(servers.folder / "a"))
    assert "The group kmv is new: no host is in it yet." in printed("policy", "set", "kmv", "60_fleet_a", str(servers.folder / "a"))
    assert "new" not in printed("enroll", "h1", "--group", "g1")
    assert "The group kvn is new: it has no policies yet." in printed("enroll", "h1", "--group", "kvn")


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Servers:
    """Servers that know the host h1."""
    found = Servers(tmp_path, monkeypatch)
    assert found.enroll("first.key") is None
    assert found.done == ["put", "answer", "give"]
    found.done.clear()
    return found


def test_a_new_key_that_cannot_be_kept_changes_nothing(servers: Servers):
    old = servers.member
    assert f"cannot create the key file {servers.folder / 'gone/second.key'}: " in str(servers.enroll("gone/second.key"))
    assert (servers.done, servers.member) == ([], old)


@pytest.mark.parametrize(("fail", "done"), [("put", []), ("answer", ["put"]), ("give", ["put", "answer"])])
def test_where_the_servers_fail_a_host_keeps_its_old_key_until_the_command_is_repeated(servers: Servers, fail: str, done: list[str]):
    old, servers.fail = servers.member.key_issued, fail
    assert "do not answer" in str(servers.enroll("second.key"))
    assert servers.done == done, "its account, which lets its old key in, is as it was"
    assert not (servers.folder / "second.key").exists()
    servers.fail = ""
    assert servers.enroll("second.key") is None
    assert servers.member.key_issued > old
    assert servers.accounts[-1]["nats"]["revocations"] == {"*": servers.member.key_issued - 1}
    assert servers.accounts[-1]["sub"] == servers.accounts[0]["sub"]


def test_a_change_of_the_group_goes_to_the_account_and_keeps_the_key(servers: Servers):
    before = servers.member.key_issued
    assert servers.typed("enroll", "h1", "--group", "g3", "--memory", "8GiB") is None
    assert servers.member.key_issued == before
    assert "$KV.mom-groups.g3" in {share["subject"] for share in servers.accounts[-1]["nats"]["imports"]}
    assert servers.accounts[-1]["nats"]["revocations"] == servers.accounts[0]["nats"]["revocations"]
    assert servers.accounts[-1]["iat"] > servers.accounts[0]["iat"], "servers keep the newer one"


@pytest.mark.parametrize("other", [["enroll", "h1", "--group", "g1", "--token"], ["enroll", "h1", "--group", "g3"], ["remove", "h1"]])
def test_of_two_operators_one_is_told_and_changes_nothing(servers: Servers, monkeypatch, other: list[str]):
    monkeypatch.setattr("mom_plugins_fleet.verbs.enroll._invite", lambda *_: asyncio.sleep(0))
    agree, others = enroll.agree, [other]

    def slow(*arguments: Any) -> None:
        if others:
            assert servers.typed(*others.pop()) is None
            servers.done.clear()
        agree(*arguments)

    monkeypatch.setattr(enroll, "agree", slow)
    said = str(servers.enroll("mine.key"))
    assert "another operator has enrolled or removed h1 meanwhile" in said or "mom-roster h1 is missing" in said
    assert not (servers.folder / "mine.key").exists()
    assert servers.done == []


OTHER_OPERATOR = Signer(new_seed(USER)).public


def operator_of(servers: Servers) -> str:
    return Where(["tls://localhost:1"], str(servers.folder / "operator.key")).signer().public


def test_by_a_clock_that_is_off_nothing_is_signed_and_no_account_given(servers: Servers):
    servers.now = time.time() - 92_000.0
    for words in (
        ["cordon", "h1"],
        ["countersign", operator_of(servers)],
        ["enroll", "h2", "--group", "g1", "--new-key", str(servers.folder / "h2.key")],
    ):
        assert "nothing is signed, because the clock here is 1 d 1 h ahead of the servers' clock" in str(servers.typed(*words))
    assert servers.done == []


@pytest.mark.parametrize(("named", "believed"), [([], "own"), (["--operator", OTHER_OPERATOR], OTHER_OPERATOR)], ids=["none", "another"])
def test_a_coordinator_takes_its_own_key_for_an_operators_only_where_none_are_named(
    servers: Servers, monkeypatch, named: list[str], believed: str
):
    given: list[frozenset[str]] = []

    class Seen:
        def __init__(self, *parts: Any) -> None:
            given.append(parts[4])

        async def run(self) -> None:
            """That is all."""

    monkeypatch.setattr("mom_plugins_fleet.coordinator.coordinator.Coordinator", Seen)
    assert servers.typed(*named, "coordinator") is None
    assert given == [{operator_of(servers) if believed == "own" else believed}]


def test_what_was_signed_by_a_clock_that_was_ahead_can_be_signed_anew(servers: Servers, monkeypatch):
    operator = operator_of(servers)
    with monkeypatch.context() as clock:
        wrong = time.time() + 92_000.0
        clock.setattr("time.time", lambda: wrong)
        assert servers.typed("cordon", "h1") is None
        assert servers.typed("drain", "h1") is None, "by now it has noted what it has signed"
    assert f"`mom fleet countersign {operator}`" in getattr(servers.typed("uncordon", "h1"), "hint", "")
    assert servers.typed("countersign", operator) is None
    assert servers.typed("uncordon", "h1") is None


def test_what_this_run_has_signed_is_not_asked_about(servers: Servers, monkeypatch):
    monkeypatch.setattr("mom_plugins_fleet.verbs.changes.ask_a_person", pytest.fail)
    where = Where(["tls://localhost:1"], str(servers.folder / "operator.key"))
    for what in ("first", "second"):
        asyncio.run(change(where, servers, Group, "g2", lambda _, what=what: {"policies": {"60_fleet_a": what}}))  # type: ignore[misc]  # bound now


@pytest.mark.parametrize(
    ("lease", "holder"), [(None, None), (Lease(holder="c1").packed(), "c1"), (b"\xff{", "a coordinator whose lease cannot be read")]
)
def test_a_lease_that_cannot_be_read_does_not_hide_the_hosts(lease, holder, monkeypatch):
    view = FleetView()
    view.lease = StoredEntry(1, lease, time.time())
    view.members.records["h1"] = (1, Member(group="g1"))
    monkeypatch.setattr("mom_plugins_fleet.verbs.fleet.Where.ask", lambda _self, _what: view)
    told = json.loads(CliRunner().invoke(fleet, [*NOBODY, "status", "--json"]).stdout)
    assert told["coordinator"] == holder
    assert [row["host"] for row in told["hosts"]] == ["h1"]


def test_a_host_whose_words_cannot_be_read_is_not_called_unreachable(capsys):
    view, now = FleetView(), time.time()
    view.members.records["h1"] = (1, Member(group="g1"))
    view.states.take("h1", StoredEntry(1, b'{"mode": 7}', now))
    view.states.set_at["h1"] = view.states.newest = time.time() - 3
    row = host_rows(view)["h1"]
    assert (row["silent"], row["damaged"]) == (True, "invalid HostState record: mode: Input should be a valid string")
    print_hosts([row])
    said = capsys.readouterr().out
    assert "not reachable" not in said
    assert said.splitlines()[1].endswith("  its report cannot be read")
    assert "h1 sends reports that cannot be read: invalid HostState record: mode: " in said


@pytest.mark.parametrize(("ago", "holder"), [(3 * 86_400.0 + 3600.0, None), (10.0, "c1"), (-3600.0, "c1")])
def test_a_fleet_of_which_nobody_has_spoken_for_days_is_not_shown_as_if_it_had_just_now(ago, holder, monkeypatch):
    view, store, at = FleetView(), Memory(), time.time() - ago
    store.kept[STATES, "h1"] = StoredEntry(1, HostState(mode="enforce").packed(), at)
    store.kept[LEASES, COORDINATOR] = StoredEntry(2, Lease(holder="c1").packed(), at + 1)
    asyncio.run(view.load(store))
    view.members.records["h1"] = (1, Member(group="g1"))
    monkeypatch.setattr("mom_plugins_fleet.verbs.fleet.Where.ask", lambda _self, _what: view)
    told = json.loads(CliRunner().invoke(fleet, [*NOBODY, "status", "--json"]).stdout)
    (row,) = told["hosts"]
    assert (told["coordinator"], row["silent"]) == (holder, holder is None)
    assert row["age_s"] == pytest.approx(ago if holder is None else 1.0, abs=60.0 if holder is None else 0.9)
    said = " ".join(CliRunner().invoke(fleet, [*NOBODY, "status"]).stdout.split())
    assert ("no host has reported for 3 d" in said) == (holder is None)


def test_what_was_given_back_on_all_hosts_is_summed_up_and_what_it_cost_is_said(capsys):
    view, gib = FleetView(), 1 << 20
    worst = {"given_back": gib, "promise_broken": 90.0, "killed": 2}
    told: dict[str, dict[str, float]] = {"h1": {"given_back": 2 * gib, "waited": 0.0, "killed": 0}, "h2": worst, "h3": {}}
    for host, figures in told.items():
        view.members.records[host] = (1, Member(group="g1"))
        view.states.records[host] = (1, read(HostState, json.dumps({"mode": "enforce", "today": figures}).encode()))
    rows = [*host_rows(view).values()]
    assert [row["given_back_today_kib"] for row in rows] == [2 * gib, gib, None]
    print_hosts(rows)
    said = " ".join(capsys.readouterr().out.split())
    assert "on average: 3.00 GiB on 2 of 3 hosts" in said
    assert "promises broken for 1 min 30 s" in said


def test_the_guests_of_a_drained_host_that_is_silent_are_said_to_wait():
    view = FleetView()
    view.members.records["h1"] = (1, Member(group="g1", draining=True, cordoned=True))
    view.states.records["h1"] = (1, HostState(mode="enforce", others=3))
    view.states.set_at["h1"] = view.states.newest = time.time() - 3600
    assert remarks_of(host_rows(view)["h1"]).endswith(", draining: its guests wait until the host reports")


def test_what_a_host_tells_of_itself_steers_no_terminal(capsys):
    nasty = "\x1b]0;title\x07\n\x9b2J"
    view = FleetView()
    view.members.records["h1"] = (1, Member(group="g1", draining=True, cordoned=True))
    guest = HostedGuest(id="1", name=nasty, stays=nasty)
    state = HostState(mode=nasty, memory_state=nasty, group=GroupStatus(refused=nasty, classes_unused=nasty), guests=(guest,))
    view.states.records["h1"] = (1, state)
    move = Move(guest="1", name=nasty, to="h2", destination=Destination.parse("qemu+tls://h2/system"), takes=1, number=1, error=nasty)
    view.orders.records["h1"] = (1, Orders(moves=(move,)))
    print_hosts([host_rows(view)["h1"]])
    said = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in said)
    assert said.count("title") >= 6


def test_a_groups_policy_is_printed_as_it_was_set(monkeypatch):
    text = "# \x1b[31mred\r\n(+ 1 2)"
    group = Group(policies={"60_fleet_x": text})
    monkeypatch.setattr("mom_plugins_fleet.verbs.fleet.Where.ask", lambda _self, _what: (1, group))
    done = CliRunner().invoke(fleet, [*NOBODY, "policy", "show", "g1", "60_fleet_x"])
    assert done.stdout_bytes == text.encode()
