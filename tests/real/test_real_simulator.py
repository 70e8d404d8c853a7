"""The simulator is close to real guests: the same events under the same policy on both."""

import pytest
from ballast import available_mib
from compared import LEAST_LEFT_MIB, Course, Member, Track, difference, real, simulated
from real_guests import Lab, not_here

pytestmark = [pytest.mark.real, pytest.mark.alone]

# All have few files. Whether a guest keeps page cache depends on its usable memory. Near the law's bound (a quarter), the time of a
# statistic
# would decide whether it is trimmed.
MEMBERS = (
    Member("calm", 512, base=120, files=48, reads=1024),
    Member("busy", 512, base=60, burst=60, period=30, duty=40, files=8, reads=512),
    Member("large", 768, base=200, files=64, reads=1024),
    Member("swaps", 448, base=100, burst=100, period=40, duty=50, files=8, reads=512, swap=128),
)
SETTLED_SECONDS = 12.0


@pytest.fixture(scope="module")
def tracks(laboratory: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Track, Track, float]:
    """Return observations of four real and simulated guests, and the duration in seconds."""
    course = Course(MEMBERS, seconds=30.0, room=1250.0, loads=({"at": 15.0, "lasts": 60.0, "mib": 200.0},))
    if available_mib() < LEAST_LEFT_MIB + 4096:
        not_here(f"only {available_mib()} MiB are available")
    folder = tmp_path_factory.mktemp("compared")
    try:
        first, happened, capacity = real(course, laboratory, folder / "real")
    finally:
        laboratory.destroy_all()
    return first, simulated(happened, capacity, folder / "simulated"), course.seconds


@pytest.mark.parametrize("figure", ["size", "usable"])
def test_simulated_guests_are_as_large_and_tell_of_as_much_usable_memory_as_real_ones(
    figure: str, tracks: tuple[Track, Track, float]
) -> None:
    first, second, seconds = tracks
    assert first.commands
    assert second.commands
    for one in MEMBERS:
        apart = difference(first.guests[one.name][figure], second.guests[one.name][figure], SETTLED_SECONDS, seconds)
        assert apart.rms < 0.25 * one.mib, one.name


def test_a_simulated_host_has_as_much_left_as_the_real_one(tracks: tuple[Track, Track, float]) -> None:
    first, second, seconds = tracks
    apart = difference(first.available, second.available, SETTLED_SECONDS, seconds)
    assert apart.rms < 0.15 * sum(one.mib for one in MEMBERS)
