"""Memory of one simulated guest, and its statistics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_sim.guest import BALLOON_RATE, MIB, MIN_SHARE, RESTART_SECONDS, USUAL_TRAITS, GuestTraits, new_guest, step
from mom_plugins_sim.workload import Workload, bursty, constant

GIB = 1024 * MIB


def a_guest(base=300 * MIB, maximum=GIB, swap=0.0, cached=1.0, target=None, traits=USUAL_TRAITS, **workload):
    bursts = [workload.pop(name, 0.0) for name in ("burst", "period", "duty", "phase")]
    demand = bursty(base, *bursts) if bursts[0] else constant(base)
    guest = new_guest(Workload(demand, **workload), maximum, swap, cached, traits=traits)
    guest.target = guest.target if target is None else target
    return guest


def run(guest, seconds, start=0.0):
    for second in range(seconds):
        step(guest, start + second, 1.0)
    return guest


@pytest.mark.parametrize(
    ("mib", "managed", "used", "not_usable"), [(192, 154, 25, 1), (512, 470, 26, 6), (1024, 973, 35, 71), (2048, 1980, 36, 75)]
)
def test_idle_kernel_matches_measurements(mib, managed, used, not_usable):
    guest = a_guest(base=0, maximum=mib * MIB, files=8 * MIB)  # the initramfs of the measured guests
    assert guest.managed / MIB == pytest.approx(managed, abs=2)
    assert (guest.managed - guest.free - guest.cache) / MIB == pytest.approx(used, abs=5)
    assert (guest.free + guest.cache - guest.usable) / MIB == pytest.approx(not_usable, abs=5)


@pytest.mark.parametrize(("freed", "returned"), [(1648, 1023), (1024, 988), (512, 484), (0, 16)])
def test_the_host_gets_back_as_much_as_from_real_guests(freed, returned):
    guest = a_guest(base=10 * MIB, maximum=2 * GIB)
    guest.touched += freed * MIB
    before = guest.touched
    guest.target = GIB
    run(guest, 2)
    assert (before - guest.touched) / MIB == pytest.approx(returned, abs=40)


def test_a_balloon_takes_the_page_cache_before_anything_else():
    guest = run(a_guest(base=300 * MIB, files=600 * MIB, hot_cache=200 * MIB, read_rate=10 * MIB, swap=GIB, target=500 * MIB), 3)
    assert guest.size == 500 * MIB
    assert guest.swapped == 0
    assert guest.cache < 200 * MIB
    assert guest.major_faults > 0, "what is read again and again now comes from disk"


def test_guest_with_swap_thrashes_below_its_working_set():
    guest = run(a_guest(base=600 * MIB, swap=GIB, target=400 * MIB), 5)
    assert guest.size == 400 * MIB
    assert guest.swapped > 200 * MIB
    assert guest.squeezed > 200 * MIB
    assert guest.swap_in > 0, "it thrashes: what is swapped out is wanted"
    assert guest.lost_seconds > 0


def test_starving_programs_are_killed_and_restart():
    guest = run(a_guest(base=100 * MIB, burst=800 * MIB, period=60, duty=0.5, target=400 * MIB), 3)
    assert guest.killed == 1
    assert guest.anon == 0
    run(guest, 47, start=3)
    assert guest.killed == 1
    assert guest.anon == 100 * MIB
    assert guest.lost_seconds == pytest.approx(RESTART_SECONDS, abs=1)


@pytest.mark.parametrize(("small", "left"), [(0.07, 30), (1.0, 450)], ids=["as measured", "freed in small pieces"])
def test_free_page_reporting_returns_large_pieces(small, left):
    traits = (USUAL_TRAITS, GuestTraits(reporting=True, small_pieces=small))
    plain, reporting = (a_guest(base=50 * MIB, burst=450 * MIB, period=100, duty=0.3, traits=guest_traits) for guest_traits in traits)
    for guest in (plain, reporting):
        run(guest, 30)
        assert guest.touched == plain.touched, "what is in use is not handed back"
        run(guest, 15, start=30)
    held = reporting.kernel + reporting.anon + reporting.cache
    assert (reporting.touched - held) / MIB == pytest.approx(left, abs=5)
    assert (plain.touched - held) / MIB == pytest.approx(450, abs=5)
    assert reporting.usable == plain.usable


def test_autodeflate_prevents_oom_kills():
    traits = GuestTraits(autodeflate=True)
    guest = a_guest(base=100 * MIB, burst=600 * MIB, period=100, duty=0.5, phase=50, traits=traits)
    guest.size = guest.target = 400 * MIB
    run(guest, 20)
    assert guest.size == 400 * MIB, "as long as there is room"
    run(guest, 30, start=50)
    assert guest.killed == 0
    assert guest.anon == 700 * MIB
    assert guest.size == pytest.approx(700 * MIB + guest.kernel + guest.low * MIN_SHARE)
    run(guest, 20, start=80)
    assert guest.size > 700 * MIB, "it is not taken again by itself"


@given(
    maximum=st.integers(min_value=128, max_value=64 * 1024).map(lambda mib: mib * MIB),
    base=st.floats(0.01, 0.9),
    burst=st.floats(0, 0.9),
    swap=st.sampled_from([0.0, 256.0 * MIB, 8.0 * GIB]),
    files=st.floats(0, 1),
    targets=st.lists(st.floats(0.05, 1.0), min_size=1, max_size=12),
    dt=st.sampled_from([0.1, 1.0, 5.0]),
)
def test_memory_is_never_made_or_lost(maximum, base, burst, swap, files, targets, dt):
    workload = Workload(bursty(base * maximum, burst * maximum, 40, 0.4), files * maximum, 30 * MIB, files * maximum / 3)
    guest = new_guest(workload, maximum, swap, 0.5)
    now = 0.0
    for target in targets:
        guest.target = max(target * maximum, guest.kernel + guest.low)
        for _ in range(4):
            before = guest.size
            step(guest, now, dt)
            now += dt
            grain = 1e-6 * maximum
            assert guest.free >= -grain
            assert abs(guest.size - before) <= BALLOON_RATE * dt + grain
            assert 0 <= guest.swapped <= guest.swap_total + grain
            assert guest.anon >= 0
            assert guest.cache >= -grain
            assert guest.anon + guest.swapped <= max(guest.demand, base * maximum) + grain
            assert guest.kernel + guest.anon + guest.cache - grain <= guest.touched <= guest.size + grain
            assert 0 <= guest.squeezed <= guest.demand
            assert guest.usable <= guest.free + guest.cache + grain
