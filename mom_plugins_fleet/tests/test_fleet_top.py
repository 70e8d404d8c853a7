"""`mom fleet top` without a terminal: what is known of the fleet as lines of a screen."""

import time

from mom_plugins_fleet.records import DayTotals, Group, GroupStatus, HostState, Member
from mom_plugins_fleet.verbs.top import body_lines, looking, picture_of, screen
from mom_plugins_fleet.view import SILENT_SECONDS, FleetView

GIB = 1 << 20


def fleet(**states: HostState | None) -> FleetView:
    """Of hosts that have told this just now; None: nothing."""
    view = FleetView()
    view.groups.records["kvm"] = (7, Group())
    for name, state in states.items():
        view.members.records[name] = (1, Member(group="kvm"))
        if state is not None:
            view.states.records[name] = (1, state)
            view.states.set_at[name] = view.states.newest = time.time()
    return view


def told(available: int = 8, **more: object) -> HostState:
    return HostState(mode="enforce", total=16 * GIB, available=available * GIB, others=3, **{"group": GroupStatus(revision=7), **more})  # type: ignore[arg-type]  # figures of any kind


def lines(view: FleetView, size: tuple[int, int] = (80, 24), trouble: str = "", *keys: str) -> list[str]:
    look, picture = looking(), picture_of(view)
    for key in keys:
        look.press(key, look.listed(picture), body_lines(size))
    return ["".join(text for text, _ in line) for line in screen(look, picture, size, trouble)]


def test_hosts_that_suffer_come_first_each_with_how_it_is_in_words():
    view = fleet(
        h10=told(memory_state="high"),
        h2=told(1, memory_state="hard", unhealthy=2, today=DayTotals(killed=4)),
        h3=told(unhealthy=5),
        h1=told(),
        h4=told(),
        h5=None,
    )
    view.states.set_at["h4"] -= SILENT_SECONDS + 1
    view.members.records["h1"] = (1, Member(group="kvm", draining=True, cordoned=True))
    view.states.records["h1"] = (1, HostState(mode="enforce", total=16 * GIB, available=16 * GIB))
    shown = lines(view)
    assert [line.split()[0] for line in shown[4:10]] == ["h4", "h5", "h3", "h2", "h1", "h10"]
    notes = [line[shown[3].index("↓note") :].strip() for line in shown[4:10]]
    assert notes[1:] == ["has not reported yet", "", "short of memory (hard)", "drained, empty", "plenty of memory"]
    assert f"not reachable since {time.strftime('%H:%M', time.localtime(time.time() - SILENT_SECONDS - 1))}" in shown[4]
    assert shown[0].startswith("mom fleet: 6 hosts, 12 guests  no coordinator is active")
    assert "2 not reachable, 1 short of memory, 7 guests unhealthy" in shown[2]
    assert all(len(line) <= 80 for line in shown)


def test_what_is_known_of_one_host_is_told_when_it_is_opened():
    view = fleet(h1=told(group=GroupStatus(refused="line 3: no such word"), problems=2))
    shown = "\n".join(lines(view, (80, 24), "", "enter"))
    for said in ("2 problems", "8.00 GiB", "h1 refuses its group's policies: line 3: no such word", "Esc:back"):
        assert said in shown
    assert "details of the selected host" in "\n".join(lines(view, (80, 24), "", "?"))


def test_a_host_that_no_operator_has_signed_or_enrolled_is_named_and_steers_no_terminal():
    view = fleet(h1=told())
    view.members.damaged["h2"] = "it is not signed\x1b[2J"
    view.states.records["h3"] = (1, told())
    shown = lines(view, (160, 24))
    assert any(line.startswith("h2 ") and "entry in the fleet not trusted: it is not signed" in line for line in shown)
    assert any(line.startswith("h3 ") and "not in the fleet: ignored" in line for line in shown)
    assert all(line.isprintable() for line in shown)
    opened = "\n".join(lines(view, (160, 24), "", "enter"))
    assert "h2  (Esc: back)" in opened
    assert "entry in the fleet not trusted: it is not signed" in opened


def test_servers_that_are_lost_are_said_where_the_last_picture_stays():
    shown = lines(fleet(h1=told()), (80, 24), "cannot ask: NATS has not been reachable since 2026-01-01 10:00:00")
    assert shown[2].startswith("NOT REACHED: cannot ask: NATS has not been reachable since")
    assert shown[4].startswith("h1 ")
    assert "Waiting for the fleet's servers." in str(screen(looking(), None, (80, 24), "waiting for the fleet's servers"))
