"""The helper as a root process, with friendly and hostile clients of another user."""

import errno
import fcntl
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from helper_process import ENGINE, GUEST, STRANGER, Client, Group, RunningHelper
from helper_processes import PROGRAM

from mom_devkit import wait_until
from mom_helper.__main__ import MOST_CONNECTIONS
from mom_helper.before import UNCERTAIN, Before, _write_note
from mom_helper.declarations import Declared
from mom_helper.orders import MOST_AT_ONCE, MOST_PIECE_KIB, ORDER, PROCESS_FILES, Answer, Order, OrderNumber

pytestmark = [pytest.mark.processes, pytest.mark.skipif(os.geteuid() != 0, reason="what runs as root is tried as root")]

A, B, HIGH = 0, 1, 2
"""Numbers of the declared files."""

EPERM, ESRCH, EAGAIN, EINVAL, ERANGE, ENOENT = 1, 3, 11, 22, 34, 2
EXTREMES = (0, 1, -1, 2, 7, 1000, 1001, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63), os.getpid())
CLOSED = r"EOFError|ConnectionResetError|BrokenPipeError"


@pytest.fixture
def helper() -> Iterator[RunningHelper]:
    with running() as one:
        yield one


@contextmanager
def running(more: str = "", group: Group | None = None) -> Iterator[RunningHelper]:
    """Start a helper with more declarations."""
    with closing(RunningHelper(more, group)) as one:
        one.start()
        yield one


@pytest.fixture
def group() -> Iterator[Group]:
    with closing(Group(f"mom-test.slice/machine-qemu-{os.getpid()}.scope")) as one:
        yield one


@pytest.fixture
def elsewhere() -> Iterator[Group]:
    with closing(Group(f"mom-test-other.slice/machine-qemu-{os.getpid()}.scope")) as one:
        yield one


@pytest.fixture
def grouped(group: Group) -> Iterator[RunningHelper]:
    """Start a helper with the group as plain files."""
    with running(group=group) as one:
        yield one


def limiting(pid: int, inode: int) -> Callable[[Client], int]:
    """Return a function that limits a guest to 1 GiB, and returns the error."""
    return lambda client: client.error(OrderNumber.SET, HIGH, 1 << 30, pid, inode)


def high(helper: RunningHelper, group: Group) -> str:
    return (helper.folder_of(group) / "memory.high").read_text().strip()


# --- allowed orders -----------------------------------------------------------------------------------------------------------------


def test_a_knob_is_written_within_its_bounds_only(helper: RunningHelper) -> None:
    asked = [(A, 1, 0), (A, 1000, 0), (A, 0, ERANGE), (A, 1001, ERANGE), (B, 2, 0), (B, 3, ERANGE), (B, -1, ERANGE)]
    told = helper.ask(lambda client: [client.error(OrderNumber.SET, number, value) for number, value, _ in asked])
    assert told == [error for *_, error in asked]
    assert helper.values() == {"a": "1000", "b": "2", "c": "100"}
    assert f"{helper.knobs['a']}: 1000, was 1" in helper.log


def test_what_root_declared_is_listed_and_nothing_else_has_a_number(helper: RunningHelper) -> None:
    def listed(client: Client) -> list[list[object]]:
        answers = [client.order(OrderNumber.LIST, number) for number in (A, B, HIGH, 3, -1, 1 << 40)]
        return [[answer.error, text.decode()] for answer, text, _ in answers]

    assert helper.ask(listed) == [
        [0, str(helper.knobs["a"])], [0, str(helper.knobs["b"])], [0, "memory.high"], *[[ENOENT, ""]] * 3
    ]  # fmt: skip


def test_no_other_user_gets_an_answer(helper: RunningHelper) -> None:
    helper.socket.chmod(0o666)
    for user in (STRANGER, GUEST):
        with pytest.raises(AssertionError, match=CLOSED):
            helper.ask(lambda client: client.error(OrderNumber.SET, A, 7), user)
    assert helper.values()["a"] == "100"


def test_a_guests_group_is_limited_and_the_limit_lifted(grouped: RunningHelper, group: Group) -> None:
    pid, _ = group.process(GUEST)
    assert grouped.ask(lambda client: client.error(OrderNumber.SET, HIGH, 1 << 30, pid, grouped.inode(group))) == 0
    assert high(grouped, group) == str(1 << 30)
    assert grouped.ask(lambda client: client.error(OrderNumber.SET, HIGH, -1, pid, grouped.inode(group))) == 0
    assert high(grouped, group) == "max"
    assert grouped.ask(lambda client: client.error(OrderNumber.SET, HIGH, 4096, pid, grouped.inode(group))) == ERANGE


def test_only_processes_of_guests_users_in_guests_groups_are_guests(grouped: RunningHelper, group: Group, elsewhere: Group) -> None:
    guest = group.process(GUEST)
    others = [group.process(STRANGER), group.process(0), elsewhere.process(GUEST)]
    others += [(1, 0), (os.getpid(), 0), (0, 0), (-1, 0), (1 << 40, 0), (guest[0], guest[1] + 1)]

    def asked(client: Client) -> list[list[int]]:
        inode = grouped.inode(group)
        named = [(pid, inode) for pid, _ in others[:-1]] + [(guest[0], inode + 1)]
        told = [[client.error(OrderNumber.SET, HIGH, 1 << 30, *one) for one in named]]
        return [*told, [client.error(OrderNumber.OPEN, 0, 0, *one) for one in others]]

    assert {error for errors in grouped.ask(asked) for error in errors} <= {EPERM, ESRCH}
    assert high(grouped, group) == "max"
    assert grouped.ask(lambda client: client.error(OrderNumber.SET, HIGH, 1 << 30, guest[0], grouped.inode(group))) == 0


@pytest.mark.parametrize("line_break", ["\r", "\x85"])
def test_no_group_is_named_so_that_it_passes_for_another_guests(grouped: RunningHelper, group: Group, line_break: str) -> None:
    """Names of groups can contain any character except line feeds."""
    with closing(Group(f"mom-test.slice/own{line_break}0::{group.path}")) as disguised:
        pid, _ = disguised.process(GUEST)
        assert grouped.ask(limiting(pid, grouped.inode(group))) != 0
    assert high(grouped, group) == "max"


def test_a_group_that_is_not_the_guests_alone_is_left_alone() -> None:
    with closing(Group(f"mom-test.slice/shared-{os.getpid()}")) as shared, running(group=shared) as helper:
        (pid, _), (other, _) = shared.process(GUEST), shared.process(GUEST)
        folder = helper.folder_of(shared)
        for members, error in ((f"{pid}\n{other}\n", EPERM), (f"{pid}\n", 0)):
            (folder / "cgroup.procs").write_text(members)
            assert helper.ask(limiting(pid, folder.stat().st_ino)) == error


def test_files_of_a_guests_process_can_be_read_and_only_these(grouped: RunningHelper, group: Group) -> None:
    pid, started = group.process(GUEST)

    def read(client: Client) -> list[object]:
        found: list[object] = []
        for number in range(-1, len(PROCESS_FILES) + 1):
            answer, _, received = client.order(OrderNumber.OPEN, number, 0, pid, started)
            for one in received:
                found.append(len(os.read(one, 1 << 20)) > 0)
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.write(one, b"1")
            found += [answer.error] if answer.error else []
        return found

    read_at_all = [(Path(f"/proc/{pid}") / name).exists() for name in PROCESS_FILES]
    assert grouped.ask(read) == [ENOENT, *[True if there else ENOENT for there in read_at_all], ENOENT]


def test_the_kernel_may_be_told_to_kill_a_guest_first_but_not_to_spare_it(grouped: RunningHelper, group: Group) -> None:
    (pid, started), (stranger, other) = group.process(GUEST), group.process(STRANGER)
    score = Path(f"/proc/{pid}/oom_score_adj")
    wanted = ((500, 0, "500"), (-1, ERANGE, "500"), (1001, ERANGE, "500"), (0, 0, "0"))

    def asked(client: Client) -> list[tuple[int, str]]:
        return [(client.error(OrderNumber.SCORE, value, 0, pid, started), score.read_text().strip()) for value, _, _ in wanted]

    assert grouped.ask(asked) == [[error, stands] for _, error, stands in wanted]
    assert grouped.ask(lambda client: client.error(OrderNumber.SCORE, 500, 0, stranger, other)) == EPERM


# --- sockets -------------------------------------------------------------------------------------------------------------------------


SERVE = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o600)
listener.listen()
while True:
    connection, _ = listener.accept()
    connection.sendall(b"hello")
    connection.close()
"""


def serving(path: Path, user: int, group: Group | None) -> subprocess.Popen[bytes]:
    """Start a process of this user with a socket that only this user may use."""
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o777)
    one = subprocess.Popen(["/usr/bin/python3", "-c", SERVE, str(path)], user=user, group=user, extra_groups=[])
    if group is not None:
        (group.folder / "cgroup.procs").write_text(str(one.pid))
        group.started.append(one)
    wait_until(path.exists, "it listens", 60)
    wait_until(lambda: path.stat().st_mode & 0o777 == 0o600, "its mode is set", 60)
    time.sleep(0.1)
    return one


def connected(client: Client, path: Path) -> str:
    file = os.open(path, os.O_PATH)
    answer, _, received = client.order(OrderNumber.CONNECT, descriptors=[file])
    if answer.error:
        return f"error {answer.error}"
    with socket.socket(fileno=received[0]) as connection:
        return connection.recv(10).decode()


def test_a_monitor_of_a_guest_can_be_reached_and_no_other_programs_socket(grouped: RunningHelper, group: Group, elsewhere: Group) -> None:
    serving(grouped.folder / "run/guest", GUEST, group)
    serving(grouped.folder / "run/elsewhere", GUEST, elsewhere)
    serving(grouped.folder / "run/stranger", STRANGER, group)
    serving(grouped.folder / "run/root", 0, group)
    for name, told in (("guest", "hello"), ("elsewhere", "error 1"), ("stranger", "error 1"), ("root", "error 1")):
        assert grouped.ask(partial(connected, path=grouped.folder / "run" / name)) == told, name


def test_a_socket_that_root_made_for_a_guests_user_can_be_reached_as_libvirt_makes_them(grouped: RunningHelper, group: Group) -> None:
    server = serving(grouped.folder / "run/made", 0, None)
    try:
        os.chown(grouped.folder / "run/made", GUEST, GUEST)
        assert grouped.ask(lambda client: connected(client, grouped.folder / "run/made")) == "hello"
    finally:
        server.kill()
        server.wait(20)


def test_where_guests_run_as_root_no_other_socket_of_roots_can_be_reached(group: Group) -> None:
    """On Proxmox VE, for example, control sockets of root's services are not monitors of guests."""
    with running("[guests root]\nusers = root\nslices = mom-test.slice\n", group) as helper:
        server = serving(helper.folder / "run/service", 0, None)
        serving(helper.folder / "run/guest", 0, group)
        told = {name: helper.ask(partial(connected, path=helper.folder / "run" / name)) for name in ("service", "guest")}
        server.kill()
        server.wait(20)
        assert told == {"service": "error 1", "guest": "hello"}


def test_a_socket_that_nobody_accepts_from_keeps_no_order_waiting(helper: RunningHelper) -> None:
    path = helper.folder / "full"
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as waiting:
        listener.bind(str(path))
        os.chown(path, GUEST, GUEST)
        listener.listen(0)
        with suppress(BlockingIOError):
            while True:
                waiting.enter_context(one := socket.socket(socket.AF_UNIX)).setblocking(False)
                one.connect(str(path))
        file = os.open(path, os.O_PATH)
        assert helper.ask(lambda client: client.error(OrderNumber.CONNECT, descriptors=[file]), seconds=10) == EAGAIN
        os.close(file)


# --- original values ---------------------------------------------------------------------------------------------------------


def test_what_stood_there_is_put_back_after_any_end_of_the_helper(helper: RunningHelper) -> None:
    helper.ask(lambda client: [client.error(OrderNumber.SET, A, 7), client.error(OrderNumber.SET, A, 8)])
    helper.kill()
    helper.start()
    helper.ask(lambda client: client.error(OrderNumber.SET, A, 9))
    helper.kill()
    for _ in range(2):
        assert helper.put_back().returncode == 0
        assert helper.values()["a"] == "100"


def test_a_note_that_cannot_be_read_keeps_nothing_else_from_being_put_back(helper: RunningHelper) -> None:
    helper.ask(lambda client: [client.error(OrderNumber.SET, A, 7), client.error(OrderNumber.SET, B, 2)])
    (helper.state / "!unreadable").mkdir()
    assert helper.put_back().returncode == 1
    assert helper.values() == {"a": "100", "b": "1", "c": "100"}


def test_orders_are_followed_where_the_disk_of_the_log_is_full() -> None:
    with closing(RunningHelper()) as helper:
        (helper.folder / "log").symlink_to("/dev/full")
        helper.start()
        assert helper.ask(lambda client: [client.error(OrderNumber.SET, A, 7), client.error(OrderNumber.SET, A, 5000)]) == [0, ERANGE]
        assert helper.values()["a"] == "7"


def test_the_engine_cannot_make_the_helper_forget(helper: RunningHelper) -> None:
    def tried(client: Client) -> None:
        for value in (1, 100, 2, 1000, 100, 3):
            client.error(OrderNumber.SET, A, value)
        client.error(OrderNumber.PUT_BACK)
        client.error(OrderNumber.SET, A, 5)
        other = Client(helper.socket)
        for value in range(1, 40):
            other.send(ORDER.pack(*Order(OrderNumber.SET, 0, A, value)))
            client.send(ORDER.pack(*Order(OrderNumber.SET, 0, A, 1000 - value)))
        for _ in range(39):
            other.answer()
            client.answer()

    helper.ask(tried)
    assert helper.values()["a"] != "100"
    assert helper.ask(lambda client: list(client.order(OrderNumber.PUT_BACK)[0][2:4])) == [1, 0]
    assert helper.values()["a"] == "100"


def test_what_stood_there_may_be_written_again_though_root_would_not_let_it_be_set(helper: RunningHelper) -> None:
    helper.knobs["a"].write_text("5000\n")
    assert helper.ask(lambda client: [client.error(OrderNumber.SET, A, value) for value in (7, 5001, 5000)]) == [0, ERANGE, 0]
    assert helper.values()["a"] == "5000"


def test_two_that_write_the_same_take_turns_and_the_second_notes_nothing_in_a_file_that_has_gone(tmp_path: Path) -> None:
    knob, folder = tmp_path / "knob", tmp_path / "before"
    knob.write_text("100\n")
    memory, path = Before(str(folder)), folder / str(knob).replace("/", "!")
    with path.open("wb") as note, ThreadPoolExecutor(1) as thread:
        fcntl.flock(note, fcntl.LOCK_EX)
        writing = thread.submit(memory.write, str(knob), None, 7, allowed=True)
        with pytest.raises(TimeoutError):
            writing.result(0.3)
        path.unlink()
        fcntl.flock(note, fcntl.LOCK_UN)
        assert writing.result(20) == 100
    assert memory.put_back(lambda _: None) == (1, 0)
    assert knob.read_text() == "100"


def test_what_somebody_else_has_set_since_stays(helper: RunningHelper) -> None:
    helper.ask(lambda client: [client.error(OrderNumber.SET, A, 7), client.error(OrderNumber.SET, B, 2)])
    helper.knobs["a"].write_text("55\n")
    helper.ask(lambda client: client.error(OrderNumber.PUT_BACK))
    assert helper.values() == {"a": "55", "b": "1", "c": "100"}


def test_what_was_not_certain_is_when_mom_orders_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_killed(note: int, stood: int, wrote: str, path: str) -> None:
        if wrote != UNCERTAIN:
            raise SystemExit
        _write_note(note, stood, wrote, path)

    knob, memory = tmp_path / "knob", Before(str(tmp_path / "before"))
    knob.write_text("100\n")
    with monkeypatch.context() as patch:
        patch.setattr("mom_helper.before._write_note", is_killed)
        with pytest.raises(SystemExit):
            memory.write(str(knob), None, 7, allowed=True)
    memory.write(str(knob), None, 7, allowed=True)
    knob.write_text("55\n")
    assert memory.put_back(lambda _: None) == (0, 0)
    assert knob.read_text() == "55\n"


def test_what_somebody_else_has_set_in_between_is_what_stood_there_before(helper: RunningHelper) -> None:
    helper.ask(lambda client: client.error(OrderNumber.SET, A, 7))
    helper.knobs["a"].write_text("55\n")
    helper.ask(lambda client: client.error(OrderNumber.SET, A, 8))
    assert helper.put_back().returncode == 0
    assert helper.values()["a"] == "55"


def test_a_helper_that_is_killed_at_any_instant_knows_what_stood_there(helper: RunningHelper) -> None:
    def floods(client: Client) -> None:
        with suppress(OSError, EOFError):
            for value in range(100_000):
                client.error(OrderNumber.SET, A, 2 + value % 90)

    for number in range(4):
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                helper.ask(floods)
            os._exit(0)
        wait_until(lambda: helper.values()["a"] not in {"100", ""}, "the flood has begun", 60)
        time.sleep(0.006 * number)
        for one in reversed(helper.processes()):
            os.kill(one, 9)
        helper.kill()
        os.waitpid(pid, 0)
        if not helper.values()["a"]:  # a plain file is truncated first, unlike the kernel's
            helper.knobs["a"].write_text("2\n")
        assert helper.put_back().returncode == 0
        assert helper.values()["a"] == "100"
        helper.start()


def test_nothing_is_written_that_cannot_be_remembered(helper: RunningHelper) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "none", str(helper.state)], check=True)
    try:
        assert helper.ask(lambda client: client.error(OrderNumber.SET, A, 7)) == 28
        assert helper.values()["a"] == "100"
    finally:
        subprocess.run(["umount", str(helper.state)], check=True)
    assert helper.ask(lambda client: client.error(OrderNumber.SET, A, 7)) == 0


def test_what_an_ended_guest_had_is_forgotten_and_a_group_of_the_same_name_is_another_one(grouped: RunningHelper, group: Group) -> None:
    pid, _ = group.process(GUEST)
    grouped.ask(lambda client: client.error(OrderNumber.SET, HIGH, 1 << 30, pid, grouped.inode(group)))
    folder = grouped.folder_of(group)
    old = folder.rename(folder.with_name("old"))
    group.mirrored(grouped.groups, memory_high=f"{1 << 30}\n")
    assert grouped.ask(lambda client: list(client.order(OrderNumber.PUT_BACK)[0][2:4])) == [0, 0]
    assert high(grouped, group) == str(1 << 30)
    assert (old / "memory.high").read_text() == str(1 << 30)


def test_what_an_ended_guest_had_keeps_nothing_else_from_being_put_back(grouped: RunningHelper, group: Group) -> None:
    pid, _ = group.process(GUEST)
    grouped.ask(
        lambda client: [client.error(OrderNumber.SET, A, 7), client.error(OrderNumber.SET, HIGH, 1 << 30, pid, grouped.inode(group))]
    )
    shutil.rmtree(grouped.folder_of(group))
    assert grouped.ask(lambda client: list(client.order(OrderNumber.PUT_BACK)[0][2:4])) == [1, 0]
    assert grouped.values()["a"] == "100"
    assert [path for path in grouped.state.rglob("*") if path.is_file()] == []


def test_a_knob_that_keeps_nothing_is_written_and_nothing_is_remembered() -> None:
    refresh = Path("/proc/sys/vm/stat_refresh")  # makes the kernel add up its counters
    if not os.access(refresh, os.W_OK):
        pytest.skip("the kernel has no such knob")
    with running(f"[knob {refresh}]\nvalues = 1\n") as helper:
        assert helper.ask(lambda client: [client.error(OrderNumber.SET, 3, value) for value in (1, 0, 1)]) == [0, ERANGE, 0]
        assert helper.ask(lambda client: list(client.order(OrderNumber.PUT_BACK)[0][2:4])) == [0, 0]


# --- a hostile engine ----------------------------------------------------------------------------------------------------------------


def fuzz(client: Client, seed: int, count: int, pids: list[int]) -> int:
    """Send random orders with random words, and read the answers. Return the number of successful orders."""
    chance = random.Random(seed)  # noqa: S311  # it is to be the same each time
    done = 0
    numbers = [*OrderNumber, 0, 13, 77, (1 << 32) - 1]
    names = ["/etc/passwd", "/dev/null", "/proc/self/mem", "/proc/1/ns/mnt", "/run", "/dev/shm"]
    files = [os.open(name, os.O_PATH) for name in names if os.path.exists(name)]  # noqa: PTH110  # names are texts here
    files += [*os.pipe(), client.socket.fileno()]
    for _ in range(count):
        words = [
            chance.choice((*EXTREMES, *pids, chance.getrandbits(63), -chance.getrandbits(63), chance.randrange(-5, 2000))) for _ in range(4)
        ]
        sent = [chance.choice(files) for _ in range(chance.choice((0, 0, 0, 0, 0, 1, 1, 2, 30)))]
        answer, _, received = client.order(chance.choice(numbers), *words, descriptors=sent)
        done += answer.error == 0
        for one in received:
            os.close(one)
    return done


def test_an_engine_that_orders_anything_gets_nothing_but_what_is_declared(grouped: RunningHelper, group: Group, elsewhere: Group) -> None:
    guest, stranger, other = group.process(GUEST), group.process(STRANGER), elsewhere.process(GUEST)
    words = [*guest, *stranger, *other, 1, grouped.processes()[0]]
    before = {path: path.read_bytes() for path in grouped.folder.rglob("*") if path.is_file() and path.name != "log"}
    assert grouped.ask(lambda client: fuzz(client, 1, 2000, words), seconds=120) > 12
    allowed = {grouped.knobs["a"], grouped.knobs["b"], *grouped.folder.rglob("memory.high")}
    changed = {path for path, content in before.items() if path.read_bytes() != content}
    assert changed <= allowed
    assert 1 <= int(grouped.values()["a"]) <= 1000
    assert grouped.values()["b"] in {"0", "1", "2"}
    for pid, began in (guest, stranger, other):
        assert int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) == began, "nobody was ended"
    assert grouped.put_back().returncode == 0
    assert grouped.values() == {"a": "100", "b": "1", "c": "100"}
    assert high(grouped, group) == "max"
    is_alive_and_small(grouped)


MOST_MIB = 15 if sys.version_info < (3, 14) else 16
"""Limit of its memory, which is mostly the interpreter."""


def is_alive_and_small(helper: RunningHelper) -> None:
    assert helper.ask(lambda client: client.error(OrderNumber.SET, A, 77)) in {0, EAGAIN}
    for pid in helper.processes():
        with suppress(FileNotFoundError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():  # an ending process has no such line
                assert not line.startswith("VmRSS") or int(line.split()[1]) <= MOST_MIB << 10
    assert "Traceback" not in helper.log


@pytest.mark.parametrize("size", [0, ORDER.size - 1, 100_000])
def test_what_is_no_order_ends_the_connection(helper: RunningHelper, size: int) -> None:
    with pytest.raises(AssertionError, match=CLOSED):
        helper.ask(lambda client: client.send(bytes(size)) or client.answer())  # type: ignore[func-returns-value]  # one after the other
    is_alive_and_small(helper)


def test_descriptors_that_an_order_does_not_want_are_closed_however_many_there_are(helper: RunningHelper) -> None:
    def sent(client: Client) -> list[int]:
        asked = product((OrderNumber.SET, OrderNumber.CONNECT), (1, 2, 253))
        told = [client.error(number, 0, 7, descriptors=[0] * many) for number, many in asked]
        (helper.folder / "shared/asked").write_text("")
        wait_until((helper.folder / "shared/looked").exists, "it was looked", 60)
        return told

    shared = helper.folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with ThreadPoolExecutor(1) as thread:
        told = thread.submit(helper.ask, sent)
        wait_until((shared / "asked").exists, "it was asked", 60)
        assert max(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in helper.processes()) < 20
        (shared / "looked").write_text("")
        assert told.result() == [EINVAL, EINVAL, EINVAL, EPERM, EINVAL, EINVAL]


def test_descriptors_of_strange_files_are_refused_at_once(helper: RunningHelper) -> None:
    fifo = helper.folder / "fifo"
    os.mkfifo(fifo)
    fifo.chmod(0o666)

    def strange(client: Client) -> list[int]:
        pidfd, event, memory = os.pidfd_open(os.getpid()), os.eventfd(0), os.memfd_create("x")
        lingering = socket.socket()
        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
        files = [os.open(fifo, os.O_RDWR), os.open("/dev/null", os.O_PATH), os.open("/proc/self/mem", os.O_PATH), pidfd, event, memory]
        files += [socket.socket(socket.AF_UNIX).fileno(), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).fileno(), lingering.fileno()]
        files += [client.socket.fileno(), os.open(helper.socket, os.O_PATH)]
        return [client.error(OrderNumber.CONNECT, 0, descriptors=[file]) for file in files]

    assert set(helper.ask(strange)) == {EPERM}
    is_alive_and_small(helper)


def several(*asked: Sequence[int]) -> bytes:
    """Return a message with several orders. Their ids are their positions."""
    return b"".join(ORDER.pack(*Order(number, index, *words)) for index, (number, *words) in enumerate(asked))


def test_many_orders_to_write_may_be_one_message_and_each_has_its_answer(grouped: RunningHelper, group: Group) -> None:
    pid, _ = group.process(GUEST)
    groups = [(OrderNumber.SET, HIGH, size << 20, pid, grouped.inode(group)) for size in (100, 0, 200)]

    def answered(client: Client) -> list[list[int]]:
        client.send(several(*groups, (OrderNumber.SET, A, 77), (OrderNumber.SET, A, 1001)))
        answer, rest, _ = client.answer()
        return [[one.id, one.error] for one in (answer, *(Answer(*words) for words in ORDER.iter_unpack(rest)))]

    assert grouped.ask(answered) == [[0, 0], [1, ERANGE], [2, 0], [3, 0], [4, ERANGE]]
    assert high(grouped, group) == str(200 << 20)
    assert grouped.knobs["a"].read_text().strip() == "77"


@pytest.mark.parametrize(
    "asked",
    [
        [(OrderNumber.SET, A, 7)] * (MOST_AT_ONCE + 1),
        [(OrderNumber.SET, A, 7), (OrderNumber.LIST, 0)],
        [(OrderNumber.PUT_BACK,), (OrderNumber.SET, A, 7)],
    ],
)
def test_more_orders_at_once_or_other_ones_end_the_connection_and_none_is_followed(helper: RunningHelper, asked: list[list[int]]) -> None:
    with pytest.raises(AssertionError, match=CLOSED):
        helper.ask(lambda client: client.send(several(*asked)) or client.answer())  # type: ignore[func-returns-value]  # one after the other
    assert helper.knobs["a"].read_text() == "100\n"
    is_alive_and_small(helper)


def test_a_flood_is_slowed_down_and_its_log_bounded() -> None:
    with running("[limits]\norders = 200\n") as helper:
        began = time.monotonic()
        told = helper.ask(lambda client: [client.error(OrderNumber.SET, A, 1 + number % 9) for number in range(900)])
        took = time.monotonic() - began
        assert took >= 1, "600 at once, and 200 a second"
        assert told == [0] * 900
        assert len(helper.log.splitlines()) < 520 + 20 * took, "500 at once, and 20 a second"


def test_a_client_that_reads_no_answers_keeps_nobody_waiting(helper: RunningHelper) -> None:
    def deaf(client: Client) -> int:
        client.socket.setblocking(False)
        sent = 0
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            while sent < 100_000:
                client.send(ORDER.pack(*Order(OrderNumber.LIST, 0, 0)))
                sent += 1
        assert Client(helper.socket).error(OrderNumber.SET, A, 7) in {0, EAGAIN}
        return sent

    assert helper.ask(deaf) < 100_000
    is_alive_and_small(helper)


def test_there_are_only_so_many_connections_and_takers_and_they_end_with_their_clients(helper: RunningHelper) -> None:
    def many(_unused: Client) -> int:
        served = 0
        kept: list[object] = []
        for _ in range(2 * MOST_CONNECTIONS):
            with suppress(OSError, EOFError):
                one = Client(helper.socket)
                answer, *_ = one.order(OrderNumber.STEP_BACK)
                kept.append(one)
                served += answer.error == 0
        return served

    assert helper.ask(many) <= MOST_CONNECTIONS
    wait_until(lambda: len(helper.processes()) == 1, "all have ended", 60)
    is_alive_and_small(helper)


def test_the_taker_takes_of_guests_only(grouped: RunningHelper, group: Group, elsewhere: Group) -> None:
    guest, stranger, other = group.process(GUEST), group.process(STRANGER), elsewhere.process(GUEST)
    root = (1, int(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]))

    ways = (OrderNumber.TAKE_V2, OrderNumber.TAKE_V1, OrderNumber.TAKE_PROCESS)

    area = next(line for line in Path(f"/proc/{guest[0]}/maps").read_text().splitlines() if " rw-p " in line)

    def taken(client: Client) -> list[int]:
        client.order(OrderNumber.STEP_BACK)
        told = [client.error(way, 1000, 0, *one) for one in (stranger, other, root) for way in ways]
        return [*told, client.error(OrderNumber.TAKE_PROCESS, 4, int(area.partition("-")[0], 16), *guest)]

    *refused, of_guest = grouped.ask(taken)
    assert refused == [EPERM] * 9
    assert of_guest == 0


def test_of_a_group_that_holds_little_nothing_is_taken_and_of_another_one_a_piece_at_a_time(grouped: RunningHelper, group: Group) -> None:
    guest = group.process(GUEST)
    folder = group.mirrored(grouped.groups, memory_current=f"{(64 << 20) - 4096}\n", memory_reclaim="")

    def take(client: Client) -> int:
        return client.error(OrderNumber.TAKE_V2, 1 << 30, 1000, *guest)

    assert (grouped.ask(take), (folder / "memory.reclaim").read_text()) == (errno.ENODATA, "")
    (folder / "memory.current").write_text(f"{1 << 30}\n")
    assert (grouped.ask(take), (folder / "memory.reclaim").read_text()) == (0, str(MOST_PIECE_KIB << 10))


def test_a_process_that_ends_meanwhile_is_no_guest_and_neither_is_the_next_of_its_number(grouped: RunningHelper, group: Group) -> None:
    for _ in range(4):
        pid, started = group.process(GUEST)
        one = group.started[-1]

        def ordered(client: Client, pid: int = pid, started: int = started) -> list[int]:
            return [client.error(OrderNumber.SET, HIGH, (1 << 30) + number * 4096, pid, grouped.inode(group)) for number in range(20)]

        fork = os.fork()
        if fork == 0:
            time.sleep(0.002)
            os.kill(pid, 9)
            os._exit(0)
        told = grouped.ask(ordered)
        os.waitpid(fork, 0)
        one.wait(20)
        assert set(told) <= {0, ESRCH, EPERM, EAGAIN}
        assert grouped.ask(limiting(pid, grouped.inode(group))) == ESRCH
    is_alive_and_small(grouped)


# --- the start ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "[knob /a]\nleast = 1\nmost = 2\nno value\n",
        "[knob relative]\nleast = 1\nmost = 2\n", "[knob /a/../b]\nleast = 1\nmost = 2\n", "[knob /a]\nleast = 1\n",
        "[knob /a]\nleast = 3\nmost = 2\n", "[group a/b]\nleast = 0\n", "[group ]\nleast = 0\n", "[knob /a]\nvalues = x\n", "[what]\n",
        "[limits]\norders = many\n", "no section", "[knob /a]\n" * 2, "\0", "[guests x]\nusers = \xff",
    ],
)  # fmt: skip
def test_a_declaration_that_is_wrong_is_left_out_and_said(tmp_path: Path, text: str) -> None:
    said = list[str]()
    (tmp_path / "wrong.conf").write_bytes(text.encode("latin-1"))
    (tmp_path / "zz.conf").write_text("[knob /good]\nvalues = 1\n")
    assert list(Declared([str(tmp_path)], said.append).files) == ["/good"]
    assert len(said) == 1
    assert "is ignored" in said[0]


def test_a_declaration_that_others_than_root_can_write_is_left_out(tmp_path: Path) -> None:
    said = list[str]()
    for name, owner, mode in (("open.conf", 0, 0o666), ("theirs.conf", ENGINE, 0o644)):
        (tmp_path / name).write_text("[knob /a]\nvalues = 1\n")
        (tmp_path / name).chmod(mode)
        os.chown(tmp_path / name, owner, 0)
    assert not Declared([str(tmp_path)], said.append).files
    assert all("users other than root can write to it" in line for line in said)


@pytest.mark.parametrize("linked", [False, True], ids=["in the folder", "by a link"])
def test_a_declaration_that_others_than_root_can_replace_is_left_out(tmp_path: Path, linked: bool) -> None:
    theirs, folder, said = tmp_path / "theirs", tmp_path / "helper.d", list[str]()
    theirs.mkdir(mode=0o755)
    (theirs / "one.conf").write_text("[knob /a]\nleast = 0\nmost = 1\n")
    if linked:
        folder.mkdir(mode=0o755)
        (folder / "one.conf").symlink_to(theirs / "one.conf")
    assert Declared([str(folder if linked else theirs)], said.append).files
    os.chown(theirs, ENGINE, 0)
    assert not Declared([str(folder if linked else theirs)], said.append).files
    assert "users other than root can write to it, or to a folder above it" in said[0]


def test_where_root_declares_values_no_other_one_between_them_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "one.conf").write_text("[knob /a]\nvalues = 1 4\n")
    (file,) = Declared([str(tmp_path)], print).files.values()
    assert [value for value in range(-1, 6) if file.allows(value)] == [1, 4]


def test_a_declaration_of_another_package_is_added_and_a_later_file_holds(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("[knob /a]\nvalues = 1\n")
    (tmp_path / "b.conf").write_text("[knob /a]\nvalues = 2\n[knob /c]\nvalues = 3\n")
    files = Declared([str(tmp_path)], print).files
    assert {name: file.values for name, file in files.items()} == {"/a": (2,), "/c": (3,)}


def test_it_takes_the_socket_that_systemd_has_made() -> None:
    with closing(RunningHelper()) as one, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(one.socket))
        one.socket.chmod(0o666)
        listener.listen()
        start = f'exec 3<&{listener.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        command = ["bash", "-c", start, "bash", "/usr/bin/python3", "-I", "-S", str(PROGRAM), "serve", "--user", "nobody"]
        command += ["--state", str(one.state), "--declarations", str(one.declared)]
        with subprocess.Popen(command, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL) as process:
            try:
                assert one.ask(lambda client: client.error(OrderNumber.SET, A, 7)) == 0
            finally:
                process.kill()
