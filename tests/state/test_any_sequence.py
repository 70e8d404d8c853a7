"""After any sequence of starts, reloads, kills, stops and reboots, mom's changes are restored, and changes of others remain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from sequence_host import GIB, GROUP_FILES, HOST_FILES, ITEMS, MIB, Killed, Part, SequenceHost, hypervisor_of, wishes_of

import mom_core.ledger
import mom_kvm.kernel_files
from mom_core import Clock, Config, Engine, EngineState, LedgerEntry, MomError, PluginContext, StateFile, Value
from mom_core.engine.judgement import Controller
from mom_core.engine.restore import restore
from mom_core.ledger import Ledger
from mom_daemon.restore import set_up
from mom_devkit import HandClock, config_of

CONTROLLERS = ("balloon", "ksm", "cgroup", "numa", "qos")

NUMBERS: Mapping[str, Sequence[Value]] = {
    "ksm_run": (0, 1),
    "ksm_pages_to_scan": (100, 200, 300),
    "ksm_sleep_millisecs": (10, 20, 50),
    "numa_balancing": (0, 1),
    "balloon_target": (2 * GIB, 1900 * MIB, 1700 * MIB),
    "vcpu_quota": (-1, 20_000, 50_000),
    "vcpu_period": (100_000, 50_000),
    "cpu_shares": (1024, 512, 200),
    "vcpu_pins": ("0-1", "0;1", "2-3", "0-7"),
    "numa_nodeset": ("0", "1"),
    "cgroup_memory_high": (-1, 1500 * MIB, 1600 * MIB),
    "cgroup_memory_low": (0, 256 * MIB, 300 * MIB),
    "cgroup_memory_min": (0, 128 * MIB),
    "cgroup_swap_max": (-1, 512 * MIB, 600 * MIB),
}
DISKS = [
    [{"name": name, "total_bytes_sec": limit} for name in names]
    for names in (["vda"], ["vdb"], ["vda", "vdb"])
    for limit in (0, 10**6, 2 * 10**6)
]
NETS = [[{"name": "vnet0", "inbound": {"average": limit}, "outbound": {}}] for limit in (0, 1000, 2000)]
VALUES: Mapping[str, Sequence[Any]] = {**NUMBERS, "io_tune": DISKS, "net_tune": NETS}
TOLD_APART = (*GROUP_FILES, "ksm_pages_to_scan", "ksm_sleep_millisecs", "vcpu_quota", "vcpu_period", "cpu_shares", "io_tune", "net_tune")
"""Controls whose values show whether mom has set them."""

targets = st.sampled_from([("host" if control in HOST_FILES else name, control) for control in VALUES for name in ("a", "b")])
wishes = st.lists(targets.flatmap(lambda one: st.tuples(st.just(one), st.sampled_from(VALUES[one[1]]))), max_size=4).map(dict)
parts = targets.flatmap(lambda one: st.sampled_from([(*one, item) for item in ITEMS.get(one[1], ("",))]))
names = st.sampled_from(["a", "b"])
some_plugins = st.tuples(st.permutations(CONTROLLERS), st.integers(2, len(CONTROLLERS))).map(lambda drawn: drawn[0][: drawn[1]])
own_settings = st.sampled_from([{}, {}, {"cpu_shares": 300}, {"disk_limits": {"vda": {"total_bytes_sec": "3MiB"}}}])


class AnySequence(RuleBasedStateMachine):
    """mom with several controllers, another process that sets the same controls, and events for both."""

    @initialize()
    def begin(self) -> None:
        self.after = ExitStack()
        self.folder = Path(self.after.enter_context(TemporaryDirectory()))
        self.host = host = SequenceHost(self.folder / "root")
        self.boots = 0
        self.wanted: dict[tuple[str, str], Value] = {}
        self.before: dict[Part, object] = {}
        """Values before mom changed them."""
        self.theirs: set[Part] = set()
        """Values that another process has set since mom's last change."""
        self.how: dict[str, Any] = {"plugins": CONTROLLERS, "mode": "enforce", "guest": {}}
        write_state, write_file = StateFile.write, mom_kvm.kernel_files._write

        def write_content(file: StateFile, *what: Any, **how: Any) -> None:
            host.count_write()
            write_state(file, *what, **how)

        def write(path: Path | str, text: str, **how: Any) -> None:
            try:
                host.carry_out(lambda: write_file(path, text, **how))
            except MomError as error:
                raise OSError(16, error.message) from error

        boot_id = self.folder / "boot_id"
        for one in (
            patch.object(StateFile, "write", write_content),
            patch.object(mom_kvm.kernel_files, "_write", write),
            patch.object(mom_core.ledger, "BOOT_ID", boot_id),
            patch("mom_core.engine.restore.Controller", lambda *plugin: replace(Controller(*plugin), sleep=self.sleep)),
        ):
            self.after.enter_context(one)
        self.boot()
        self.open()

    def boot(self) -> None:
        self.boots += 1
        self.clock = HandClock(10.0)
        (self.folder / "boot_id").write_text(f"boot {self.boots}\n")

    def config(self, *, broken: bool = False) -> Config:
        own = {name: value for name, value in self.how["guest"].items() if "qos" in self.how["plugins"]}
        plugins: dict[str, type | Mapping[str, object]] = {
            "here": hypervisor_of(self.host),
            **{name: {} for name in self.how["plugins"]},
            "wishes": wishes_of(self.wanted, broken=broken),
        }
        guests = {"a": own} if own else {}
        return config_of(self.folder, plugins, guests=guests, interval=5.0, mode=self.how["mode"], stop_timeout=60.0, root=self.host.root)

    # --- invariants ---------------------------------------------------------------------------------------------------------

    def noted(self) -> dict[tuple[str, str], LedgerEntry]:
        """Return mom's ledger entries of present guests."""
        cycle = None if self.engine is None else self.engine._cycle
        ledger = Ledger.open(self.folder / "state", look=True) if cycle is None else cycle.ledger
        there = {one.name: one.incarnation for one in self.host.known.values()}
        return {key: one for key, one in ledger.entries.items() if key[0] == "host" or there.get(key[0]) == one.incarnation}

    def during(self, work: Callable[[], object], *, puts_back: bool = False) -> bool:
        """Return whether mom was killed during this work. Check that its ledger has all its changes."""
        stood = self.host.stands()
        with suppress(Killed):
            work()
        if killed := self.host.killed:
            self.kill()
        noted = self.noted()
        for part, value in self.host.stands().items():
            if part in stood and stood[part] != value:
                theirs = puts_back and part in self.theirs and part[1] in TOLD_APART
                assert not theirs, f"another process had set {part} to {stood[part]}, and it was made {value}"
                self.before.setdefault(part, stood[part])
                self.theirs.discard(part)
        self.forget_what_is_back(noted)
        return killed

    def forget_what_is_back(self, noted: Mapping[tuple[str, str], LedgerEntry]) -> None:
        now = self.host.stands()
        for part, before in list(self.before.items()):
            if part[:2] in noted:
                continue
            if part in now and part not in self.theirs:
                has_more = part[1] == "balloon_target" and now[part] > before  # type: ignore[operator]  # KiB: it keeps what it uses
                assert now[part] == before or has_more, f"{part} was {before} before mom, is {now[part]}, and mom does not know"
            del self.before[part]
            self.theirs.discard(part)

    def forget(self, name: str) -> None:
        self.before = {part: value for part, value in self.before.items() if part[0] != name}
        self.theirs = {part for part in self.theirs if part[0] != name}

    def pass_time(self, seconds: float) -> None:
        """Pass time. Guests need longer than a cycle to follow."""
        self.clock.now += seconds
        self.host.pass_time(seconds)

    def sleep(self, seconds: float) -> None:
        """Pass time. Later lists of guests are complete again."""
        self.pass_time(seconds)
        self.host.is_short = False

    # --- events ------------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        self.engine: Engine | None = Engine(self.config(), Clock(self.clock, self.clock.wall))
        if self.during(self.engine.open):
            self.open()

    def kill(self) -> None:
        self.host.killed = True
        if self.engine is not None:
            with suppress(Killed):
                self.engine.close(put_back=False)
        self.engine, self.host.killed, self.host.writes_left = None, False, None

    @rule(decisions=wishes, anew=st.booleans())
    def cycle(self, decisions: dict[tuple[str, str], Value], anew: bool) -> None:
        if anew:
            self.wanted.clear()
        self.wanted.update(decisions)
        self.pass_time(5.0)
        assert self.engine is not None
        if self.during(self.engine.cycle):
            self.open()
        self.host.fates, self.host.is_short = [], False

    @rule(decisions=wishes)
    def another_cycle(self, decisions: dict[tuple[str, str], Value]) -> None:
        self.cycle(decisions, False)

    @rule(fates=st.lists(st.sampled_from(["done", "refused", "failed", "answer lost"]), max_size=3))
    def next_commands(self, fates: list[str]) -> None:
        self.host.fates = fates

    @rule(seconds=st.floats(0, 5), away=st.booleans(), is_short=st.booleans())
    def time_passes(self, seconds: float, away: bool, is_short: bool) -> None:
        self.pass_time(seconds)
        self.host.away, self.host.is_short = away and not self.host.away, is_short

    @rule(part=parts)
    def another_process_sets_it(self, part: Part) -> None:
        stood = self.host.stands()
        if part in stood:
            self.host.set_by_another(part)
            entry = self.noted().get(part[:2])
            if self.host.stands()[part] != stood[part]:
                self.theirs.add(part)
                if entry is not None and self.speaks_of(entry, part):
                    self.before.setdefault(part, stood[part])

    def speaks_of(self, entry: LedgerEntry, part: Part) -> bool:
        values: list[Any] = [entry.applied, entry.earlier, *entry.attempted]
        return not part[2] or any(item["name"] == part[2] for value in values for item in value or ())

    @rule(name=names, anew=st.booleans())
    def a_guest_ends(self, name: str, anew: bool) -> None:
        self.host.end(name)
        if anew:
            self.host.start(name)
        self.forget(name)

    @rule(writes=st.integers(0, 6))
    def killed_soon(self, writes: int) -> None:
        self.host.writes_left = writes

    @rule(restored=st.booleans(), rebooted=st.sampled_from([False, False, True]))
    def killed_now(self, restored: bool, rebooted: bool) -> None:
        self.kill()
        if rebooted:
            self.host.boot()
            self.boot()
            self.before.clear()
            self.theirs.clear()
        if restored:
            self.restore()
        self.open()

    @rule(
        plugins=some_plugins,
        mode=st.sampled_from(["enforce", "enforce", "observe"]),
        guest=own_settings,
        broken=st.sampled_from([False, False, True]),
    )
    def reload(self, plugins: Sequence[str], mode: str, guest: Mapping[str, object], broken: bool) -> None:
        was, self.how = self.how, {"plugins": plugins, "mode": mode, "guest": guest}
        engine = self.engine
        assert engine is not None

        def work() -> None:
            try:
                engine.reload(self.config(broken=broken))
            except MomError:
                assert broken
                self.how = was

        if self.during(work):
            self.open()
        self.host.fates = []

    @rule(keep=st.booleans())
    def stopped_and_started(self, keep: bool) -> None:
        self.stop(keep)
        self.open()

    def stop(self, keep: bool) -> None:
        engine = self.engine
        assert engine is not None
        self.during(lambda: engine.close(put_back=not keep), puts_back=True)
        self.engine, self.host.fates = None, []

    def restore(self) -> None:
        """Restore like `mom restore`."""

        def work() -> None:
            ledger = Ledger.open(self.folder / "state")
            if not (entries := list(ledger.entries.values())):
                return
            changes = EngineState(changes=entries)
            plugins = set_up(self.config(), entries, PluginContext(serves=False, engine_state=lambda: changes))
            try:
                restore(plugins, ledger, 60.0, sleep=self.sleep)
            finally:
                plugins.close(2.0)

        self.during(work, puts_back=True)

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        with self.after:
            self.host.writes_left, self.host.fates, self.host.away, self.host.is_short = None, [], False, False
            self.stop(keep=False)
            self.restore()
            assert not self.noted(), "everything is put back, or told"
            assert not self.before


TestAnySequence = pytest.mark.long(AnySequence.TestCase)
TestAnySequence.settings = settings(
    max_examples=settings().max_examples // 3,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def test_a_size_on_the_way_back_is_not_the_original() -> None:
    sequence, target = AnySequence(), ("a", "balloon_target")
    sequence.begin()
    for _ in range(3):
        sequence.cycle({target: 1700 * MIB}, False)
    sequence.stopped_and_started(False)
    sequence.cycle({}, False)
    assert 1700 * MIB < sequence.host.known["a"].balloon_kib < 2 * GIB
    for _ in range(3):
        sequence.cycle({}, False)
    assert sequence.noted()[target].before == 2 * GIB
    sequence.teardown()
