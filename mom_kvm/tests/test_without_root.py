"""Writes, reads and connections of plugins without root: a real mom-helper does them, on test files and the kernel's."""

import errno
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mom_core import ControlSpec, Finding, GuestGone, HypervisorError, NotSupported, PermissionDenied, Scope, Unit
from mom_devkit.without_root import HelperProcess, MomPower, StandInGuest, another_user, why_not_another_user
from mom_helper import orders
from mom_helper.orders import Answer, Order, OrderNumber
from mom_kvm import Address, Helper, PeerCredentials, ProcessStat, unwritable_finding, write_file, write_group_files

pytestmark = [pytest.mark.processes, pytest.mark.skipif(bool(why_not_another_user()), reason=why_not_another_user())]

LISTEN = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o600); listener.listen()
print("listening", flush=True); sys.stdin.read()
"""


@pytest.fixture
def mom_power() -> Iterator[MomPower]:
    """Yield rights through mom-helper only."""
    power = MomPower(by_helper=True)
    yield power
    power.close()


@pytest.fixture
def guest(mom_stand_in_guest: StandInGuest) -> StandInGuest:
    return mom_stand_in_guest


def finding(path: Path) -> Finding | None:
    return unwritable_finding(path, "knob", "it stays", observes=False)


def test_a_knob_that_root_declares_is_written_and_another_is_refused_with_a_cure(mom_power: MomPower, mom_open_folder: Path) -> None:
    knob, other = mom_open_folder / "run", mom_open_folder / "other"
    for path in (knob, other):
        path.write_text("0\n")
    with mom_power(f"[knob {knob}]\nvalues = 0 1 2\n"):
        assert finding(knob) is None
        write_file(knob, 1)
        with pytest.raises(HypervisorError, match="out of range"):
            write_file(knob, 3)
        with pytest.raises(PermissionDenied, match="root has not declared") as refused:
            write_file(other, 1)
        undeclared, missing = finding(other), finding(mom_open_folder / "missing")
    assert (knob.read_text().strip(), other.read_text()) == ("1", "0\n")
    for hint in (refused.value.hint, undeclared.cure if undeclared else ""):
        assert f"`[knob {other}]`" in hint
        assert "/etc/mom/helper.d" in hint
    assert missing is not None


def test_without_a_helper_the_error_says_how_to_start_it_and_it_is_tried_again(mom_power: MomPower, mom_open_folder: Path) -> None:
    knob = mom_open_folder / "run"
    knob.write_text("0\n")
    declaration = f"[knob {knob}]\nvalues = 0 1 2\n"
    with mom_power(declaration):
        write_file(knob, 1)
    assert mom_power.helper is not None
    mom_power.helper.kill()
    with mom_power(), pytest.raises(HypervisorError, match="mom-helper") as away:
        write_file(knob, 2)
    assert not isinstance(away.value, PermissionDenied), "that is for good"
    mom_power.helper.start()
    with mom_power():
        write_file(knob, 2)
    assert knob.read_text().strip() == "2"
    with another_user(), pytest.raises(PermissionDenied) as none:
        write_file(knob, 0)
    assert "systemctl enable --now mom-helper.socket" in none.value.hint


def test_a_file_of_a_guests_control_group_is_written(mom_power: MomPower, guest: StandInGuest) -> None:
    file = guest.folder / "cgroup.max.depth"
    if not file.exists():
        pytest.skip("no control groups version 2 here")
    with mom_power(f"[group cgroup.max.depth]\nleast = 0\nmax = yes\n{guest.DECLARATION}"):
        assert write_group_files([Helper.GroupWrite(str(file), "7", guest.pid)]) == [None]
        assert file.read_text() == "7\n"
        gone = Helper.GroupWrite(str(file.parent / "gone/cgroup.max.depth"), "7", guest.pid)
        of_another = Helper.GroupWrite(str(file), "7", os.getpid())  # its pid now belongs to another process
        several = [Helper.GroupWrite(str(file), text, guest.pid) for text in (*map(str, range(50)), "-7", "max")]
        another, *found, too_low, lifted, of_no_group = write_group_files([of_another, *several, gone])
        assert file.read_text() == "max\n"
    assert [*found, lifted] == [None] * 51
    assert isinstance(of_no_group, NotSupported)
    assert isinstance(too_low, HypervisorError)
    assert isinstance(too_low.__cause__, OSError)
    assert isinstance(another, HypervisorError)
    assert isinstance(another.__cause__, OSError)
    assert another.__cause__.errno == errno.EPERM
    assert not isinstance(another, GuestGone)
    assert file.read_text() == "max\n"


@pytest.mark.parametrize("name", ["smaps", "numa_maps", "ksm_stat"])
def test_what_only_a_guests_own_user_may_read_of_it_is_read(mom_power: MomPower, guest: StandInGuest, name: str) -> None:
    folder = Path(f"/proc/{guest.pid}")
    if not (folder / name).exists():
        pytest.skip(f"this kernel has no {name}")
    with another_user(), pytest.raises(PermissionError):
        ProcessStat.open_file(folder, name)
    with mom_power(guest.DECLARATION):
        content = ProcessStat.read_file(folder, name)
        assert ProcessStat.read_file(f"/proc/{os.getppid()}", name) == b"", "it is no guest"
        with pytest.raises(PermissionError):
            ProcessStat.open_file(folder, "environ")
    assert content.splitlines()[0] == ProcessStat.read_file(folder, name).splitlines()[0]


def test_a_guests_socket_is_connected_to_and_no_other_users(mom_power: MomPower, guest: StandInGuest, mom_open_folder: Path) -> None:
    mom_open_folder.chmod(0o777)
    path = mom_open_folder / "monitor"
    another = StandInGuest([sys.executable, "-I", "-S", "-c", LISTEN, str(path)])
    try:
        assert another.process.stdout is not None
        assert another.process.stdout.readline() == b"listening\n"
        with mom_power(guest.DECLARATION):
            with Address(path=str(path)).connect() as connection:
                assert PeerCredentials.of(connection).process == another.pid
                assert not connection.getblocking()
            with socket.socket(socket.AF_UNIX) as mine:
                other = mom_open_folder / "other"
                mine.bind(str(other))
                mine.listen()
                other.chmod(0)
                with pytest.raises(PermissionError):
                    Address(path=str(other)).connect()
    finally:
        another.close()


def test_as_root_no_helper_is_asked(mom_open_folder: Path) -> None:
    helper = HelperProcess("")
    helper.start()
    try:
        knob = mom_open_folder / "run"
        knob.write_text("0\n")
        os.environ.update(helper.environment)
        write_file(knob, 1)
        assert knob.read_text() == "1"
    finally:
        for name in helper.environment:
            os.environ.pop(name, None)
        helper.close()


def test_a_helper_that_does_not_follow_orders_is_waited_for_once_whatever_the_number_of_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mom_kvm.root_helper.ANSWER_SECONDS", 1.0)
    connections = list[socket.socket]()

    def serve() -> None:
        """Declare one file, and never answer orders."""
        while True:
            try:
                connections.append(deaf.accept()[0])
            except OSError:
                return
            while message := connections[-1].recv(orders.ORDER.size):
                order = Order(*orders.ORDER.unpack(message))
                if order.number == OrderNumber.LIST:
                    answer = Answer(order.id, errno.ENOENT) if order.a else Answer(order.id, 0, 0, 100)
                    connections[-1].send(orders.ORDER.pack(*answer) + b"memory.high")

    values = [Helper.GroupWrite(f"/g/{name}", "7", 1) for name in ("memory.low", *["memory.high"] * 3 * orders.MOST_AT_ONCE)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.bind(str(tmp_path / "socket"))
        deaf.listen()
        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        refused, *late = Helper(str(tmp_path / "socket")).set_groups(values)
        deaf.shutdown(socket.SHUT_RDWR)
    serving.join(60)
    for connection in connections:
        connection.close()
    assert isinstance(refused, PermissionError), "what is known of one is said of it"
    assert len(late) == 3 * orders.MOST_AT_ONCE
    assert all(isinstance(one, TimeoutError) for one in late)
    assert len(connections) == 1


def test_a_helper_that_ends_while_it_follows_an_order_has_ended_and_the_next_is_connected_to(tmp_path: Path) -> None:
    def serve() -> None:
        """Close the first connection at its first order; serve the next."""
        with deaf.accept()[0] as first:
            first.recv(orders.ORDER.size)
        with deaf.accept()[0] as second:
            order = Order(*orders.ORDER.unpack(second.recv(orders.ORDER.size)))
            second.send(orders.ORDER.pack(*Answer(order.id)))

    helper = Helper(str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.bind(str(tmp_path / "socket"))
        deaf.listen()
        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        with pytest.raises(OSError, match="mom-helper has exited") as ended:
            helper.put_back()
        assert ended.value.errno == errno.ENOTCONN
        assert helper.put_back() == 0
        serving.join(60)
    helper.close()


def test_an_order_does_not_wait_for_ever_for_those_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_kvm.root_helper.ANSWER_SECONDS", 0.01)
    helper = Helper(str(tmp_path / "socket"))
    with helper._lock:
        with pytest.raises(TimeoutError, match="did not complete earlier requests"):
            helper.put_back()
        (late,) = helper.set_groups([Helper.GroupWrite("/g/memory.high", "7", 1)])
    assert isinstance(late, TimeoutError)
    with pytest.raises(OSError, match="cannot be reached"):
        helper.put_back()


@pytest.mark.parametrize(
    ("control", "lines"),
    [
        (ControlSpec("a", Unit.COUNT, Scope.HOST, "", "a", 0, 200, file="/proc/a"), "[knob /proc/a]\nleast = 0\nmost = 200"),
        (ControlSpec("b", Unit.COUNT, Scope.HOST, "", "b", choices=(0, 2), file="/proc/b"), "[knob /proc/b]\nvalues = 0 2"),
        (ControlSpec("c", Unit.BYTES, Scope.GUEST, "", "c", file="memory.max"), "[group memory.max]\nleast = 0\nmax = yes"),
    ],
)
def test_a_declaration_allows_a_controls_values(control: ControlSpec, lines: str) -> None:
    assert Helper.declaration(control) == lines
    assert all(f"`{line}`" in Helper.cure(lines) for line in lines.splitlines())
