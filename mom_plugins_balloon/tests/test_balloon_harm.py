"""Harmed guests: mom reports them for a while. Unknown figures are not harm."""

from collections.abc import Mapping

from guest_facts import GIB

from mom_core import Columns, Condition, Guest, Severity, Snapshot, Value
from mom_plugins_balloon import BalloonPlugin
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.harm import KILLED_SECONDS, RecentKills, conditions, guest_columns
from mom_plugins_balloon.names import KILLED, SUFFERS
from mom_plugins_balloon.states import MemoryState


def seen(now: float, incarnation: str = "1", **kills: Value) -> Snapshot:
    """Return guests with half of their maximum, and programs killed since their boot (`kills`)."""
    sizes: dict[str, Value] = {"balloon_cur": GIB, "balloon_max": 2 * GIB}
    guests = {
        name: Guest(name, name, {**sizes, **({} if count is None else {"guest_oom_kills": count})}, incarnation=incarnation)
        for name, count in kills.items()
    }
    return Snapshot(guests=guests, monotonic=now)


def after(*snapshots: Snapshot) -> Mapping[str, int]:
    return recent(*snapshots).lately()


def recent(*snapshots: Snapshot, state: MemoryState = MemoryState.HIGH) -> RecentKills:
    killed, records = RecentKills(), BalloonedGuests()
    for snapshot in snapshots:
        records.see(snapshot)
        killed.see(records, state)
    return killed


def test_new_kills_count_for_ten_minutes() -> None:
    assert after(seen(0, a=5, b=0)) == {}
    assert after(seen(0, a=5, b=0), seen(1, a=7, b=0)) == {"a": 2}
    assert after(seen(0, a=5), seen(1, a=7), seen(200, a=8), seen(1 + KILLED_SECONDS, a=8)) == {"a": 3}
    assert after(seen(0, a=5), seen(1, a=7), seen(200, a=8), seen(2 + KILLED_SECONDS, a=8)) == {"a": 1}


def test_kills_count_across_gaps_but_not_across_boots() -> None:
    assert after(seen(0, a=5), seen(1, a=None), seen(2), seen(3, a=6)) == {"a": 1}
    assert after(seen(0, a=5), seen(1, "2", a=6)) == {}
    assert after(seen(0, a=5), seen(1, "2", a=1), seen(2, "2", a=2)) == {"a": 1}


def with_kills(*snapshots: Snapshot, state: MemoryState = MemoryState.HIGH) -> Condition:
    (condition,) = conditions(snapshots[-1], recent(*snapshots, state=state))
    return condition


def whole(now: float, **kills: Value) -> Snapshot:
    """Return guests with their maximum, and programs killed since their boot."""
    fields: dict[str, Value] = {"balloon_cur": 2 * GIB, "balloon_max": 2 * GIB}
    return Snapshot(guests={name: Guest(name, name, {**fields, "guest_oom_kills": count}) for name, count in kills.items()}, monotonic=now)


def test_kills_in_a_shrunk_guest_are_an_error() -> None:
    shrunk = with_kills(seen(0, a=0, b=0), seen(1, a=2, b=1))
    assert (shrunk.name, shrunk.severity) == ("killed", Severity.ERROR)
    assert "3 programs" in shrunk.message
    assert "a, b" in shrunk.message
    assert with_kills(whole(0, a=0), whole(1, a=1)).severity is Severity.WARNING


def test_guarantee_is_no_cure_on_a_full_host() -> None:
    killed = seen(0, "", a=0), seen(1, "", a=1)
    on_full = with_kills(*killed, state=MemoryState.LOW)
    assert on_full.why == "a had less than the maximum memory, and the host had no memory to return"
    assert on_full.cure == "free memory on the host: a guarantee does not help while the host lacks memory"
    assert with_kills(*killed).cure == "set a guarantee for guests whose programs must not be killed"


def test_size_at_the_kill_counts() -> None:
    back = with_kills(seen(0, "", a=0), seen(1, "", a=1), whole(2, a=1))
    assert (back.severity, back.why) == (Severity.ERROR, "a had less than the maximum memory")
    assert with_kills(seen(0, "", a=0), whole(1, a=1)).severity is Severity.ERROR, "it may have grown after the kill"
    assert with_kills(whole(0, a=0), seen(1, "", a=1)).severity is Severity.ERROR, "it may have shrunk before the kill"
    assert with_kills(whole(0, a=0), whole(1, a=1), seen(2, "", a=1)).severity is Severity.WARNING, "it shrank after the kill"


def test_suffering_guests_are_counted_by_harm() -> None:
    unhealthy = {**dict.fromkeys("abcde", "swapping"), "f": "short of memory", "g": "", "h": None, "i": "", "j": "swapping"}
    killed = recent(*(seen(count, "", **dict.fromkeys("ghij", 0) | {"i": count, "j": count}) for count in (0, 2)))
    bare = Snapshot(guests={name: Guest(name, name, {"guest_oom_kills": 0} if name in "ghij" else {}) for name in unhealthy})
    columns = guest_columns(bare, list(unhealthy.values()), killed)
    suffers = [*["swapping"] * 5, "short of memory", "", None, "2 programs killed", "swapping, 2 programs killed"]
    assert columns[SUFFERS] == suffers
    guests = {name: Guest(name, name, {field: values[place] for field, values in columns.items()}) for place, name in enumerate(unhealthy)}
    (condition,) = (found for found in conditions(Snapshot(guests=guests), killed) if found.name == "suffering")
    assert condition.severity is Severity.WARNING
    message = "8 of 10 guests suffer: a, b, c and 3 more are swapping; f is short of memory; i had programs killed"
    assert condition.message == message
    assert not list(conditions(Snapshot(guests={"g": Guest("g", "g", {SUFFERS: ""})}), RecentKills()))


def test_kill_is_reported_in_the_same_cycle(plugin: BalloonPlugin) -> None:
    plugin.mom_setup()
    plugin.mom_derive(seen(0, a=0))
    last = seen(1, a=1)
    host, columns = plugin.mom_derive(last)
    assert isinstance(columns, Columns)
    assert (host[KILLED], list(columns[KILLED]), list(columns[SUFFERS])) == (1, [1], ["1 program killed"])
    list(plugin.mom_act(last))
    (killed,) = (found for found in plugin.mom_problems(last) if isinstance(found, Condition) and found.name == "killed")
    assert killed.message.startswith("1 program killed")
