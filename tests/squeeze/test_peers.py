"""Laws of other managers follow their descriptions."""

import peers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import GIB, MIB, GuestSeen, HostSeen


def host(free: float, total: float = 24 * GIB) -> HostSeen:
    return HostSeen(total, free, free)


def guest(size: float, unused: float, maximum: float = 1024, least: float = 0) -> GuestSeen:
    return GuestSeen(size * MIB, maximum * MIB, unused * MIB, least * MIB)


@pytest.mark.parametrize(
    ("free", "guests", "targets"),
    [
        pytest.param(4 * GIB, {"a": guest(1000, 800)}, {"a": 950}, id="a twentieth of each guest with less than a fifth of the host free"),
        pytest.param(2.4 * GIB, {"a": guest(1000, 120)}, {"a": 980}, id="to what a guest uses and the same free part as the host has"),
        pytest.param(0.24 * GIB, {"a": guest(1000, 0)}, {"a": 960}, id="what guests use with less than a twentieth of the host free"),
        pytest.param(4 * GIB, {"a": guest(500, 0)}, {}, id="nobody grows while the host lacks memory"),
        pytest.param(
            6 * GIB,
            {"a": guest(500, 400), "b": guest(1020, 900), "c": guest(1024, 900)},
            {"a": 525, "b": 1024},
            id="each guest by a twentieth with enough on the host, up to its maximum",
        ),
    ],
)
def test_mom_as_it_was(free: float, guests: dict[str, GuestSeen], targets: dict[str, float]) -> None:
    assert peers.mom_targets([(host(free), guests)]) == pytest.approx({name: size * MIB for name, size in targets.items()})


LEFT, LACKS = 2 * GIB + 300 * MIB, 2 * GIB - 300 * MIB
"""Available memory of a host of 10 GiB, 300 MiB above and below PVE's goal of 8 GiB used."""


def of_pve(size: float, unused: float = 500, least: float = 512, maximum: float = 1024, shares: float = 1000) -> GuestSeen:
    return GuestSeen(size * MIB, maximum * MIB, unused * MIB, least * MIB, shares)


@pytest.mark.parametrize(
    ("available", "guests", "targets"),
    [
        pytest.param(2 * GIB + 9 * MIB, {"a": of_pve(800)}, {}, id="nothing for less than 10 MiB"),
        pytest.param(LACKS, {"a": of_pve(1024), "b": of_pve(1024)}, {"a": 924, "b": 924}, id="100 MiB of a guest in a round"),
        pytest.param(
            2 * GIB - 60 * MIB,
            {"a": of_pve(812), "b": of_pve(812, shares=2000)},
            {"a": 712, "b": 872},
            id="guests are levelled by their shares: 540 MiB above the least, 180 and 360",
        ),
        pytest.param(LACKS, {"rich": of_pve(512), "poor": of_pve(1024, unused=128)}, {"rich": 612, "poor": 924}, id="then all, levelled"),
        pytest.param(LEFT, {"rich": of_pve(600), "poor": of_pve(600, unused=100)}, {"poor": 700}, id="pressed ones grow first"),
        pytest.param(
            2 * GIB + 100 * MIB,
            {"full": of_pve(1014, unused=0), "small": of_pve(950, unused=0)},
            {"full": 1024, "small": 1024},
            id="what one cannot take goes to the others",
        ),
        pytest.param(LACKS, {"a": of_pve(512, unused=400)}, {}, id="nothing below the least"),
    ],
)
def test_pve_as_it_is_described(available: float, guests: dict[str, GuestSeen], targets: dict[str, float]) -> None:
    found = peers.pve_targets(HostSeen(10 * GIB, 0, available), guests)
    assert found == pytest.approx({name: size * MIB for name, size in targets.items()})


@given(
    st.floats(0, 64 * GIB),
    st.dictionaries(
        st.text(max_size=3), st.tuples(st.floats(64, 4096), st.floats(0, 1), st.floats(0, 1), st.floats(0, 50_000)), max_size=8
    ),
)
def test_pve_stays_between_least_and_maximum_and_within_its_step(
    available: float, drawn: dict[str, tuple[float, float, float, float]]
) -> None:
    guests = {
        name: of_pve(maximum * (0.5 + share / 2), free * maximum, maximum / 2, maximum, shares)
        for name, (maximum, share, free, shares) in drawn.items()
    }
    for name, size in peers.pve_targets(HostSeen(64 * GIB, available, available), guests).items():
        one = guests[name]
        assert one.least - 1 <= size <= one.maximum + 1
        assert abs(size - one.size) <= peers.PVE_STEP + 1


@pytest.mark.parametrize(
    ("pages", "committed", "free", "run", "wanted"),
    [
        (100, 8 * GIB, 20 * GIB, False, 100),
        (100, 20 * GIB, 20 * GIB, True, 64),
        (100, 20 * GIB, 4 * GIB, True, 400),
        (1000, 20 * GIB, 20 * GIB, True, 950),
    ],
)
def test_ksmtuned_starts_when_too_much_is_promised_and_hurries(pages: int, committed: float, free: float, run: bool, wanted: int) -> None:
    wish = peers.ksmtuned(pages, 24 * GIB, committed, free)
    assert (wish.run, wish.pages) == (run, wanted)
