"""The policy that limits guests to their agreed CPU time, over several cycles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qos_lives import world_of

from mom_core import CpuTune, Guest
from mom_devkit import FakeGuest, FakeHypervisor, run_plugins

FREE, HELD, AGREED = (-1, 100_000), (50_000, 100_000), 25.0
FORGOTTEN = 10
"""Number of cycles with other guests after which notes about a missing guest are forgotten."""


class World(FakeHypervisor):
    """Hypervisor with a guest with an agreed quarter of the host's CPU time, which may be missing, and another guest."""

    def __init__(self, stands: tuple[int, int] = FREE) -> None:
        self.guest_there = FakeGuest("vm", "vm", cpu=CpuTune(*stands, 100, AGREED))
        super().__init__([self.guest_there, FakeGuest("other", "other")])
        self.away = False

    def guests(self) -> Sequence[Guest]:
        return [guest for guest in super().guests() if not self.away or guest.id != self.guest_there.id]

    def agree(self, percent: float) -> None:
        self.guest_there.cpu = replace(self.guest_there.cpu, user_limit_percent=percent)

    def limits_seen(self, folder: Path, cycles: int, change: Callable[[int], object]) -> list[tuple[int | None, int | None]]:
        """Return quota and period after each cycle. `change` is called before each."""
        seen: list[tuple[int | None, int | None]] = []

        def between(number: int) -> None:
            seen.append((self.guest_there.cpu.quota_us, self.guest_there.cpu.period_us))
            change(number)

        plugins: dict[str, type | Mapping[str, object]] = {"world": world_of(self), "qos": {"cpu_limits": True}, "policy": {}}
        run_plugins(folder, plugins, cycles=cycles + 1, between=between)
        return seen[1:]


def test_a_limit_that_is_no_longer_agreed_goes_away_also_where_it_was_forgotten_what_stood_before(tmp_path: Path) -> None:
    world = World()

    def change(number: int) -> None:
        world.away = 2 < number <= 2 + FORGOTTEN
        if number == FORGOTTEN + 5:
            world.agree(100.0)

    assert world.limits_seen(tmp_path, FORGOTTEN + 6, change)[-3:] == [HELD, FREE, FREE]


def test_a_limit_with_which_a_guest_came_from_another_host_goes_away_when_it_is_no_longer_agreed(tmp_path: Path) -> None:
    world = World(HELD)

    def change(number: int) -> None:
        if number == 3:
            world.agree(100.0)

    assert world.limits_seen(tmp_path, 4, change) == [HELD, HELD, FREE, FREE]
