"""mom-guestd helps a host that is short of memory, if the guest's owner allows it. At any end, it restores its changes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agent_servers import FILES, MEMINFO, PRESSURE

from mom_devkit import HandClock, host_of, wait_until
from mom_plugins_guestagent import guestd
from mom_plugins_guestagent.guestd import KEPT, RECLAIM, REPORTING, CacheCounts, Relief, ReportingOrder, unused_since

PAGES_OF_MIB = 1024 // (os.sysconf("SC_PAGE_SIZE") // 1024)
NO_SWAP = MEMINFO.replace("200000", "0").replace("150000", "0")


def vmstat(**counts: int) -> str:
    """Return /proc/vmstat with these counts in MiB."""
    mib = {name: counts.pop(name, 0) * PAGES_OF_MIB for name in CacheCounts.PAGES} | {"pgpgin": counts.pop("pgpgin", 0) * 1024}
    assert not counts
    return "".join(f"{name} {number}\n" for name, number in mib.items())


class Inside:
    """Files of a guest. Tests act as its kernel."""

    def __init__(self, root: Path, order: str = "9\n") -> None:
        files = {REPORTING: order, RECLAIM: "", "proc/vmstat": vmstat(nr_inactive_file=400), "proc/meminfo": NO_SWAP}
        self.root = host_of(root, {**FILES, **files, "proc/pressure/memory": PRESSURE})

    def __getitem__(self, name: str) -> str:
        return (self.root / name).read_text()

    def __setitem__(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    @property
    def order(self) -> str:
        return self[REPORTING].strip()

    def stalled(self, us: int) -> None:
        self["proc/pressure/memory"] = PRESSURE.replace("123456", str(123456 + us))

    def cache(self, **counts: int) -> None:
        self["proc/vmstat"] = vmstat(**counts)


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    return Inside(tmp_path)


@pytest.fixture
def clock() -> HandClock:
    return HandClock(1000.0)


# --- the order of free page reporting ------------------------------------------------------------------------------------------------


def test_the_order_is_lowered_for_as_long_as_the_host_is_short_and_then_what_stood_there(inside: Inside, clock: HandClock) -> None:
    relief = Relief(str(inside.root), 2, clock=clock)
    relief.told(33)
    assert (inside.order, relief.figures()) == ("2", {"reporting_order": 2, "short_left": 33})
    assert relief.turn() == 33.0
    clock.now += 20
    relief.told(33)
    clock.now += 32
    relief.turn()
    assert inside.order == "2", "it was told again meanwhile"
    clock.now += 1
    relief.turn()
    assert (inside.order, relief.figures()) == ("9", {"reporting_order": 9, "short_left": 0})
    assert not (inside.root / KEPT).exists()
    relief.told(33)
    relief.told(0)
    assert inside.order == "9", "the host said that it is not short any more"
    relief.told(10**9)
    assert relief.left() == guestd.MOST_SHORT_SECONDS, "it is believed no longer than some minutes"


def test_without_the_owners_word_nothing_is_done(inside: Inside, clock: HandClock) -> None:
    relief = Relief(str(inside.root), clock=clock)
    relief.told(33)
    assert (inside.order, inside[RECLAIM], relief.turn()) == ("9", "", None)
    assert relief.figures() == {"reporting_order": 9}


@pytest.mark.parametrize("order", ["2\n", "-1\n", "nonsense\n"])
def test_an_order_that_is_low_or_of_no_use_is_left_alone(tmp_path: Path, clock: HandClock, order: str) -> None:
    inside = Inside(tmp_path, order)
    relief = Relief(str(inside.root), 2, clock=clock)
    relief.told(33)
    relief.end()
    assert inside[REPORTING] == order
    assert not (inside.root / KEPT).exists()


def test_the_owner_has_the_last_word(inside: Inside, clock: HandClock) -> None:
    relief = Relief(str(inside.root), 2, clock=clock)
    relief.told(33)
    inside[REPORTING] = "5\n"
    relief.told(33)
    assert inside.order == "5", "it is not lowered again"
    clock.now += 34
    relief.turn()
    assert inside.order == "5", "nor is what stood there before put in its place"
    assert not (inside.root / KEPT).exists()


def test_one_that_begins_puts_back_what_another_left_whatever_its_own_owner_wants(inside: Inside, clock: HandClock) -> None:
    Relief(str(inside.root), 2, clock=clock).told(33)
    Relief(str(inside.root)).begin()
    assert inside.order == "9"


def test_what_was_there_first_is_never_lost(inside: Inside, capsys: pytest.CaptureFixture[str]) -> None:
    ReportingOrder(str(inside.root)).lower(4)
    (inside.root / REPORTING).unlink()
    (inside.root / REPORTING).mkdir()  # cannot be written now
    assert not ReportingOrder(str(inside.root)).put_back()
    assert (inside[KEPT], ReportingOrder(str(inside.root)).now()) == ("9 4\n", None)
    (inside.root / REPORTING).rmdir()
    inside[REPORTING] = "4\n"
    ReportingOrder(str(inside.root)).lower(2)
    assert (inside.order, inside[KEPT]) == ("2", "9 2\n"), "not 4"
    assert ReportingOrder(str(inside.root)).put_back()
    assert inside.order == "9"
    assert capsys.readouterr().err == ""


def test_where_it_cannot_be_noted_what_stood_there_nothing_is_changed(inside: Inside, capsys: pytest.CaptureFixture[str]) -> None:
    (inside.root / "run").write_text("no folder")
    ReportingOrder(str(inside.root)).lower(2)
    assert inside.order == "9"
    assert "cannot change the order of free page reporting from 9: " in capsys.readouterr().err


# --- unused page cache -------------------------------------------------------------------------------------------


def test_what_came_lately_or_left_meanwhile_does_not_count_as_unused() -> None:
    def unused(then: str, now: str) -> int:
        page_kib = 1024 // PAGES_OF_MIB
        return unused_since(CacheCounts(then, page_kib), CacheCounts(now, page_kib)) // 1024

    lay = vmstat(nr_inactive_file=400)
    assert unused(lay, lay) == 400
    assert unused(lay, vmstat(nr_inactive_file=600, pgpgin=200)) == 400, "it was read meanwhile"
    assert unused(lay, vmstat(nr_inactive_file=600)) == 400, "it came from where nobody counts"
    assert unused(lay, vmstat(nr_inactive_file=400, pgpgin=100, pgsteal_file=100)) == 300, "the kernel dropped the oldest"
    assert unused(lay, vmstat(nr_inactive_file=300, nr_active_file=100, pgactivate=100)) == 300, "it was used again"
    assert unused(lay, vmstat(nr_inactive_file=450, nr_dirtied=50)) == 400, "it was written"
    assert unused(lay, vmstat(nr_inactive_file=500, pgdeactivate=100)) == 400, "it was in use until lately"
    assert unused(lay, vmstat(nr_inactive_file=100, pgpgin=900)) == 0


@contextmanager
def trimming(inside: Inside, clock: HandClock, seconds: int = 600) -> Iterator[Relief]:
    """Yield the relief of a guest that has watched its page cache long enough. From now on, its host is short of memory."""
    relief = Relief(str(inside.root), trim_seconds=seconds, clock=clock)
    end = clock.now + seconds
    while clock.now < end:
        clock.now += min(relief.turn() or 0.0, end - clock.now)
    relief.told(300)
    relief.turn()
    assert inside[RECLAIM] == "", "before it was watched for a moment, nothing is dropped"
    yield relief
    relief.end()


def steps(inside: Inside, clock: HandClock, relief: Relief, seconds: float) -> list[str]:
    """Run for some seconds. Return the requests to the kernel."""
    asked, end = [], clock.now + seconds
    while True:
        rest = relief.turn() or seconds
        if inside[RECLAIM]:
            asked.append(inside[RECLAIM])
            inside[RECLAIM] = ""
        if clock.now + rest > end:
            clock.now = end
            return asked
        clock.now += rest


def test_no_more_than_that_is_dropped(inside: Inside, clock: HandClock) -> None:
    inside.cache(nr_inactive_file=24)
    with trimming(inside, clock) as relief:
        clock.now += 4
        relief.turn()
        assert inside[RECLAIM] == str(16 << 20)
        inside.cache(nr_inactive_file=8, pgsteal_file=16)
        clock.now += 60
        relief.turn()
        assert inside[RECLAIM] == str(8 << 20)
        inside[RECLAIM] = ""
        inside.cache(nr_inactive_file=200, pgsteal_file=24, pgpgin=200)
        assert steps(inside, clock, relief, 200) == [], "all that is there now came lately"


def test_it_rests_while_the_guests_tasks_wait_for_memory(inside: Inside, clock: HandClock) -> None:
    with trimming(inside, clock) as relief:
        inside.stalled(100_000)
        clock.now += 5
        assert steps(inside, clock, relief, 55) == []
        assert steps(inside, clock, relief, 20) != [], "they do not any more"


def test_it_rests_when_what_was_dropped_is_read_again(inside: Inside, clock: HandClock) -> None:
    with trimming(inside, clock) as relief:
        clock.now += 5
        relief.turn()
        assert inside[RECLAIM]
        inside[RECLAIM] = ""
        inside.cache(nr_inactive_file=390, workingset_refault_file=4)
        clock.now += 2
        assert steps(inside, clock, relief, 55) == []
        assert steps(inside, clock, relief, 20) != []


def test_memory_of_programs_is_never_asked_for(inside: Inside, clock: HandClock) -> None:
    inside["proc/meminfo"] = MEMINFO
    with trimming(inside, clock) as relief:
        assert set(steps(inside, clock, relief, 20)) == {f"{16 << 20} swappiness=0"}


def test_a_kernel_that_cannot_leave_it_alone_is_not_asked_again(
    inside: Inside, clock: HandClock, capsys: pytest.CaptureFixture[str]
) -> None:
    inside["proc/meminfo"] = MEMINFO
    with trimming(inside, clock) as relief:
        (inside.root / RECLAIM).unlink()
        (inside.root / RECLAIM).symlink_to("/dev/full")  # refuses all writes
        clock.now += 5
        relief.turn()
        assert relief.turn() == relief.left(), "it waits for nothing but the end of the host's word"
        assert "trimmed" not in relief.figures()
    told = capsys.readouterr().err
    assert told.startswith("mom-guestd: page cache is not trimmed: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize("lacks", [RECLAIM, "proc/vmstat", "proc/pressure/memory"])
def test_a_kernel_that_lacks_something_for_it_is_left_alone(
    inside: Inside, clock: HandClock, lacks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (inside.root / lacks).unlink()
    relief = Relief(str(inside.root), trim_seconds=600, clock=clock)
    relief.told(33)
    assert relief.turn() == 33.0
    assert "page cache is not trimmed: " in capsys.readouterr().err


def test_it_is_counted_how_much_is_gone(inside: Inside, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(path: Path, text: str) -> None:
        inside.cache(nr_inactive_file=390, pgsteal_file=10)

    with trimming(inside, clock) as relief:
        monkeypatch.setattr(guestd, "_write", kernel)
        clock.now += 5
        relief.turn()
        assert relief.figures()["trimmed"] == 10 << 10
        monkeypatch.undo()


# --- the protocol, and the process ---------------------------------------------------------------------------------------------------


@pytest.mark.processes
def test_what_it_has_changed_is_put_back_however_it_ends(inside: Inside) -> None:
    command = [sys.executable, "-I", "-S", guestd.__file__, "--root", str(inside.root)]

    def helping() -> subprocess.Popen[str]:
        host, device = os.openpty()
        daemon = subprocess.Popen([*command, "--channel", os.ttyname(device), "--reporting-order"], stderr=subprocess.PIPE, text=True)
        assert daemon.stderr is not None
        assert daemon.stderr.readline().startswith("mom-guestd: serving ")
        os.write(host, b"short 300 a\n")
        wait_until(lambda: inside.order == "2")
        os.close(host)
        os.close(device)
        return daemon

    with helping() as daemon:
        daemon.terminate()
        assert daemon.wait(60) == 0
    assert inside.order == "9"
    with helping() as daemon:
        daemon.kill()
    assert (inside.order, inside[KEPT]) == ("2", "9 2\n")
    with helping() as daemon:  # the next one begins with the original value, and is also killed
        daemon.kill()
    assert inside[KEPT] == "9 2\n"
    assert subprocess.run([*command, "--put-back"], check=False, timeout=60).returncode == 0
    assert inside.order == "9"
