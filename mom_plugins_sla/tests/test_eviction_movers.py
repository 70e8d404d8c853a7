"""Movers that hang, die, forget or never answer: no guest is moved twice or harmed."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_eviction_plugin import MAY_ALL, ROOM, Bench, applied, mom_eviction, refusals

from mom_core import Decision, Entity, Guest, HypervisorError, Source, Status
from mom_devkit import apply_decisions
from mom_kvm import Destination, MoverAbilities
from mom_plugins_sla.eviction.movers.mover import MoveJob, Mover, MoveReport, MoveStanding

RUNNING, DONE, UNKNOWN = MoveReport(MoveStanding.RUNNING), MoveReport(MoveStanding.DONE), MoveReport(MoveStanding.UNKNOWN)


class ClusterMover:
    """Cluster management. Its jobs outlive mom."""

    name = "cluster"

    def __init__(self, bench: Bench | None = None) -> None:
        self.bench = bench
        self.abilities = MoverAbilities(live=True)
        self.jobs: list[MoveJob] = []
        self.looked: list[MoveJob] = []
        self.cancelled: list[MoveJob] = []
        self.says: MoveReport | Callable[[], MoveReport] = RUNNING
        self.begins: Callable[[MoveJob], str] = lambda job: f"task {job.guest.name}"

    def why_not(self, destination: Destination) -> str:
        return "" if destination == Destination.ANYWHERE or not destination.is_hypervisor else "the cluster has names of its own"

    def begin(self, job: MoveJob) -> str:
        self.jobs.append(job)
        return self.begins(job)

    def look(self, job: MoveJob) -> MoveReport:
        self.looked.append(job)
        return self.says if isinstance(self.says, MoveReport) else self.says()

    def cancel(self, job: MoveJob) -> None:
        self.cancelled.append(job)


class MovingBench(Bench):
    """Bench with a cluster's mover, and guests that may move anywhere."""

    def __init__(self, folder: Path, *, destination: str = "host://spare", enabled: bool = False) -> None:
        self.mover = ClusterMover(self)
        super().__init__(folder, guests=8, destination=destination, enabled=enabled, timeout="5s")
        self.ordinary, self.host = MAY_ALL, ROOM

    def services(self) -> dict[type, Sequence[object]]:
        return {**super().services(), Mover: (self.mover,)}

    def settle(self) -> None:
        """Let threads do their immediate work."""
        wait(self.plugin.jobs.calls, 0.05)

    def move(self, name: str, *, cycles: int = 8) -> list[object]:
        return [*self.cycles(5 * cycles, (name, "guest_migrate", str(self.plugin._settings.destination)))]

    def drain(self, name: str) -> list[Status]:
        """Drain a guest like the operator of a fleet, without warning."""
        seen = self.cycle().snapshot
        wanted = [Decision(self.entity(name), "guest_migrate", str(self.plugin._settings.destination), "", Source("fleet"))]
        if [*self.plugin.mom_review(seen, wanted)]:
            return []
        return [one.status for one in apply_decisions(self.plugin, wanted, self.hypervisor, seen)]

    def until(self, what: Callable[[], object]) -> None:
        ends = time.monotonic() + 20
        while not what():
            assert time.monotonic() < ends
            self.cycle()

    def moving(self, name: str) -> str:
        return str(self.cycle().snapshot.guests[self.identity(name)].fields["guest_eviction"])

    def error(self, name: str) -> str:
        return str(self.cycle().snapshot.guests[self.identity(name)].fields["guest_eviction_error"])

    def crash(self, destination: str = "host://spare") -> None:
        """Kill mom, and start the next one."""
        self.plugin.jobs.close()
        self.start(destination=destination, timeout="5s")

    @property
    def kept(self) -> list[dict[str, object]]:
        content = json.loads((self.folder / "eviction" / "jobs.json").read_text())["content"]
        assert isinstance(content, list)
        return content


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[MovingBench]:
    bench = MovingBench(tmp_path)
    yield bench
    bench.plugin.mom_teardown()


def test_the_mover_that_takes_the_destination_moves_the_guest_and_a_uri_is_for_moms_own(bench: MovingBench) -> None:
    assert bench.drain("vm1") == [Status.APPLIED]
    bench.until(lambda: bench.mover.jobs)
    assert [job.guest.name for job in bench.mover.jobs] == ["vm1"]
    assert bench.hypervisor.migrated == {}
    assert bench.moving("vm1") == "being moved to host://spare"
    bench.hypervisor.known.pop("vm1")
    bench.mover.says = DONE
    bench.until(lambda: bench.kept == [])
    bench.crash("qemu+tls://spare/system")
    assert bench.drain("vm2") == [Status.APPLIED]
    bench.until(lambda: bench.hypervisor.migrated)
    assert len(bench.mover.jobs) == 1


def test_a_destination_that_no_mover_takes_is_refused_with_the_reason_of_each(bench: MovingBench) -> None:
    bench.mover.why_not = lambda destination: "the cluster is asleep"  # type: ignore[method-assign]  # one that takes none
    reports = bench.cycles(60, ("vm1", "guest_migrate", "host://spare"))
    assert applied(reports) == []
    assert any("the cluster is asleep; the hypervisor moves guests to URIs" in reason for reason in refusals(reports))


def test_a_move_that_is_under_way_when_mom_is_killed_is_asked_for_by_the_next_and_not_begun_again(bench: MovingBench) -> None:
    assert bench.drain("vm1") == [Status.APPLIED]
    bench.until(lambda: bench.kept and bench.kept[0]["reference"])
    bench.crash()
    bench.mover.looked.clear()
    assert bench.drain("vm1") == [], "it is being moved"
    bench.until(lambda: bench.mover.looked)
    assert bench.mover.looked[0].reference == "task vm1"
    assert bench.mover.looked[0].id == bench.mover.jobs[0].id
    assert bench.moving("vm1") == "being moved to host://spare"
    bench.mover.says = DONE
    bench.hypervisor.known.pop("vm1")
    bench.until(lambda: bench.kept == [])
    assert len(bench.mover.jobs) == 1


def test_a_mover_that_hangs_delays_no_cycle_and_no_other_guest(bench: MovingBench) -> None:
    hang = threading.Event()
    bench.mover.begins = lambda job: str(hang.wait(30))
    bench.mover.says = UNKNOWN
    began = time.monotonic()
    for number in range(1, 5):
        assert bench.drain(f"vm{number}") == [Status.APPLIED]
    assert time.monotonic() - began < 20
    bench.until(lambda: all(one["lost"] for one in bench.kept))
    assert bench.plugin.jobs.under_way == 0, "so other guests have their turn"
    assert ("vm6", "guest_save") in applied(bench.cycles(60, ("vm6", "guest_save", 1)))
    hang.set()


def test_a_move_whose_mover_tells_nothing_is_lost_and_the_guest_is_not_moved_again_until_the_operator_says_so(bench: MovingBench) -> None:
    bench.mover.says = UNKNOWN
    assert bench.drain("vm1") == [Status.APPLIED]
    bench.until(lambda: bench.kept[0]["lost"])
    assert bench.mover.cancelled, "it was told to give it up"
    assert bench.moving("vm1") == "perhaps being moved to host://spare"
    assert bench.drain("vm1") == []
    bench.crash()
    assert bench.drain("vm1") == [], "nor after a restart"
    assert "perhaps being moved to host://spare" in mom_eviction(bench.folder)[1]
    (bench.folder / "eviction" / "undo").mkdir()
    (bench.folder / "eviction" / "undo" / bench.identity("vm1")).touch()
    bench.cycle()
    assert bench.kept == []
    assert bench.drain("vm1") == [Status.APPLIED]


def test_a_lost_move_counts_as_one_that_has_moved_a_guest_for_an_hour_and_no_longer(bench: MovingBench) -> None:
    bench.mover.says = UNKNOWN
    bench.move("vm1")
    bench.until(lambda: bench.kept[0]["lost"])
    assert bench.plugin.jobs.leaving == 1
    bench.clock.now += 3600
    assert bench.plugin.jobs.leaving == 0
    assert bench.kept[0]["lost"], "the guest itself is left alone"


def test_a_lost_move_is_over_when_its_mover_says_so_or_the_guest_is_gone(bench: MovingBench) -> None:
    bench.mover.says = UNKNOWN
    for name in ("vm1", "vm2"):
        bench.drain(name)
    bench.until(lambda: all(one["lost"] for one in bench.kept))
    bench.hypervisor.known.pop("vm2")
    bench.until(lambda: len(bench.kept) == 1)
    bench.mover.says = MoveReport(MoveStanding.FAILED, "the disk is local")
    bench.until(lambda: bench.kept == [])
    assert bench.cycle().snapshot.guests[bench.identity("vm1")].fields["guest_eviction"] == ""


def test_a_guest_of_which_the_mover_says_that_it_has_moved_has_not_before_it_is_gone(bench: MovingBench) -> None:
    bench.mover.says = DONE  # like a program that only forwards the request
    bench.plugin.mom_teardown()
    bench.start(destination="host://spare")
    for name in ("vm1", "vm2"):
        bench.drain(name)
    bench.until(lambda: len({job.guest for job in bench.mover.looked}) == 2)
    bench.cycles(30)
    assert bench.moving("vm1") == "being moved to host://spare"
    bench.hypervisor.known.pop("vm1")
    bench.until(lambda: [one["name"] for one in bench.kept] == ["vm2"])
    bench.until(lambda: bench.kept[0]["lost"])
    assert bench.kept[0]["lost"] == "the mover cluster reports success, but the guest is still here"
    bench.cycles(120)
    assert bench.drain("vm2") == []
    assert len(bench.mover.jobs) == 2, "neither is moved again"
    bench.hypervisor.known.pop("vm2")
    bench.until(lambda: bench.kept == [])


def test_the_moves_of_the_last_guests_end_too_but_not_while_the_guests_are_unknown(
    bench: MovingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown() -> list[Guest]:
        raise HypervisorError("it is away")

    bench.hypervisor.known = {"vm1": bench.hypervisor.known["vm1"]}
    bench.drain("vm1")
    bench.until(lambda: bench.mover.jobs)
    with monkeypatch.context() as patched:
        patched.setattr(bench.hypervisor, "guests", unknown)
        bench.cycles(60)
        assert bench.kept
    bench.hypervisor.known.pop("vm1")
    bench.until(lambda: bench.kept == [])


def test_a_guest_of_which_libvirt_does_not_say_how_its_move_ended_is_not_moved_again(tmp_path: Path) -> None:
    bench = MovingBench(tmp_path, destination="qemu+tls://spare/system")

    def silent(guest: Entity, destination: Destination, timeout_seconds: float) -> None:
        raise TimeoutError("no answer within 15 s")

    bench.hypervisor.migrate = silent  # type: ignore[method-assign]  # it may be moving still
    assert bench.drain("vm1") == [Status.APPLIED]
    bench.until(lambda: bench.kept[0]["lost"])
    assert bench.drain("vm1") == []
    bench.hypervisor.known.pop("vm1")
    bench.until(lambda: bench.kept == [])
    bench.plugin.mom_teardown()


def test_a_mover_that_refuses_has_begun_nothing_and_one_that_makes_a_mistake_may_have(bench: MovingBench) -> None:
    def refuses(job: MoveJob) -> str:
        raise HypervisorError("the node is in maintenance")

    def breaks(job: MoveJob) -> str:
        raise KeyError("data")

    bench.mover.begins = refuses
    bench.drain("vm1")
    bench.until(lambda: bench.kept == [])
    assert bench.cycle().snapshot.guests[bench.identity("vm1")].fields["guest_eviction_error"] == "the node is in maintenance"
    bench.mover.begins = breaks
    bench.drain("vm2")
    bench.until(lambda: len(bench.mover.jobs) == 2)
    assert bench.drain("vm2") == [], "it may be moving"
    assert len(bench.mover.jobs) == 2


def test_a_mover_that_may_let_guests_stand_still_moves_those_only_whose_class_allows_that(bench: MovingBench) -> None:
    for live in (False, None):
        bench.mover.abilities = MoverAbilities(live=live)
        bench.fields = {"vm1": {**MAY_ALL, "may_save": 0}}
        reports = bench.cycles(60, ("vm1", "guest_migrate", "host://spare"))
        assert any("the mover cluster may stop the guest during the move" in reason for reason in refusals(reports))
    assert bench.mover.jobs == []
    assert bench.drain("vm2") == [Status.APPLIED]


# --- any events in any order -----------------------------------------------------------------------------------------------


class Cluster(ClusterMover):
    """Cluster that moves guests: it counts moves, refuses some, loses answers, and answers correctly or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.active: set[str] = set()
        self.twice: list[str] = []
        self.failed: set[str] = set()
        self.manner, self.talks = "answers", True

    def begin(self, job: MoveJob) -> str:
        if self.manner == "refuses":
            raise HypervisorError("no")
        if job.guest.name in self.active:
            self.twice.append(job.guest.name)
        self.active.add(job.guest.name)
        self.failed.discard(job.guest.name)
        if self.manner == "breaks":
            raise KeyError("data")
        return "" if self.manner == "forgets" else "task"

    def look(self, job: MoveJob) -> MoveReport:
        if not self.talks:
            return UNKNOWN
        if job.guest.name in self.active:
            return RUNNING
        return MoveReport(MoveStanding.FAILED, "no") if job.guest.name in self.failed else DONE


_EVENTS = st.one_of(
    st.tuples(st.just("move"), st.sampled_from(["vm1", "vm2"])),
    st.tuples(st.sampled_from(["succeeds", "fails"]), st.sampled_from(["vm1", "vm2"])),
    st.tuples(st.just("begins so"), st.sampled_from(["answers", "refuses", "breaks", "forgets"])),
    st.tuples(st.sampled_from(["crash", "talks", "is silent", "cycle"]), st.just("")),
)


@pytest.mark.long
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(_EVENTS, min_size=4, max_size=14))
def test_no_guest_is_moved_twice_at_once_whatever_happens(tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, str]]) -> None:
    bench, cluster = MovingBench(tmp_path_factory.mktemp("moms")), Cluster()
    bench.mover = cluster
    bench.crash()
    try:
        for event, what in events:
            if event == "move" and what in bench.hypervisor.known:
                bench.drain(what)
            elif event in ("succeeds", "fails") and what in cluster.active:
                cluster.active.discard(what)
                if event == "succeeds":
                    bench.hypervisor.known.pop(what)
                else:
                    cluster.failed.add(what)
            elif event == "begins so":
                cluster.manner = what
            elif event == "crash":
                bench.crash()
            elif event in ("talks", "is silent"):
                cluster.talks = event == "talks"
            bench.cycle()
    finally:
        bench.plugin.mom_teardown()
    assert cluster.twice == []
