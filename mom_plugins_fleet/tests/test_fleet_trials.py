"""Policies on some hosts of a group first: who they are, what a host makes of a trial, and what follows."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mom_core import MomError
from mom_kvm import Canary, CanaryState, PolicyProblem, PolicyState, PolicyText
from mom_plugins_fleet.host_trial import HostTrial
from mom_plugins_fleet.link import LinkError, Store
from mom_plugins_fleet.records import Group, HostState, Member, Trial, TrialState
from mom_plugins_fleet.server_setup import make_operator
from mom_plugins_fleet.signatures import Opened, Signer, next_revision, opened
from mom_plugins_fleet.subjects import GROUPS, ROSTER, STATES, StoredEntry
from mom_plugins_fleet.trial_verb import begin_trial, canary_command, nothing_on_trial
from mom_plugins_fleet.trials import LATE_SECONDS, VERDICT_SECONDS, chosen, verdict, with_followers
from mom_plugins_fleet.view import FleetView
from mom_plugins_fleet.where import Where

OPERATOR = Signer("SUAKYRHVIOREXV7EUZTBHUHL7NUMHPMAS7QMDU3GTIUWEI5LDNOXD43IZY")
NOW = 1_800_000_000.0


def fleet(*hosts: str, **states: HostState) -> FleetView:
    view = FleetView()
    for name in hosts:
        view.members.records[name] = (1, Member(group="kvm"))
        view.states.records[name] = (1, states.get(name, HostState(mode="enforce", others=3)))
        view.states.heard[name] = time.monotonic()
    return view


def test_the_same_share_of_hosts_is_chosen_each_time_whoever_else_comes():
    hosts = [f"h{n}" for n in range(100)]
    some = chosen(fleet(*hosts), "kvm", 0.2)
    assert len(some) == 20
    assert chosen(fleet(*reversed(hosts)), "kvm", 0.2) == some
    assert len(set(chosen(fleet(*hosts, "new"), "kvm", 0.2)) & set(some)) >= 19
    assert len(chosen(fleet(*hosts), "kvm", 0.001)) == 1


def test_only_hosts_that_can_try_something_are_chosen():
    idle, observes = HostState(mode="enforce"), HostState(mode="observe", others=3)
    refuses = HostState(mode="enforce", others=3, refused="60_fleet_x:1:5: syntax")
    view = fleet("idle", "observes", "refuses", "drained", "silent", "good", idle=idle, observes=observes, refuses=refuses)
    view.members.records["drained"] = (1, Member(group="kvm", draining=True))
    del view.states.heard["silent"]
    assert chosen(view, "kvm", 1.0) == ("good",)
    with pytest.raises(MomError, match="no host of the group other can try"):
        chosen(view, "other", 1.0)


RUNNING, PROMOTED, ROLLED_BACK, ABORTED = CanaryState.RUNNING, CanaryState.PROMOTED, CanaryState.ROLLED_BACK, CanaryState.ABORTED


@pytest.mark.parametrize(
    ("states", "after", "becomes"),
    [
        ([RUNNING, RUNNING, RUNNING], -1, RUNNING),
        ([RUNNING, ROLLED_BACK, RUNNING], -100, ROLLED_BACK),
        ([PROMOTED, ABORTED, PROMOTED], 1, ROLLED_BACK),
        ([PROMOTED, PROMOTED, PROMOTED], -1, RUNNING),
        ([PROMOTED, PROMOTED, PROMOTED], 1, PROMOTED),
        ([PROMOTED, PROMOTED, None], 1, RUNNING),
        ([PROMOTED, PROMOTED, None], LATE_SECONDS + 1, PROMOTED),
        ([PROMOTED, None, RUNNING], LATE_SECONDS + 1, ROLLED_BACK),
        ([None, None, None], LATE_SECONDS + 1, ROLLED_BACK),
        ([], LATE_SECONDS + 1, ROLLED_BACK),
    ],
)
def test_one_host_that_fares_worse_has_all_go_back_and_more_than_half_that_fare_well_have_all_go_on(
    states: Sequence[CanaryState | None], after: float, becomes: CanaryState
):
    trial = Trial(on=tuple(f"h{n}" for n in range(len(states))), ends=NOW)
    told = {f"h{n}": TrialState(revision=1, state=state, reason="why") for n, state in enumerate(states) if state is not None}
    state, why = verdict(trial, told, NOW + after)
    assert state is becomes
    assert bool(why) == (state is not RUNNING)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (-60, "is being tried on 1 hosts until"),
        (1, "is settled within 2 min 30 s"),
        (LATE_SECONDS - 1, "is settled within"),
        (LATE_SECONDS + 1, ""),
    ],
)
def test_nothing_else_changes_before_it_is_settled_what_becomes_of_a_trial(after: float, said: str):
    record = Group(trial=Trial(on=("h1",), ends=time.time() - after, what="60_fleet_a"))
    if said:
        with pytest.raises(MomError, match=said):
            nothing_on_trial(record)
    else:
        nothing_on_trial(record)
    nothing_on_trial(Group(trial=Trial(ends=time.time() + 60)))


class Hosts(Store):
    """Servers on which hosts say at once what is wrong with a group's trial; and on which hosts each was to be tried."""

    def __init__(self, where: Where, remarks: Mapping[str, str]) -> None:
        self.remarks, self.on, self.trusted = remarks, list[tuple[str, ...]](), where.operators()
        self.signer = signer = where.signer()
        self.entries: dict[str, dict[str, StoredEntry]] = {ROSTER: {}, STATES: {}, GROUPS: {}}
        for host in remarks:
            self._set(ROSTER, host, signer.signed(ROSTER, host, Member(group="kvm"), next_revision(0)))
            self._set(STATES, host, HostState(mode="enforce", others=3).packed())

    def _set(self, bucket: str, key: str, data: bytes) -> None:
        self.entries[bucket][key] = StoredEntry(len(self.on) + 1, data, time.time())

    async def clock(self) -> float:
        return time.time()

    async def load(self, bucket: str) -> dict[str, StoredEntry]:
        return self.entries.get(bucket, {})

    async def read(self, bucket: str, key: str) -> StoredEntry:
        return self.entries.get(bucket, {}).get(key, StoredEntry(0, None))

    async def put(self, bucket: str, key: str, data: bytes, revision: int | None = None) -> int:
        self._set(bucket, key, data)
        found = opened(Group, bucket, key, data, self.trusted)
        self.on.append(() if found.record.trial is None else found.record.trial.on)
        for host, remark in self.remarks.items():
            said = TrialState(revision=found.revision, remarks=(remark,) if remark else ())
            self._set(STATES, host, HostState(mode="enforce", others=3, trial=said).packed())
        return len(self.on) + 1


@pytest.fixture
def where(tmp_path: Path) -> Where:
    """That of an operator."""
    make_operator(tmp_path / "operator.key", None)
    return Where(["tls://localhost:1"], str(tmp_path / "operator.key"))


@pytest.mark.parametrize(
    ("remarks", "tried"),
    [
        ({"h1": "", "h2": "warning: hardly meant", "h3": ""}, True),
        ({"h1": "error: no such control", "h2": "", "h3": ""}, False),
        ({"h1": "", "h2": "error: no such control", "h3": ""}, False),
    ],
)
def test_nothing_is_tried_on_any_host_before_all_have_said_that_they_can_use_it(
    where: Where, monkeypatch: pytest.MonkeyPatch, remarks: Mapping[str, str], tried: bool
):
    hosts = Hosts(where, remarks)
    monkeypatch.setattr(Where, "ask", lambda _self, what: asyncio.run(what(hosts)))
    if tried:
        begin_trial(where, "kvm", "60_fleet_a", "(+ 1 2)", 1.0, 3600.0)
        assert hosts.on == [(), ("h1", "h2", "h3")]
    else:
        with pytest.raises(MomError, match="it is set nowhere"):
            begin_trial(where, "kvm", "60_fleet_a", "(+ 1 2)", 1.0, 3600.0)
        assert hosts.on == [(), ()]


def test_hosts_that_do_not_answer_have_not_said_that_it_could_be_set(
    where: Where, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    hosts = Hosts(where, {"h1": "", "h2": ""})
    monkeypatch.setattr(Where, "ask", lambda _self, what: asyncio.run(what(hosts)))
    with pytest.raises(MomError, match="no host is in the group kmv"):
        begin_trial(where, "kmv", "60_fleet_a", "(+ 1 2)", None, 3600.0)
    assert hosts.on == [], "and no such group is made"
    begin_trial(where, "kvm", "60_fleet_a", "(+ 1 2)", None, 3600.0)
    assert "It could be set, as 2 of 2 hosts say." in capsys.readouterr().out
    hosts.on, hosts.remarks = [], {}  # they say nothing any more
    for host in ("h1", "h2"):
        hosts._set(STATES, host, HostState(mode="enforce", others=3).packed())
    monkeypatch.setattr("mom_plugins_fleet.trial_verb.ASKED_SECONDS", -1.0)
    for share in (None, 1.0):
        with pytest.raises(MomError, match="none of 2 hosts has said what is wrong with it"):
            begin_trial(where, "kvm", "60_fleet_a", "(+ 1 2)", share, 3600.0)
    assert hosts.on == [(), (), (), ()], "and nothing is tried"


@pytest.mark.parametrize("back", [True, False])
def test_who_waits_for_the_end_of_a_trial_waits_for_servers_that_are_away_too(where: Where, monkeypatch: pytest.MonkeyPatch, back: bool):
    hosts = Hosts(where, {"h1": ""})
    trial = Trial(on=("h1",), ends=time.time() + (60 if back else -VERDICT_SECONDS - 1), what="60_fleet_a")
    begun = with_followers(where.signer(), "kvm", Group(trial=trial), {"60_fleet_a": "new"}, next_revision(0))
    hosts._set(GROUPS, "kvm", where.signer().signed(GROUPS, "kvm", begun, next_revision(0)))
    monkeypatch.setattr("mom_plugins_fleet.trial_verb.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("mom_plugins_fleet.trial_verb.settle", nothing_settled)
    asked: list[str] = []

    def ask(_self: Where, what: Callable[[Store], Coroutine[Any, Any, Any]]) -> Any:
        asked.append("")
        if 1 < len(asked) < 4:
            raise LinkError("the fleet's servers cannot be reached")
        if len(asked) == 4:
            ended = Group(policies={"60_fleet_a": "new"})
            hosts._set(GROUPS, "kvm", where.signer().signed(GROUPS, "kvm", ended, next_revision(next_revision(0) + 1)))
        return asyncio.run(what(hosts))

    monkeypatch.setattr(Where, "ask", ask)
    done = CliRunner().invoke(canary_command, ["kvm", "--wait"], obj=where)
    assert (done.exit_code == 0, len(asked)) == ((True, 4) if back else (False, 2))


async def nothing_settled(*_: object) -> None:
    """A coordinator sees to it."""


class Shared(Hosts):
    """Servers on which another operator changes the group while hosts are asked, or when they have just answered.

    :param late: the latter
    """

    def __init__(self, where: Where, others: Group, *, late: bool) -> None:
        super().__init__(where, {"h1": "", "h2": ""})
        self.others, self.late = others, late

    async def put(self, bucket: str, key: str, data: bytes, revision: int | None = None) -> int:
        await super().put(bucket, key, data, revision)
        if len(self.on) == 1 and not self.late:
            await self._changed()
        return len(self.on) + 1

    async def read(self, bucket: str, key: str) -> StoredEntry:
        if bucket == GROUPS and len(self.on) == 1 and self.late:
            await self._changed()
        return await super().read(bucket, key)

    async def _changed(self) -> None:
        await super().put(GROUPS, "kvm", self.signer.signed(GROUPS, "kvm", self.others, next_revision(next_revision(0) + 9)))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("share", [None, 1.0])
@pytest.mark.parametrize(
    "others", [Group(trial=Trial(ends=time.time() + 3600, what="60_fleet_b")), Group(policies={"60_fleet_b": "(+ 1 2)"})]
)
def test_nothing_is_tried_by_what_hosts_have_said_to_another_operators_change(
    where: Where, monkeypatch: pytest.MonkeyPatch, others: Group, share: float | None, late: bool
):
    hosts = Shared(where, others, late=late)
    monkeypatch.setattr(Where, "ask", lambda _self, what: asyncio.run(what(hosts)))
    with pytest.raises(MomError, match="the group kvm was changed while its hosts were asked"):
        begin_trial(where, "kvm", "60_fleet_a", "(+ 1 2)", share, 3600.0)
    assert hosts.on == [(), ()], "and the other one's stands"
    assert opened(Group, GROUPS, "kvm", hosts.entries[GROUPS]["kvm"].data or b"", hosts.trusted).record == others


class Policies:
    """An evaluator that tries what it is given."""

    def __init__(self):
        self.trial: Canary | None = None
        self.refuses = ""
        self.texts: Mapping[str, str] = {"60_fleet_a": "old", "61_fleet_gone": "x", "50_own": "mine"}
        self.looked_at: Mapping[str, str | None] = {}

    def state(self) -> PolicyState:
        return PolicyState("1", {name: PolicyText(text) for name, text in self.texts.items()})

    def canary(self) -> Canary | None:
        return self.trial

    def remarks(self, changes: Mapping[str, str | None]) -> Sequence[PolicyProblem]:
        self.looked_at = dict(changes)
        return [PolicyProblem("60_fleet_a", 1, 2, "unknown-control", "no plugin has the control x", "warning")]

    def begin_canary(self, changes: Mapping[str, str | None], *, who: str, seconds: float, share: float):
        if self.refuses:
            raise MomError(self.refuses)
        assert (dict(changes), share) == ({"60_fleet_a": "new", "61_fleet_gone": None}, 1.0)
        self.trial = Canary(RUNNING, "", who, "1", share, "", seconds, 0.0, seconds)

    def end_canary(self, *, promote: bool, who: str):
        self.becomes(ABORTED)

    def becomes(self, state: CanaryState):
        assert self.trial is not None
        self.trial = replace(self.trial, state=state, reason="why")


BEFORE = {"60_fleet_a": "old", "61_fleet_gone": "x", "classes.yaml": "y"}
AFTER = {"60_fleet_a": "new", "classes.yaml": "y"}


class Host:
    """One that follows its group's record."""

    def __init__(self, name: str = "h1", revision: int = 5):
        self.policies, self.trial, self.revision = Policies(), HostTrial(name, {OPERATOR.public}), revision
        begun = Group(policies=BEFORE, trial=Trial(on=("h1",), ends=NOW, what="60_fleet_a"), by="me")
        self.record = with_followers(OPERATOR, "kvm", begun, AFTER, revision)

    def looks(self, record: Group | None = None, revision: int = 0) -> Mapping[str, str]:
        """Which texts are to stand here."""
        record, revision = record or self.record, revision or self.revision
        wanted = self.trial.in_force(self.policies, "kvm", Opened(record, revision, "U"), f"the fleet, {revision}")  # type: ignore[arg-type]  # stands in for those of the plugin policy
        self.trial.begin(self.policies, record.trial)  # type: ignore[arg-type]  # stands in for those of the plugin policy
        return wanted.policies

    @property
    def told(self) -> TrialState:
        found = self.trial.told(self.policies)  # type: ignore[arg-type]  # stands in for those of the plugin policy
        assert found is not None
        return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock of the host's own, a minute before the end of the trial."""
    now = [NOW - 60]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def test_a_host_tries_and_stays_with_what_went_well_until_it_is_late_for_what_follows(clock: list[float]):
    host = Host()
    assert host.looks() == BEFORE
    assert (host.told.state, host.told.revision) == (RUNNING, 5)
    assert host.told.remarks == ("warning: 60_fleet_a:1:2: unknown-control: no plugin has the control x",)
    host.policies.becomes(PROMOTED)
    clock[0] = NOW + VERDICT_SECONDS - 1
    assert host.looks() == AFTER
    clock[0] = NOW + VERDICT_SECONDS + 1
    assert host.looks() == BEFORE, "no coordinator has said that it goes on"
    assert host.told.state is PROMOTED


def test_a_host_goes_back_at_once_by_itself_and_does_not_begin_again(clock: list[float]):
    host = Host()
    host.looks()
    host.policies.becomes(ROLLED_BACK)
    assert host.looks() == BEFORE
    assert (host.told.state, host.told.reason) == (ROLLED_BACK, "why")


def test_other_hosts_only_say_what_is_wrong_with_the_texts(clock: list[float]):
    host = Host("h2")
    assert host.looks() == BEFORE
    assert host.policies.trial is None
    assert (host.told.state, len(host.told.remarks)) == (None, 1)


def test_a_host_looks_at_all_that_would_change_there_and_so_at_what_it_refuses_of_its_group_now(clock: list[float]):
    host = Host()
    host.looks()
    assert host.policies.looked_at == {"60_fleet_a": "new", "61_fleet_gone": None}
    host = Host("h2")
    host.policies.texts = {"59_fleet_older": "x"}
    host.record = with_followers(OPERATOR, "kvm", host.record, {"60_fleet_a": "old", "62_fleet_good": "y"}, 5)
    host.looks()
    assert host.policies.looked_at == {"59_fleet_older": None, "60_fleet_a": "old", "62_fleet_good": "y"}


def test_a_host_that_cannot_begin_says_why_and_tries_it_again(clock: list[float]):
    host = Host()
    host.policies.refuses = "mom has not looked at the guests yet"
    assert host.looks() == BEFORE
    assert host.told.refused == "mom has not looked at the guests yet"
    host.policies.refuses = ""
    host.looks()
    assert (host.told.state, host.told.refused) == (RUNNING, "")


def test_a_record_that_follows_ends_what_is_still_tried(clock: list[float]):
    host = Host()
    host.looks()
    assert host.looks(Group(policies=BEFORE), 7) == BEFORE
    assert host.told.state is ABORTED


def test_nobody_can_have_what_is_tried_in_force_before_its_time(clock: list[float]):
    host = Host()
    early = Group(policies=AFTER, not_before=NOW)
    with pytest.raises(MomError, match="the time for that is not over"):
        host.looks(early, 6)
    clock[0] = NOW + 1
    assert host.looks(early, 6) == AFTER
    stolen = host.record.model_copy(update={"trial": Trial(on=("h1",), ends=NOW + 99, promoted="not signed")})
    with pytest.raises(MomError, match="not signed"):
        host.looks(stolen, 8)


def test_nobody_can_have_in_force_what_hosts_were_only_asked_about(clock: list[float]):
    asked = with_followers(OPERATOR, "kvm", Group(policies=BEFORE, trial=Trial(ends=NOW, what="60_fleet_a")), AFTER, 5)
    assert asked.trial is not None
    follows = opened(Group, GROUPS, "kvm", asked.trial.promoted.encode(), {OPERATOR.public})
    clock[0] = NOW + 86_400 * 365
    host = Host()
    with pytest.raises(MomError, match="the time for that is not over"):
        host.looks(follows.record, follows.revision)
    assert host.looks(asked, 5) == BEFORE
