"""Guests with a guarantee of their size at the start: `guarantee: start`."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from guest_facts import GIB

from mom_core import (
    Decision,
    EngineState,
    Entity,
    Guest,
    Host,
    LedgerEntry,
    PluginContext,
    Portion,
    Scope,
    Snapshot,
    Source,
    Value,
    load_config,
)
from mom_plugins_balloon import BalloonPlugin


class Guests:
    """Guests of a hypervisor, and the plugin that sees them. mom can be restarted."""

    def __init__(self, folder: Path, guarantee: str | None = "start") -> None:
        self.folder = folder
        self.guarantee = guarantee
        self.sizes: dict[str, tuple[str, float | None, float | None]] = {}
        self.changes: list[LedgerEntry] = []
        self.now = 0.0
        self.start_mom()

    def start_mom(self, *, serves: bool = True) -> None:
        """Restart mom: it knows only the files on the disk."""
        config = load_config(
            {"plugins": {"sim": {}, "balloon": {}}, "guests": {"*": {"guarantee": self.guarantee} if self.guarantee else {}}}
        )
        self.context = PluginContext(
            name="balloon", state_directory=self.folder, guest_settings=config.guest_settings("balloon"),
            engine_state=lambda: EngineState(changes=self.changes), serves=serves,
        )  # fmt: skip
        self.plugin = BalloonPlugin(BalloonPlugin.Settings(host_reserve=Portion(size=0)), self.context)
        self.plugin.mom_setup()

    def has(self, name: str, gib: float | None, maximum: float | None = 4, run: str = "1") -> None:
        self.sizes[name] = (run, gib, maximum)

    def cycle(self, age: float | None = 1.0) -> Mapping[str, Guest]:
        """Run a cycle, five seconds after the last. Return its guests.

        :param age: age of statistics; None without statistics
        """
        self.now += 5.0
        listed = [Guest(name, name, incarnation=run) for name, (run, _, _) in self.sizes.items()]
        rows: dict[str, Mapping[str, Value]] = dict(zip(self.sizes, self.plugin.mom_collect_guests(listed).rows(), strict=False))
        guests = {}
        for guest in listed:
            row = rows.get(guest.id, {})
            _, size, maximum = self.sizes[guest.id]
            own = {"balloon_cur": size and int(size * GIB), "balloon_max": maximum and int(maximum * GIB), "stats_age": age}
            fields = {name: value for name, value in {**row, **own}.items() if value is not None}
            guests[guest.id] = Guest(guest.id, guest.name, fields, incarnation=guest.incarnation)
        self.snapshot = Snapshot(Host(fields={"mem_available": 64 * GIB}), guests, monotonic=self.now)
        list(self.plugin.mom_act(self.snapshot))
        return guests

    def started(self, name: str, gib: float, maximum: float | None = 4, run: str = "1") -> None:
        """Start a guest with this size, and run cycles until its balloon rests."""
        self.has(name, gib, maximum, run)
        for _ in range(3):
            self.cycle()

    def may_have(self, name: str, gib: float) -> bool:
        """Return whether a decision for this size passes review."""
        wanted = Decision(self.snapshot.guests[name].entity, "balloon_target", int(gib * GIB), "", Source("test"))
        revisions = self.plugin.mom_review(self.snapshot, [wanted])
        return not any(revision.before is wanted and revision.after is None for revision in revisions)

    def holds(self, age: float | None = 1.0) -> dict[str, float]:
        """Run a cycle, and return the guarantees in GiB."""
        self.cycle(age)
        return {name: kib / GIB for name, kib in self.plugin._guarantees.standing.holds.items()}

    def changed(self, name: str, before_gib: float, run: str = "1") -> None:
        """Add a change of this guest's size to the ledger."""
        entity = Entity(Scope.GUEST, name, name)
        self.changes.append(LedgerEntry(entity, "balloon_target", int(before_gib * GIB), 3 * GIB, "balloon", 0.0, run))


@pytest.fixture
def guests(tmp_path: Path) -> Guests:
    return Guests(tmp_path)


class TestStartSize:
    def test_start_size_is_the_first_size_at_rest(self, guests):
        guests.started("vm", 1)
        assert guests.holds() == {"vm": 1}
        for size in (4, 2.5, 0.5):
            guests.has("vm", size)
            assert guests.holds() == {"vm": 1}

    def test_booting_guest_is_promised_its_present_size(self, guests):
        guests.has("vm", 4)
        assert [guests.holds(age) for age in (None, None, None, 1.0)] == [{"vm": 4}] * 4, "its present size"
        for size in (3.75, 2.5, 1.25, 1):
            guests.has("vm", size)
            assert guests.holds() == {"vm": size}, "its present size, until its balloon rests"
            assert not guests.may_have("vm", 4), "mom does not resize a booting guest"
        guests.cycle()
        assert guests.may_have("vm", 4)
        guests.has("vm", 4)
        assert guests.holds() == {"vm": 1}

    def test_guest_without_a_driver_is_promised_its_present_size(self, guests):
        guests.has("vm", 4)
        for _ in range(20):
            guests.cycle(None)
        assert not guests.may_have("vm", 2)
        assert guests.holds(None) == {"vm": 4}
        assert "balloon_start" not in guests.cycle(None)["vm"].fields

    def test_statistics_from_before_the_first_cycle_do_not_count(self, guests):
        guests.has("vm", 4)
        for age in (2.0, 7.0, 12.0, 17.0, 22.0):  # it reboots; these statistics are older
            guests.cycle(age)
        assert not guests.may_have("vm", 4)

    def test_new_incarnation_has_a_new_start_size(self, guests):
        guests.started("vm", 1)
        guests.started("vm", 2, run="2")
        assert guests.holds() == {"vm": 2}
        guests.start_mom()
        guests.has("vm", 4, run="2")
        assert guests.holds() == {"vm": 2}

    def test_plugged_memory_keeps_the_share(self, guests):
        guests.started("vm", 1, 4)
        guests.has("vm", 5, 8)
        assert guests.holds() == {"vm": 2}
        guests.start_mom()
        assert guests.holds() == {"vm": 2}
        guests.has("vm", 1, 3)
        guests.cycle()  # the share refers to the maximum of the last cycle
        assert guests.holds() == {"vm": 1}, "a smaller maximum does not reduce it"
        guests.has("vm", 0.5, 0.5)
        guests.cycle()
        assert guests.holds() == {"vm": 0.5}, "it cannot exceed the maximum"

    def test_guest_of_unknown_size_has_an_unknown_promise(self, guests):
        guests.has("vm", None, 4)
        assert [guests.holds() for _ in range(3)] == [{}, {}, {}]
        guests.started("vm", 1, 4)
        assert guests.holds() == {"vm": 1}

    def test_metadata_may_promise_the_start_size(self, tmp_path):
        guests = Guests(tmp_path, guarantee=None)
        guests.started("vm", 1)
        assert guests.holds() == {}
        listed = [Guest("vm", "vm", properties={"mem_guarantee": "start"}, incarnation="1")]
        assert guests.plugin._guarantees.own(listed) == {"vm": GIB}

    def test_start_size_outlives_a_late_maximum(self, guests):
        guests.started("vm", 1, maximum=None)
        guests.has("vm", 3)
        assert [guests.holds() for _ in range(2)] == [{"vm": 1}] * 2


class TestRestart:
    def test_next_mom_knows_the_start_size(self, guests):
        guests.started("vm", 1)
        guests.has("vm", 3)
        guests.changed("vm", 1)
        guests.start_mom()
        assert guests.holds() == {"vm": 1}
        assert guests.may_have("vm", 4)

    def test_ledger_knows_the_start_size_without_a_note(self, guests):
        guests.changed("vm", 1)
        guests.changed("other", 1, run="0")
        guests.has("other", 3)
        guests.started("vm", 3)
        assert guests.holds() == {"vm": 1, "other": 3}, "mom's own sizes, and entries of an earlier incarnation, do not count"

    def test_unlisted_guests_are_remembered(self, guests):
        guests.has("other", 2)
        guests.started("vm", 1)
        del guests.sizes["vm"]
        assert guests.holds() == {"other": 2}
        guests.start_mom()
        guests.holds()
        guests.has("vm", 3)
        assert guests.holds() == {"vm": 1, "other": 2}
        guests.sizes.clear()
        assert guests.holds() == {}
        guests.has("vm", 3)
        assert guests.holds() == {"vm": 1}

    def test_read_only_command_writes_nothing(self, guests):
        guests.start_mom(serves=False)
        guests.started("vm", 1)
        assert guests.holds() == {"vm": 1}
        assert not (guests.folder / "balloon").exists()

    def test_failed_write_is_repeated(self, guests):
        (guests.folder / "balloon").write_text("in the way")
        guests.started("vm", 1)
        assert guests.holds() == {"vm": 1}
        (guests.folder / "balloon").unlink()
        guests.holds()
        guests.start_mom()
        guests.has("vm", 3)
        assert guests.holds() == {"vm": 1}


@pytest.mark.parametrize("text", ["Start", "begin", "6", ["start"]])
def test_invalid_guarantee_is_refused(text):
    with pytest.raises(Exception, match="start"):
        load_config({"plugins": {"sim": {}, "balloon": {}}, "guests": {"*": {"guarantee": text}}})
