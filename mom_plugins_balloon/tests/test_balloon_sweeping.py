"""The plugin and its sweeps: which decision is one, what the hypervisor is asked, and what a crash leaves."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from mom_core import Change, Decision, InTransition, NoChangeNeeded, PluginContext, Snapshot, Source, Target
from mom_devkit import wait_until
from mom_plugins_balloon import BalloonPlugin
from mom_plugins_balloon.parameters import UNKNOWN_REACTION_SECONDS
from mom_plugins_balloon.sweep.sweep import FIRST_SLICE_KIB, LEAST_SLICE_KIB, SLICE_KIB, SweepEnd

MIB = 1024
SIZE = 2 * 1024 * MIB
BOTTOM = 1200 * MIB
STAT = "{pid} (qemu) S 1 1 1 0 -1 0 50 0 0 0 20 10 0 0 20 0 4 0 1000 0 {pages} 18446744073709551615 " + "0 " * 13 + "3 0 0 0 0 0"
DECIDED = Source("policy")


@pytest.fixture
def context(tmp_path: Path) -> PluginContext:
    process = tmp_path / "root/proc/4711"
    process.mkdir(parents=True)
    (process / "stat").write_text(STAT.format(pid=4711, pages=400_000))
    return PluginContext(name="balloon", root=tmp_path / "root", state_directory=tmp_path / "state", interval=5.0)


@pytest.fixture
def plugin(context):
    return BalloonPlugin(BalloonPlugin.Settings(), context)


def seen_at(hypervisor, seen_by, context, pid: int | None = 4711, **fields) -> Snapshot:
    """Guest a is suggested to be swept."""
    law = {"balloon_suggested": BOTTOM, "balloon_reason": "sweep", "stats_age": 0.3, "mem_usable": SIZE - 600 * MIB}
    found = seen_by(hypervisor, context.monotonic(), a=law | fields)
    properties = {} if pid is None else {"pid": pid}
    return replace(found, guests={name: replace(guest, properties=properties) for name, guest in found.guests.items()})


def write(plugin, hypervisor, snapshot, value=BOTTOM):
    """What the engine does of a decision about guest a; what the plugin says of it."""
    guest = snapshot.guests["a"]
    decision = Decision(guest.entity, "balloon_target", value, "", DECIDED)
    [*revisions] = plugin.mom_review(snapshot, [decision])
    assert not revisions
    said = plugin.mom_write(hypervisor, [Change(Target(guest.entity, "balloon_target"), value, SIZE)])
    return next(iter(said.values()), None)


def swept(plugin, hypervisor, snapshot):
    """Wait until no sweep is under way; the columns of all guests then."""
    wait_until(lambda: "a" not in plugin._sweeps.sweeper._under_way)
    return plugin.mom_collect_guests(list(snapshot.guests.values()))


def test_what_the_law_suggests_as_a_sweep_is_one_operation(plugin, hypervisor, seen_by, context) -> None:
    snapshot = seen_at(hypervisor, seen_by, context)
    assert write(plugin, hypervisor, snapshot) is None
    assert isinstance(plugin.mom_read(hypervisor, [Target(snapshot.guests["a"].entity, "balloon_target")]).popitem()[1], int | InTransition)
    columns = swept(plugin, hypervisor, snapshot)
    slices = [int(SIZE - FIRST_SLICE_KIB - number * SLICE_KIB) for number in range(3)]
    assert hypervisor.commands == [*(("a", size) for size in slices), ("a", SIZE)], "its process holds what it did: there is no more"
    assert columns["sweep_end"][0] == SweepEnd.NOTHING_MORE.value
    assert columns["sweep_gave"][0] == 0
    assert columns["sweep_rest"][0] > 5
    assert columns["balloon_target"][0] == SIZE, "it was asked for its headroom again"
    assert 0 < plugin.mom_collect_host()["balloon_reaction"] < 1


def test_a_slow_reaction_keeps_guests_from_being_swept_for_as_long_as_a_burst_lasts(hypervisor, seen_by, context) -> None:
    later = 0.0
    context = replace(context, monotonic=lambda: time.monotonic() + later)
    plugin = BalloonPlugin(BalloonPlugin.Settings(), context)
    snapshot = seen_at(hypervisor, seen_by, context)
    write(plugin, hypervisor, snapshot)
    swept(plugin, hypervisor, snapshot)
    assert plugin.mom_collect_host()["balloon_reaction"] != UNKNOWN_REACTION_SECONDS
    later = 16.0
    assert plugin.mom_collect_host()["balloon_reaction"] == UNKNOWN_REACTION_SECONDS


def test_what_a_sweep_did_not_get_is_known_for_ten_minutes_and_so_is_what_the_next_one_missed(hypervisor, seen_by, context) -> None:
    later = 0.0
    context = replace(context, monotonic=lambda: time.monotonic() + later)
    plugin = BalloonPlugin(BalloonPlugin.Settings(), context)
    snapshot = seen_at(hypervisor, seen_by, context, sweep_gain=100 * MIB)
    for missed in (100, 200):
        write(plugin, hypervisor, snapshot)
        assert swept(plugin, hypervisor, snapshot)["sweep_missed"][0] == missed * MIB
    later = 610.0
    assert swept(plugin, hypervisor, snapshot)["sweep_missed"][0] is None
    write(plugin, hypervisor, seen_at(hypervisor, seen_by, context, sweep_gain=100 * MIB))
    assert swept(plugin, hypervisor, snapshot)["sweep_missed"][0] == 100 * MIB


def test_the_next_sweep_begins_as_small_as_the_last_balloon_was_slow(plugin, hypervisor, seen_by, context, monkeypatch) -> None:
    snapshot = seen_at(hypervisor, seen_by, context)
    monkeypatch.setattr("mom_plugins_balloon.sweep.sweep.SLICE_SECONDS", 0.001)
    write(plugin, hypervisor, snapshot)
    swept(plugin, hypervisor, snapshot)
    before = len(hypervisor.commands)
    assert hypervisor.commands[0] == ("a", int(SIZE - FIRST_SLICE_KIB))
    write(plugin, hypervisor, seen_at(hypervisor, seen_by, context))
    wait_until(lambda: len(hypervisor.commands) > before)
    assert hypervisor.commands[before] == ("a", int(SIZE - LEAST_SLICE_KIB))


def test_another_size_is_set_as_it_is(plugin, hypervisor, seen_by, context) -> None:
    snapshot = seen_at(hypervisor, seen_by, context)
    assert write(plugin, hypervisor, snapshot, BOTTOM + MIB) is None
    assert hypervisor.commands == [("a", BOTTOM + MIB)]
    assert "a" not in plugin._sweeps.sweeper._under_way


def test_a_guest_without_a_known_process_is_not_swept_and_not_for_long(plugin, hypervisor, seen_by, context) -> None:
    snapshot = seen_at(hypervisor, seen_by, context, pid=None)
    assert "its process is not known" in str(write(plugin, hypervisor, snapshot))
    assert hypervisor.commands == []
    assert plugin.mom_collect_guests(list(snapshot.guests.values()))["sweep_rest"][0] > 500


@pytest.mark.parametrize(("gave", "rests"), [(0, True), (300 * MIB, False)], ids=["nothing", "some"])
def test_a_guest_that_gives_nothing_to_a_hypervisor_that_sweeps_by_itself_is_passed_over(
    plugin, hypervisor, seen_by, context, gave: int, rests: bool
) -> None:
    hypervisor.sweep_balloon = lambda guest, bottom: gave
    snapshot = seen_at(hypervisor, seen_by, context)
    write(plugin, hypervisor, snapshot)
    assert ("sweep_rest" in plugin.mom_collect_guests(list(snapshot.guests.values()))) is rests


def test_a_guest_that_is_swept_in_vain_for_long_keeps_others_from_being_swept_seldom(hypervisor, seen_by, context) -> None:
    now = time.monotonic()
    context = replace(context, monotonic=lambda: now)
    plugin = BalloonPlugin(BalloonPlugin.Settings(), context)
    gives: list[int] = [0, 0, 0, 0, 0, 300 * MIB, 0]
    rests: list[object] = []
    hypervisor.sweep_balloon = lambda guest, bottom: gives[len(rests)]
    for _ in gives:
        snapshot = seen_at(hypervisor, seen_by, context)
        write(plugin, hypervisor, snapshot)
        columns = plugin.mom_collect_guests(list(snapshot.guests.values()))
        rests.append(columns["sweep_rest"][0] if "sweep_rest" in columns else 0)
        now += 50.0 if rests[-1] != 120 else 200.0
    assert rests == [2, 2, 2, 120, 120, 0, 2], "a burst is over sooner"


def test_statistics_that_have_become_too_old_meanwhile_are_not_swept_by(plugin, hypervisor, seen_by, context) -> None:
    said = write(plugin, hypervisor, seen_at(hypervisor, seen_by, context, stats_age=1.1))
    assert isinstance(said, NoChangeNeeded)
    assert hypervisor.commands == []


def test_the_law_is_told_which_guests_balloon_takes_memory(plugin, hypervisor, seen_by, context) -> None:
    snapshot = seen_at(hypervisor, seen_by, context)
    write(plugin, hypervisor, snapshot)
    columns = wait_until(lambda: (found := plugin.mom_collect_guests(list(snapshot.guests.values()))).get("sweep_under_way") and found)
    assert list(columns["sweep_under_way"]) == [1, None, None]
    assert "sweep_under_way" not in swept(plugin, hypervisor, snapshot)


def test_another_size_ends_the_sweep(plugin, hypervisor, seen_by, context) -> None:
    snapshot = seen_at(hypervisor, seen_by, context)
    write(plugin, hypervisor, snapshot)
    grows = seen_at(hypervisor, seen_by, context, balloon_reason="headroom-growing", balloon_suggested=SIZE, balloon_cur=1800 * MIB)
    write(plugin, hypervisor, grows, SIZE)
    count = len(hypervisor.commands)
    columns = swept(plugin, hypervisor, snapshot)
    assert hypervisor.commands[count - 1] == ("a", SIZE)
    assert len(hypervisor.commands) == count, "nothing is asked after that"
    assert columns["balloon_target"][0] == SIZE


@pytest.mark.parametrize("size", [SIZE - int(SLICE_KIB), SIZE - 3 * int(SLICE_KIB)])
def test_what_a_crash_cut_off_is_known_and_given_back(plugin, hypervisor, seen_by, context, size: int) -> None:
    snapshot = seen_at(hypervisor, seen_by, context)
    plugin._sweeps._note({"a": ("", BOTTOM, SIZE)})
    after = BalloonPlugin(BalloonPlugin.Settings(), context)
    hypervisor.sizes["a"] = size
    target = Target(snapshot.guests["a"].entity, "balloon_target")
    assert after.mom_read(hypervisor, [target]) == {target: InTransition(size)}, "mom's own doing, so that it is put back"
    acts = list(after.mom_act(seen_at(hypervisor, seen_by, context)))
    [back] = [act for act in acts if isinstance(act, Decision)]
    assert (back.entity.id, back.value) == ("a", SIZE)
    unknown = list(after.mom_act(seen_at(hypervisor, seen_by, context, balloon_cur=None)))
    assert not [act for act in unknown if isinstance(act, Decision)]
    assert back in list(after.mom_act(seen_at(hypervisor, seen_by, context))), "until it is asked for it"
    after.mom_write(hypervisor, [Change(target, SIZE, size)])
    assert hypervisor.commands == [("a", SIZE)]
    assert not [act for act in after.mom_act(seen_at(hypervisor, seen_by, context)) if isinstance(act, Decision)]
    third = BalloonPlugin(BalloonPlugin.Settings(), context)
    hypervisor.targets, hypervisor.sizes["a"] = {}, (BOTTOM + SIZE) // 2
    assert third.mom_read(hypervisor, [target]) == {target: (BOTTOM + SIZE) // 2}, "by now that is what another process has set"
    assert not [act for act in third.mom_act(seen_at(hypervisor, seen_by, context)) if isinstance(act, Decision)]


def test_a_size_that_no_sweep_explains_is_somebody_elses(plugin, hypervisor, seen_by, context) -> None:
    snapshot = seen_at(hypervisor, seen_by, context)
    plugin._sweeps._note({"a": ("", BOTTOM, SIZE)})
    after = BalloonPlugin(BalloonPlugin.Settings(), context)
    hypervisor.sizes["a"] = BOTTOM - 100 * MIB
    target = Target(snapshot.guests["a"].entity, "balloon_target")
    assert after.mom_read(hypervisor, [target]) == {target: BOTTOM - 100 * MIB}
