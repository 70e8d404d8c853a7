"""Faults between two cycles: late sizes, a missing plugin or list, failed commands, crashes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from guest_facts import GIB, MIB

import mom_core
from mom_core import (
    Change,
    ControlSpec,
    Decision,
    Declarations,
    EngineState,
    Entity,
    FieldSpec,
    Guest,
    GuestBusy,
    LedgerEntry,
    NoChangeNeeded,
    PluginContext,
    Refused,
    Scope,
    Snapshot,
    Source,
    Target,
    Unit,
    Value,
)
from mom_devkit import HandClock
from mom_plugins_balloon import BalloonPlugin
from mom_plugins_balloon.ballooned_guests import LISTS_UNTIL_GONE
from mom_plugins_balloon.sizes import ASKED_AGAIN_SECONDS


class Host:
    """mom with one guest of 2 GiB, and a clock."""

    def __init__(self, folder: Path, hypervisor, clock: HandClock | None = None, changed: Sequence[LedgerEntry] = ()) -> None:
        self.clock = clock or HandClock(1000.0)
        self.hypervisor, self.folder = hypervisor, folder
        self.declared: dict[object, object] = {}
        state = EngineState(changes=changed)
        self.context = PluginContext(
            "balloon", folder, folder / "state", folder / "run", monotonic=self.clock, interval=5.0, engine_state=lambda: state
        )
        self.plugin = BalloonPlugin(BalloonPlugin.Settings(), self.context)
        self.plugin.mom_setup()
        self.target = Target(Guest("a", "name-a").entity, "balloon_target")

    @property
    def asked(self) -> Value:
        """Return mom's target, as a field."""
        return self.plugin.mom_collect_guests([self.snapshot().guests["a"]]).get("balloon_target", [None])[0]

    def reads(self, hypervisor=None) -> object:
        """Return the guest's size as the plugin reads it."""
        return self.plugin.mom_read(hypervisor or self.hypervisor, [self.target])[self.target]

    def restores(self, value: int, found: int, hypervisor=None) -> object:
        """Restore the guest's size like the engine. Return the plugin's answer."""
        change = Change(self.target, value, found, back=True)
        return self.plugin.mom_write(hypervisor or self.hypervisor, [change]).get(self.target, "")

    def again(self, *, put_back: bool = False) -> "Host":
        """The mom after this one, which was killed, or has put back what it had changed."""
        entry = LedgerEntry(self.target.entity, "balloon_target", 2 * GIB, 1300 * MIB, "balloon", 0.0, "1", None, ())
        return Host(self.folder, self.hypervisor, self.clock, () if put_back else (entry,))

    def snapshot(self, *, properties: Mapping[str, Value] | None = None, **fields) -> Snapshot:
        known = {"balloon_cur": self.hypervisor.sizes["a"], "balloon_max": 2 * GIB, "mem_usable": 1400 * MIB, "stats_age": 0.5} | fields
        guest = Guest("a", "name-a", known, properties=dict(properties or {}), incarnation="1")
        return Snapshot(guests={"a": guest}, monotonic=self.clock.now)

    def cycle(self, wanted: int | None = None, *, after: float = 5.0, **fields) -> tuple[list[str], str]:
        """Run a cycle with this decision. Return the reasons of the review, and the error of the write."""
        self.clock.now += after
        told = self.plugin.mom_collect_guests([self.snapshot().guests["a"]])
        asked = {name: values[0] for name, values in told.items()}
        snapshot = self.snapshot(**{**asked, **fields})
        guest = snapshot.guests["a"]
        decided = list(self.plugin.mom_act(snapshot))
        if wanted is not None:
            decided.append(Decision(guest.entity, "balloon_target", wanted, "", Source("50_balloon")))
        revisions = list(self.plugin.mom_review(snapshot, decided))
        revised = {id(one.before): one.after for one in revisions}
        last = [revised.get(id(one), one) for one in decided][-1:]
        said: Mapping[Target, object] = {}
        for one in last:
            if one is not None:
                said = self.plugin.mom_write(self.hypervisor, [Change(self.target, one.value, guest.number("balloon_cur"))])
        return [one.reason for one in revisions], "".join(map(str, said.values()))

    def without_it(self, cycles: int = 1) -> None:
        """Run cycles in which the hypervisor lists only another guest."""
        for _ in range(cycles):
            self.clock.now += 5
            other = Guest("b", "name-b", incarnation="1")
            self.plugin.mom_collect_guests([other])
            list(self.plugin.mom_act(Snapshot(guests={"b": other}, monotonic=self.clock.now)))


@pytest.fixture
def host(tmp_path: Path, hypervisor) -> Host:
    return Host(tmp_path, hypervisor)


class TestMissingAnswers:
    def test_guest_missing_from_one_list_is_the_same(self, host: Host) -> None:
        host.cycle(1500 * MIB)
        host.without_it(LISTS_UNTIL_GONE - 1)
        assert host.asked == 1500 * MIB
        host.without_it(LISTS_UNTIL_GONE)
        assert host.asked is None

    @pytest.fixture
    def by_class(self, host: Host) -> Host:
        """Return a host with a plugin that promises memory by class."""
        host.context.declarations = Declarations({(Scope.GUEST, "mem_guarantee"): FieldSpec("mem_guarantee", Unit.KIB, Scope.GUEST, "")})
        return host

    def test_last_class_promise_holds_while_the_plugin_is_silent(self, by_class: Host) -> None:
        look = by_class.plugin._guarantees.look
        look(by_class.snapshot(mem_guarantee_share=0.75))
        assert look(by_class.snapshot()).holds == {"a": 1536 * MIB}
        look(Snapshot())
        again = look(by_class.snapshot())
        assert (again.holds, again.unheard) == ({"a": 1536 * MIB}, set()), "also where the hypervisor was away meanwhile"
        by_class.context.declarations = Declarations()
        assert look(by_class.snapshot()).holds == {}, "there is no such plugin any more"

    def test_guest_with_unknown_class_promise_only_grows(self, by_class: Host) -> None:
        by_class.hypervisor.sizes["a"] = 1500 * MIB
        for _ in range(2):
            by_class.cycle()
        (why,), said = by_class.cycle(GIB)
        assert (why, said, by_class.hypervisor.commands) == ("the guarantee of its service class is not known yet", "", [])
        assert by_class.cycle(1800 * MIB) == ([], "")
        assert by_class.hypervisor.commands == [("a", 1800 * MIB)]
        by_class.hypervisor.sizes["a"] = 1800 * MIB
        assert by_class.cycle(GIB, mem_guarantee_share=None)[0] == [], "it is promised nothing, which was said"


class TestUnansweredCommand:
    @pytest.fixture
    def busy(self, host: Host) -> Host:
        """Request 1300 MiB from the guest of 2 GiB, without an answer. Its balloon moves nevertheless."""
        host.hypervisor.errors["a"] = GuestBusy("no answer within 5 s")
        assert "no answer" in host.cycle(1300 * MIB)[1]
        host.hypervisor.errors.clear()
        host.hypervisor.sizes["a"] = 1700 * MIB
        return host

    def test_guest_grows_during_a_shrink_in_doubt(self, busy: Host) -> None:
        assert busy.cycle(2 * GIB, after=1.0, mem_usable=20 * MIB) == ([], "")
        assert busy.hypervisor.commands[-1] == ("a", 2 * GIB)

    def test_shrink_in_doubt_is_stopped(self, busy: Host) -> None:
        busy.cycle(after=1.0, swap_in=5000.0, mem_usable=20 * MIB)
        assert busy.hypervisor.commands[-1] == ("a", 1700 * MIB)

    def test_shrink_in_doubt_is_repeated(self, busy: Host) -> None:
        assert busy.cycle(1300 * MIB, after=1.0) == ([], "")
        assert busy.hypervisor.commands[-1] == ("a", 1300 * MIB)

    def test_old_shrink_in_doubt_is_revoked(self, host: Host) -> None:
        host.hypervisor.errors["a"] = GuestBusy("no answer within 5 s")
        host.cycle(1300 * MIB)
        host.hypervisor.errors.clear()
        assert host.cycle(2 * GIB, after=2 * ASKED_AGAIN_SECONDS) == ([], "")
        assert host.hypervisor.commands[-1] == ("a", 2 * GIB), "though the guest has this size already"

    def test_unanswered_growth_is_not_moms(self, host: Host) -> None:
        host.hypervisor.errors["a"] = GuestBusy("no answer within 5 s")
        host.cycle(3 * GIB)
        host.hypervisor.sizes["a"] = 2500 * MIB  # another process
        assert host.reads() == 2500 * MIB

    def test_unanswered_growth_leaves_the_shrink(self, host: Host) -> None:
        host.cycle(1300 * MIB)
        host.hypervisor.sizes["a"] = 1700 * MIB
        host.hypervisor.errors["a"] = GuestBusy("no answer within 5 s")
        host.cycle(1900 * MIB, mem_usable=20 * MIB)
        host.hypervisor.errors.clear()
        host.cycle(swap_in=5000.0, mem_usable=20 * MIB)
        assert host.hypervisor.commands[-1] == ("a", 1700 * MIB)


class TestLargerGuarantee:
    @pytest.mark.parametrize(("size", "given"), [(1200 * MIB, [1500 * MIB]), (1800 * MIB, [])])
    def test_larger_guarantee_returns_only_moms_part(self, host: Host, size: int, given: list[int]) -> None:
        host.cycle(1200 * MIB)
        host.hypervisor.sizes["a"] = 1200 * MIB
        host.cycle()
        host.hypervisor.sizes["a"] = size
        host.cycle(balloon_min=1500 * MIB)
        assert [target for _, target in host.hypervisor.commands[1:]] == given

    def test_larger_guarantee_ends_a_shrink(self, host: Host) -> None:
        host.cycle(1200 * MIB)
        host.hypervisor.sizes["a"] = 1800 * MIB
        host.cycle(balloon_min=1500 * MIB)
        assert host.hypervisor.commands[-1] == ("a", 1500 * MIB)


class TestRestore:
    def test_unfinished_shrink_is_known_after_a_crash(self, host: Host) -> None:
        host.hypervisor.sizes["a"] = 2 * GIB
        assert host.cycle(1300 * MIB) == ([], "")
        host.hypervisor.sizes["a"], host.hypervisor.targets = 1700 * MIB, {}  # it has stopped: its memory is in use
        after = host.again()
        assert after.reads() == ControlSpec.InTransition(1700 * MIB), "mom's own doing"
        assert after.asked == 1300 * MIB
        after.cycle(mem_usable=30 * MIB, swap_in=5000.0)
        assert host.hypervisor.commands[-1] == ("a", 1700 * MIB), "the shrink is stopped"

    def test_unlisted_guest_is_known_after_a_crash(self, host: Host) -> None:
        host.cycle(1300 * MIB)
        host.hypervisor.sizes["a"], host.hypervisor.targets = 1700 * MIB, {}
        host.without_it()
        for mom in (host.again(), host.again()):
            mom.without_it()
            assert mom.reads() == ControlSpec.InTransition(1700 * MIB)
        host.without_it(LISTS_UNTIL_GONE)
        assert host.again().reads() == 1700 * MIB, "it is gone"

    def test_file_of_another_format_is_refused(self, host: Host) -> None:
        host.context.state_file("balloon.json", "", dict).write({"starts": {}, "shrinks": {"a": ["", 2 * GIB, 1300 * MIB]}})
        after = host.again()
        assert after.asked is None
        assert "its content is invalid" in after.context.state_files[0].damage

    def test_read_only_mom_leaves_the_file(self, host: Host) -> None:
        host.cycle(1300 * MIB)
        host.hypervisor.sizes["a"], host.hypervisor.targets = 1700 * MIB, {}
        looking = host.again()
        looking.context.serves = False
        looking.cycle(balloon_cur=1300 * MIB)
        looking.plugin.mom_teardown()
        assert host.again().asked == 1300 * MIB

    @pytest.mark.parametrize(
        ("fields", "why", "kind"),
        [
            ({"mem_usable": None}, "the guest's usable memory, or the age of its statistics, is unknown", NoChangeNeeded),
            ({"stats_age": None}, "the age of its statistics, is unknown", NoChangeNeeded),
            ({"stats_age": 9000.0}, "9000 s old", Refused),
            ({"swap_in": 50_000.0}, "it lacks memory", Refused),
        ],
    )
    def test_unknown_guest_is_not_shrunk_by_restore(self, host: Host, fields, why: str, kind: type) -> None:
        """mom tries again if figures may become known later. A guest without statistics keeps its size."""
        host.hypervisor.sizes["a"] = 2 * GIB
        host.plugin.mom_review(host.snapshot(**fields), [])
        said = host.restores(GIB, 2 * GIB)
        assert type(said) is kind
        assert why in str(said)
        assert host.hypervisor.commands == []

    def test_failing_fields_do_not_stop_growth(self, host: Host) -> None:
        def fields(guests: Sequence[Guest]) -> dict[str, object]:
            raise KeyError("a mistake")

        host.hypervisor.fields = fields
        host.hypervisor.sizes |= {"a": 2 * GIB, "b": GIB}
        changes = [
            Change(Target(Guest(one, one).entity, "balloon_target"), to, size, back=True)
            for one, to, size in (("a", GIB, 2 * GIB), ("b", 2 * GIB, GIB))
        ]
        host.plugin.mom_write(host.hypervisor, changes)
        assert host.hypervisor.commands == [("b", 2 * GIB)]

    def test_restore_without_cycles_asks_the_hypervisor(self, host: Host) -> None:
        fields = {"balloon_cur": 2 * GIB, "balloon_max": 2 * GIB, "mem_usable": 900 * MIB, "stats_age": 0.5}
        assert "its use is unknown" in str(host.restores(GIB, 2 * GIB))
        host.hypervisor.fields = lambda guests: {guest.id: fields for guest in guests if guest.id == "a"}
        assert "not the original 1.00 GiB: the guest needs" in str(host.restores(GIB, 2 * GIB))
        need = (2 * GIB - 900 * MIB) * 1.05
        assert host.hypervisor.commands == [("a", pytest.approx(need, abs=1))]


class TestReboots:
    """A shrunk guest reboots with its small size, because QEMU keeps the balloon's target."""

    def taken(self, folder: Path, hypervisor) -> Host:
        host = Host(folder, hypervisor)
        host.cycle()
        host.cycle(1300 * MIB)
        hypervisor.balloon_sizes([])
        return host.again()  # a restarted mom has made no request itself

    def test_rebooted_guest_has_its_size_before_mom(self, tmp_path: Path, hypervisor) -> None:
        host = self.taken(tmp_path, hypervisor)
        host.cycle(mem_usable=700 * MIB)
        assert hypervisor.commands == [("a", 1300 * MIB)]
        host.cycle(reboot_age=0.3, mem_usable=1000 * MIB)
        assert hypervisor.commands[1:] == [("a", 2 * GIB)]
        hypervisor.balloon_sizes([])
        refused, _ = host.cycle(1300 * MIB, reboot_age=5.3)
        assert refused == ["it has just started, and its programs may still be starting"]
        host.cycle(1300 * MIB, reboot_age=61.3, after=56.0)
        assert hypervisor.commands[2:] == [("a", 1300 * MIB)]

    def test_rebooted_guest_gets_nothing_on_a_short_host(self, tmp_path: Path, hypervisor, monkeypatch) -> None:
        host = self.taken(tmp_path, hypervisor)
        short = mom_core.Host("host", {"mem_really_available": GIB, "mem_watermark_hard": 2 * GIB})
        plain = host.snapshot
        monkeypatch.setattr(host, "snapshot", lambda **fields: replace(plain(**fields), host=short))
        host.cycle(reboot_age=0.3, mem_usable=1000 * MIB)
        assert hypervisor.commands == [("a", 1300 * MIB)]


class TestPluggedMemory:
    """The guest's size grows at once.

    Its kernel's total grows when the kernel uses the memory, which some kernels never do by themselves.
    """

    def test_plugged_memory_is_not_spare_before_the_kernel_has_it(self, host: Host) -> None:
        sizes = host.hypervisor.sizes
        host.cycle(1300 * MIB, mem_usable=900 * MIB)
        sizes["a"] = 1300 * MIB
        for _ in range(2):
            host.cycle(1300 * MIB, mem_usable=100 * MIB, mem_available=1250 * MIB)
        sizes["a"] = 1812 * MIB
        host.cycle(1300 * MIB, mem_usable=100 * MIB, mem_available=1250 * MIB, balloon_max=2560 * MIB)
        (_, first), (_, asked) = host.hypervisor.commands
        assert first == 1300 * MIB
        assert asked > (1812 - 100) * MIB

    def test_restore_includes_plugged_memory(self, host: Host) -> None:
        for _ in range(2):
            host.cycle()
        host.cycle(1300 * MIB)
        host.hypervisor.sizes["a"] = 1812 * MIB
        host.cycle(balloon_max=2560 * MIB)
        said = host.restores(2 * GIB, 1812 * MIB)
        assert said == "memory was plugged into the guest after mom resized it: mom requested 2.50 GiB"
        assert host.hypervisor.commands[-1] == ("a", 2560 * MIB)
        after = host.again()
        looks = LooksAt(host.hypervisor, after.snapshot(balloon_max=2560 * MIB))
        after.restores(2 * GIB, 1812 * MIB, looks)
        assert host.hypervisor.commands[-1] == ("a", 2560 * MIB)
        after.restores(1500 * MIB, 1812 * MIB, looks)
        assert host.hypervisor.commands[-1] == ("a", 1500 * MIB), "that is not all that it could have had"

    @pytest.mark.parametrize(("size", "maximum", "moms"), [(1812, 2560, True), (788, 1536, True), (1700, 2560, False), (1812, 2048, False)])
    def test_size_moved_by_plugging_is_moms_after_a_crash(self, host: Host, size: int, maximum: int, moms: bool) -> None:
        for _ in range(2):
            host.cycle()
        host.cycle(1300 * MIB)
        host.hypervisor.balloon_sizes([])
        host.cycle()
        after = host.again()
        host.hypervisor.targets, host.hypervisor.sizes["a"] = {}, size * MIB
        looks = LooksAt(host.hypervisor, after.snapshot(balloon_max=maximum * MIB))
        assert after.reads(looks) == (ControlSpec.InTransition(size * MIB) if moms else size * MIB)

    @pytest.mark.parametrize(("size", "back"), [(1412, 2012), (2112, 2012), (1500, 0)], ids=["smaller", "larger", "another's"])
    def test_restore_of_partly_started_guest_includes_plugged_memory(self, tmp_path: Path, hypervisor, size: int, back: int) -> None:
        ledger: list[LedgerEntry] = []
        host = Host(tmp_path, hypervisor, changed=ledger)
        applied = 900 if size < 2000 else 1600
        hypervisor.sizes["a"] = 1500 * MIB
        for _ in range(4):
            host.cycle(mem_usable=1200 * MIB)
        ledger.append(LedgerEntry(host.target.entity, "balloon_target", 1500 * MIB, applied * MIB, "balloon", 0.0, "1"))
        after = Host(tmp_path, hypervisor, host.clock, tuple(ledger))
        hypervisor.sizes["a"] = size * MIB
        seen = after.snapshot(balloon_max=2560 * MIB, mem_usable=(size - 300) * MIB)
        looks = LooksAt(hypervisor, seen)
        assert isinstance(after.reads(looks), ControlSpec.InTransition) == bool(back)
        if back:
            after.restores(1500 * MIB, size * MIB, looks)
            assert hypervisor.commands[-1] == ("a", back * MIB), "its 1,500 MiB, and the 512 that came since"

    def test_restore_after_two_plugs_gives_all_memory(self, tmp_path: Path, hypervisor) -> None:
        ledger: list[LedgerEntry] = []
        host = Host(tmp_path, hypervisor, changed=ledger)
        for _ in range(3):
            host.cycle()
        hypervisor.sizes["a"] = 2560 * MIB
        host.cycle(2200 * MIB, balloon_max=2560 * MIB)
        ledger.append(LedgerEntry(host.target.entity, "balloon_target", 2560 * MIB, 2200 * MIB, "balloon", 0.0, "1"))
        hypervisor.sizes["a"] = 2712 * MIB
        host.cycle(balloon_max=3072 * MIB)
        hypervisor.sizes["a"] = 3072 * MIB  # another process has returned all memory
        host.cycle(balloon_max=3072 * MIB)
        host.restores(2560 * MIB, 2712 * MIB)
        assert hypervisor.commands[-1] == ("a", 3072 * MIB)


class LooksAt:
    """Hypervisor that also lists guests for `mom restore`."""

    def __init__(self, hypervisor, snapshot: Snapshot) -> None:
        self._hypervisor, self._snapshot = hypervisor, snapshot
        self.uri = str(hypervisor.uri)

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        self._hypervisor.set_balloon(guest, target_kib)

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        return self._hypervisor.balloon_sizes(guests)

    def guests(self) -> Sequence[Guest]:
        return self._snapshot.listed

    def fields(self, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        return {guest.id: guest.fields for guest in guests}
