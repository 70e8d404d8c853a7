"""Guests behind monitors: listed, measured, resized, and contained."""

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_monitors import MIB, FakeGuest, FakeHost

from mom_core import (
    Entity,
    Guest,
    GuestBusy,
    GuestGone,
    HypervisorError,
    MomError,
    NotSupported,
    PermissionDenied,
    PluginContext,
    Scope,
    Value,
)
from mom_devkit import HandClock, wait_until
from mom_kvm import GuestState
from mom_plugins_qemu import sampler, visits
from mom_plugins_qemu.hypervisor import QemuHypervisor, examined
from mom_plugins_qemu.monitors import listeners_of, trusted_users
from mom_plugins_qemu.qemu_process import Identity
from mom_plugins_qemu.visits import Failure, Visit


def listed(hypervisor: QemuHypervisor) -> dict[str, Guest]:
    return {guest.name: guest for guest in hypervisor.guests()}


def fields(hypervisor: QemuHypervisor) -> dict[str, dict[str, Value]]:
    guests = hypervisor.guests()
    found = hypervisor.fields(guests)
    return {guest.name: found[guest.id] for guest in guests}


@contextlib.contextmanager
def held_monitor(path: Path) -> Iterator[socket.socket]:
    """Connect another client, which QEMU greets."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        assert client.recv(4096).startswith(b'{"QMP"')
        yield client


@contextlib.contextmanager
def another_process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in place of QEMU, and wait until it listens."""
    with subprocess.Popen([sys.executable, "-c", *arguments], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listens\n"
            yield process
        finally:
            process.kill()


def test_the_answers_of_a_slow_guest_are_awaited(host: FakeHost, hypervisor: QemuHypervisor) -> None:
    guest = host.add("web", slow=0.012)
    guest.reports(usable=700 * MIB)
    wait_until(lambda: fields(hypervisor).get("web", {}).get("mem_usable") == 700 * MIB)  # on a busy machine, a visit may fail


def test_a_guest_whose_answers_come_too_late_is_left_alone(guest: FakeGuest, hypervisor: QemuHypervisor) -> None:
    assert listed(hypervisor)["web"].blocked == {}
    guest.slow = 0.5
    assert listed(hypervisor)["web"].blocked == {"*": "its monitor did not answer in time"}


def test_a_guest_that_has_ended_is_not_listed(host: FakeHost, hypervisor: QemuHypervisor) -> None:
    host.add("web")
    entity = listed(hypervisor)["web"].entity
    host.end("web")
    # This test's process listened, and continues. For mom, the guest's socket was removed.
    assert listed(hypervisor)["web"].blocked == {"*": "nothing listens on its monitor's socket"}
    with pytest.raises(GuestBusy):
        hypervisor.set_balloon(entity, 500 * MIB)
    with pytest.raises(GuestGone):
        hypervisor.set_balloon(Entity(Scope.GUEST, "another", "another"), 500 * MIB)


def test_monitors_that_another_user_could_have_put_there_are_not_used(host: FakeHost, hypervisor: QemuHypervisor) -> None:
    assert list(hypervisor.guests()) == []
    host.folder.chmod(0o777)
    assert list(hypervisor.guests()) == [], "nothing is there that could be fake"
    host.add("web")
    with pytest.raises(PermissionDenied, match=r"mom does not use the monitors in .*: .* can be written by everybody") as raised:
        hypervisor.guests()
    assert "`users` of the qemu plugin" in (raised.value.hint or "")
    host.folder.chmod(0o755)
    assert list(listed(hypervisor)) == ["web"]


def test_guests_are_not_taken_for_gone_where_too_many_files_are_open_to_look_for_them(host: FakeHost, hypervisor: QemuHypervisor) -> None:
    host.add("web")
    assert list(listed(hypervisor)) == ["web"]
    limits, held = resource.getrlimit(resource.RLIMIT_NOFILE), [os.dup(0)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (held[0] + 20, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        with pytest.raises(HypervisorError, match="cannot be listed: Too many open files"):
            hypervisor.guests()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for file in held:
            os.close(file)
    assert list(listed(hypervisor)) == ["web"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_monitors_of_qemus_own_user_are_used_where_the_operator_names_it(host: FakeHost) -> None:
    host.add("web")
    os.chown(host.folder, 1, 1)
    sockets = (f"{host.folder}/*.qmp",)
    with pytest.raises(PermissionDenied, match="belongs to the user 1"):
        QemuHypervisor(PluginContext("qemu"), sockets).guests()
    users = trusted_users(["daemon"])
    assert list(listed(QemuHypervisor(PluginContext("qemu"), sockets, users))) == ["web"]
    with pytest.raises(MomError, match="there is no user nobody-here"):
        trusted_users(["nobody-here"])


@pytest.mark.processes
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_guest_that_another_user_pretends_to_be_is_not_listed_and_asked_nothing(host: FakeHost, hypervisor: QemuHypervisor) -> None:
    host.add("web")
    path = host.folder / "fake.qmp"
    program = f"""if True:
        import os, socket
        sock = socket.socket(socket.AF_UNIX)
        sock.bind({str(path)!r})
        os.setuid(1)
        sock.listen(1)
        print("listens", flush=True)
        while True:
            client, _ = sock.accept()
            try:
                client.send(b'{{"QMP": {{}}}}\\n')
                print(client.recv(100), flush=True)
            except OSError:
                pass
        """
    with another_process(program) as fake:
        assert list(listed(hypervisor)) == ["web"]
        assert hypervisor.foreign == {str(path): "the socket belongs to user 1"}
        (finding,) = (one for one in examined(hypervisor, stats_period=1.0) if one.subject == "monitor")
        assert finding.message == f"mom does not use {path}: the socket belongs to user 1, who could impersonate any guest"
        fake.kill()
        assert fake.stdout is not None
        assert b"execute" not in fake.stdout.read()


def test_a_guest_is_paused_and_goes_on_and_is_not_shut_down_for_good(guest: FakeGuest, hypervisor: QemuHypervisor) -> None:
    entity = listed(hypervisor)["web"].entity
    hypervisor.pause(entity)
    assert guest.status == "paused"
    assert hypervisor.standings([entity]) == {entity.id: GuestState.PAUSED}
    hypervisor.resume(entity)
    assert (guest.status, hypervisor.standings([entity])[entity.id]) == ("running", GuestState.RUNNING)
    with pytest.raises(NotSupported, match="nothing could start it again") as refused:
        hypervisor.shut_down(entity)
    assert "libvirt" in refused.value.hint
    assert guest.asked["system_powerdown"] == 0
    with pytest.raises(NotSupported):
        hypervisor.save(entity, 1.0)
    with pytest.raises(NotSupported):
        hypervisor.start(entity, 1.0)


def test_how_a_guest_is_that_does_not_answer_is_not_said_by_guess(guest: FakeGuest, host: FakeHost, hypervisor: QemuHypervisor) -> None:
    """Otherwise, a later mom would think that the paused guest runs, and would not resume it."""
    entity = listed(hypervisor)["web"].entity
    hypervisor.pause(entity)
    later = host.hypervisor()
    later.guests()
    guest.hangs = True
    wait_until(lambda: listed(later)["web"].blocked, "it answers though it hangs")
    with pytest.raises(GuestBusy, match="reading the state of guest web: its monitor is used by another client"):
        later.standings([entity])
    guest.hangs = False
    wait_until(lambda: _told(later, entity), "it is not asked again")
    assert later.standings([entity]) == {entity.id: GuestState.PAUSED}


def _told(hypervisor: QemuHypervisor, entity: Entity) -> bool:
    with contextlib.suppress(GuestBusy):
        return bool(hypervisor.standings([entity]))
    return False


def test_agents_are_reached_at_their_own_sockets_and_not_at_that_of_other_programs(host: FakeHost, hypervisor: QemuHypervisor) -> None:
    host.add("web")
    entity = listed(hypervisor)["web"].entity
    assert hypervisor.agent_channels([entity]) == {}, "by the command line of this test, which is no QEMU"
    channels = (("org.qemu.guest_agent.0", "/run/100.qga"), ("org.mom.guestd.0", "/run/mom/100"))
    (known,) = hypervisor.seen()
    known.identity = Identity("web", channels=channels)
    assert hypervisor.agent_channels([entity]) == {entity.id: {"org.mom.guestd.0": "/run/mom/100"}}
    with pytest.raises(NotSupported, match="cannot send commands to the agent"):
        hypervisor.agent_command(entity, "{}", 1.0)


def test_what_virtio_mem_has_plugged_in_is_part_of_the_guests_size(host: FakeHost, hypervisor: QemuHypervisor) -> None:
    device = {"id": "vmem0", "size": 512 << 20, "requested-size": 512 << 20, "max-size": 1 << 30, "block-size": 2 << 20, "node": 0}
    guest = host.add("web", size=900 * MIB, memory_devices=[{"type": "virtio-mem", "data": device}])
    found = fields(hypervisor)["web"]
    assert (found["balloon_cur"], found["balloon_max"]) == (1412 * MIB, 1536 * MIB)
    entity = listed(hypervisor)["web"].entity
    hypervisor.set_balloon(entity, 1112 * MIB)
    assert guest.size == 600 * MIB
    assert found["balloon_least"] == 513 * MIB
    with pytest.raises(NotSupported, match="is less than the smallest size that"):
        hypervisor.set_balloon(entity, 513 * MIB - 1)
    hypervisor.set_balloon(entity, 513 * MIB)
    assert guest.size == 1 * MIB
    device["size"] = device["requested-size"] = 256 << 20
    hypervisor.set_balloon(entity, 600 * MIB)
    assert guest.size == 344 * MIB, "what was taken since the last look is not asked of the balloon"


@pytest.mark.parametrize(
    ("more", "blocked"),
    [
        (
            {"balloon": False},
            {"balloon_target": "the guest has no balloon device", "balloon_stats_period": "the guest has no balloon device"},
        ),
        ({"status": "paused"}, {"*": "the guest is paused"}),
        ({"migration": "active"}, {"*": "the guest is being migrated"}),
        ({"migration": "completed"}, {}),
        (
            {"devices": [{"name": "gpu", "type": "child<vfio-pci>"}]},
            {"balloon_target": "a host device (vfio-pci) pins the guest's memory: the host cannot reclaim it"},
        ),
    ],
)
def test_a_guest_that_is_to_be_left_alone_is_blocked_with_the_reason(
    host: FakeHost, hypervisor: QemuHypervisor, more: dict[str, object], blocked: dict[str, str]
) -> None:
    host.add("web", **more)
    assert listed(hypervisor)["web"].blocked == blocked


HUGE = "the guest's memory is in huge pages: nothing else can use them"
LOCKED = "the guest's memory is locked: the host cannot reclaim it"
VFIO = "a host device (vfio-pci) pins the guest's memory: the host cannot reclaim it"


@pytest.mark.parametrize(
    ("held", "devices", "pinned"),
    [
        ("VmLck:\t       0 kB\nHugetlbPages:\t       0 kB\n", [], None),
        ("VmLck:\t       8 kB\nHugetlbPages:\t       0 kB\n", [], None),
        ("VmLck:\t       0 kB\nHugetlbPages:\t    2048 kB\n", [], HUGE),
        ("VmLck:\t 1060000 kB\nHugetlbPages:\t       0 kB\n", [], LOCKED),
        ("VmLck:\t 1060000 kB\nHugetlbPages:\t       0 kB\n", [{"name": "gpu0", "type": "child<vfio-pci>"}], VFIO),
    ],
    ids=["neither", "little is locked", "huge pages", "locked", "pinned by a device"],
)
def test_nothing_is_taken_of_memory_that_nothing_else_can_use(
    host: FakeHost, held: str, devices: list[dict[str, str]], pinned: str | None
) -> None:
    process = host.folder / f"proc/{os.getpid()}"
    process.mkdir(parents=True)
    for file in ("stat", "statm"):
        (process / file).write_bytes(Path(f"/proc/self/{file}").read_bytes())
    (process / "status").write_text(f"Name:\tqemu\n{held}Threads:\t1\n")
    host.add("web", devices=devices)
    (web,) = QemuHypervisor(PluginContext("qemu", root=host.folder), ["/*.qmp"]).guests()
    assert (web.properties.get("pinned"), web.blocked) == (pinned, {"balloon_target": pinned} if pinned else {})


ANOTHER_QEMU = (
    """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fake_monitors import FakeHost
FakeHost(Path(sys.argv[2])).add("db", uuid=(sys.argv[3:] or [""])[0])
print("listens", flush=True)
time.sleep(600)
""",
    str(Path(__file__).parent),
)


@pytest.mark.processes
@pytest.mark.parametrize("said", ["", "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"])
def test_a_guest_without_a_uuid_is_listed_while_another_client_holds_its_monitor(
    host: FakeHost, hypervisor: QemuHypervisor, said: str
) -> None:
    """Otherwise, a new mom would think that the guest is gone, and forget its changes."""
    with another_process(*ANOTHER_QEMU, str(host.folder), said, "-qmp") as qemu:
        (path,) = host.folder.glob("*.qmp")
        with held_monitor(path):
            (held,) = hypervisor.guests()
            assert held.blocked == {"*": "its monitor is used by another client, or has hung"}
            assert held.properties["pid"] == qemu.pid
        wait_until(lambda: [guest.blocked for guest in hypervisor.guests()] == [{}], "it is not asked again")
        (guest,) = hypervisor.guests()
        assert (guest.id, guest.name, held.name) == (said or held.id, "db", "db")


@pytest.mark.processes
def test_a_guest_that_ends_while_its_monitor_is_left_in_peace_is_gone_at_once(host: FakeHost, hypervisor: QemuHypervisor) -> None:
    with another_process(*ANOTHER_QEMU, str(host.folder)) as qemu:
        entity = listed(hypervisor)["db"].entity
        (path,) = host.folder.glob("*.qmp")
        with held_monitor(path):
            assert listed(hypervisor)["db"].blocked == {"*": "its monitor is used by another client, or has hung"}
        qemu.kill()
        qemu.wait()
        assert path.exists(), "nobody has taken it away"
        assert listed(hypervisor) == {}
        with pytest.raises(GuestGone):
            hypervisor.set_balloon(entity, 500 * MIB)


@pytest.mark.parametrize("held", ["", "web", "web2"])
def test_two_monitors_of_one_qemu_without_a_uuid_are_one_guest(host: FakeHost, hypervisor: QemuHypervisor, held: str) -> None:
    for name in ("web2", "web"):
        host.add(name, uuid="")
    (web,) = hypervisor.guests()
    for name, guest in host.guests.items():
        guest.hangs = name == held
    for later in (hypervisor, host.hypervisor()):  # the next mom must recognise it, to restore changes
        (found,) = later.guests()
        assert (found.id, found.blocked) == (web.id, {})


@pytest.mark.parametrize(
    "how",
    [
        {"hangs": True},
        {"without_end": b'{"event": "RTC_CHANGE", "data": {}}\r\n'},
        {"without_end": b"x"},
        *(
            {"says": text.encode()}
            for text in (
                "\r\n\r\n", "no JSON\n", "[" * 100_000 + "\n", '{"QMP": 1}\n',
                '{"QMP": {}}\n' + "".join(f'{{"return": {{}}, "id": {n}}}\n' for n in range(9)),
                '{"QMP": {}}\n{"return": ' + "9" * 5000 + "}\n",
            )
        ),
    ],
)  # fmt: skip
def test_a_guest_that_misbehaves_harms_no_other(host: FakeHost, hypervisor: QemuHypervisor, how: dict[str, object]) -> None:
    host.add("bad", **how)
    host.add("good")
    began = time.monotonic()
    assert fields(hypervisor)["good"]["balloon_cur"] == 1024 * MIB
    assert "bad" not in listed(hypervisor)
    assert time.monotonic() - began < 30


@pytest.mark.long
def test_a_guest_is_asked_again_at_once_where_another_client_was_just_there(host: FakeHost, hypervisor: QemuHypervisor) -> None:
    guest = host.add("web", size=700 * MIB)
    web = listed(hypervisor)["web"]

    def comes_and_goes() -> None:
        guest.hangs = True
        hypervisor.guests()
        guest.hangs = False

    comes_and_goes()
    assert hypervisor.balloon_sizes([web.entity]) == {web.id: 700 * MIB}, "without waiting for the next cycle"
    time.sleep(0.6)  # until the next visit
    comes_and_goes()
    hypervisor.set_balloon(web.entity, 500 * MIB)
    assert guest.size == 500 * MIB, "there may be no next cycle to wait for"


def test_who_listens_is_not_told_by_the_name_of_another_users_socket(tmp_path: Path) -> None:
    """The kernel does not escape line feeds in paths of sockets."""
    with socket.socket(socket.AF_UNIX) as real, socket.socket(socket.AF_UNIX) as false:
        path = str(tmp_path / "m")
        false.bind("\0forged")
        false.listen()
        line = f"0: 2 0 00010000 0001 01 {os.fstat(false.fileno()).st_ino} {path}"
        (tmp_path / "proc/net").mkdir(parents=True)
        real.bind(path)
        real.listen()
        own = f"0: 2 0 00010000 0001 01 {os.fstat(real.fileno()).st_ino} {path}"
        (tmp_path / "proc/net/unix").write_text(f"Num\n0: 2 0 00010000 0001 01 1 /tmp/x\n{line}\n{own}\n")
        (tmp_path / f"proc/{os.getpid()}").symlink_to(f"/proc/{os.getpid()}")
        assert listeners_of(tmp_path / "proc", {path}, {os.geteuid() + 1}) == {}


@pytest.mark.long
def test_a_guest_that_begins_to_hang_stays_listed_with_nothing_known_of_it(guest: FakeGuest, hypervisor: QemuHypervisor) -> None:
    guest.reports(usable=500 * MIB)
    assert fields(hypervisor)["web"]["mem_usable"] == 500 * MIB
    guest.hangs = True
    found = fields(hypervisor)["web"]
    assert not {"balloon_cur", "mem_usable", "balloon_stats_period"} & found.keys()
    web = listed(hypervisor)["web"]
    assert web.blocked == {"*": "its monitor is used by another client, or has hung"}
    with pytest.raises(GuestBusy):
        hypervisor.set_balloon(web.entity, 500 * MIB)
    before = guest.clients
    hypervisor.guests()
    assert guest.clients == before, "it is left in peace for a while"
    guest.hangs = False
    time.sleep(1.1)
    assert listed(hypervisor)["web"].blocked == {}


def test_another_client_is_not_kept_waiting_and_nothing_is_left_to_be_done_later(guest: FakeGuest, hypervisor: QemuHypervisor) -> None:
    entity = listed(hypervisor)["web"].entity
    with held_monitor(guest.path) as other:
        with pytest.raises(GuestBusy, match="used by another client"):
            hypervisor.set_balloon(entity, 500 * MIB)
        other.sendall(b'{"execute": "query-status", "id": 1}\n')
        assert b"running" in other.recv(4096)
    time.sleep(0.1)
    assert guest.size == 1024 * MIB
    assert not guest.asked["balloon"]


def test_a_guest_that_is_migrated_away_gets_memory_back_and_gives_none(host: FakeHost, hypervisor: QemuHypervisor) -> None:
    guest = host.add("web", size=600 * MIB, migration="active")
    (web,) = hypervisor.guests()
    assert web.blocked == {"*": "the guest is being migrated"}
    with pytest.raises(GuestBusy, match="being migrated"):
        hypervisor.set_balloon(web.entity, 500 * MIB)
    hypervisor.set_balloon(web.entity, 1024 * MIB)
    assert guest.size == 1024 * MIB
    guest.status = "postmigrate"
    hypervisor.guests()
    with pytest.raises(GuestBusy, match="migrated out"):
        hypervisor.set_balloon(web.entity, 1024 * MIB)


def test_a_guest_that_says_later_that_it_is_another_one_stays_what_it_was(host: FakeHost, clock: HandClock) -> None:
    hypervisor = host.hypervisor(monotonic=clock, wall=clock.wall)
    guest = host.add("web")
    first = listed(hypervisor)["web"]
    guest.uuid = str(uuid.uuid4())
    clock.now += 400.0  # until mom reads its description again
    (web,) = hypervisor.guests()
    assert (web.id, web.incarnation) == (first.id, first.incarnation)
    assert web.blocked == {"*": f"its monitor says that the guest is {guest.uuid}, but it said {first.id} before"}


@pytest.mark.parametrize("claimed", [1 << 51, 900 << 20], ids=["more than is mapped", "mapped, and more than the host has"])
@pytest.mark.parametrize("lie", ["memory", "size"])
def test_a_guest_that_says_that_it_has_more_than_it_can_have_is_left_alone(
    host: FakeHost, clock: HandClock, lie: str, claimed: int
) -> None:
    hypervisor = host.hypervisor(monotonic=clock, wall=clock.wall)
    guest = host.add("web")
    assert listed(hypervisor)["web"].blocked == {}
    honest = getattr(guest, lie)
    setattr(guest, lie, claimed)
    clock.now += 400.0
    found, web = fields(hypervisor)["web"], listed(hypervisor)["web"]
    assert not {"balloon_cur", "balloon_max"} & found.keys()
    assert f"its monitor says that the guest has up to {claimed} KiB, but its process and the host have room for only " in web.blocked["*"]
    (finding,) = (one for one in examined(hypervisor, stats_period=1.0) if one.subject == "monitor")
    assert "may have broken out" in finding.cure
    setattr(guest, lie, honest)
    clock.now += 20.0
    assert fields(hypervisor)["web"]["balloon_max"] == 1024 * MIB
    assert "*" not in listed(hypervisor)["web"].blocked


@pytest.mark.parametrize("size", [1536 * MIB, 900 * MIB], ids=["with an empty balloon", "with a full one"])
def test_a_guest_that_was_given_a_dimm_is_no_liar(host: FakeHost, clock: HandClock, size: int) -> None:
    hypervisor = host.hypervisor(monotonic=clock, wall=clock.wall)
    guest = host.add("web")
    guest.reports(usable=500 * MIB)
    hypervisor.guests()
    clock.now += 20.0
    guest.memory_devices, guest.size = [{"type": "dimm", "data": {"size": 512 << 20}}], size
    guest.reports(usable=1100 * MIB, total=1400 * MIB)
    guest.updated = int(clock.wall())
    found = fields(hypervisor)["web"]
    assert (found["balloon_cur"], found["balloon_max"], found["mem_usable"]) == (size, 1536 * MIB, 1100 * MIB)
    assert (hypervisor.remarks(), found["stats_rejected"]) == ([], 0)
    (web,) = hypervisor.guests()
    assert hypervisor.of({web.id})[web.id]["balloon.maximum"] == 1536 * MIB
    hypervisor.set_balloon(web.entity, 1536 * MIB)
    assert guest.size == 1536 * MIB, "what was plugged in can be given"


def test_a_guest_that_lies_in_each_cycle_is_seldom_described_again(host: FakeHost, clock: HandClock) -> None:
    hypervisor = host.hypervisor(monotonic=clock, wall=clock.wall)
    guest = host.add("web")
    for _ in range(20):
        guest.reports(usable=5000 * MIB)
        hypervisor.guests()
        assert [remark.hint.partition(": ")[2] for _, remark in hypervisor.remarks()] == ["mem_unused, mem_usable"]
        clock.now += 1.0
    assert guest.asked["query-name"] == 2


def test_each_monitor_has_its_turn_and_until_then_no_guest_is_taken_for_gone(
    host: FakeHost, hypervisor: QemuHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_at_most(asked: Iterable[Visit], *more: Any) -> None:
        first, second, *others = [*asked, None, None]
        visits.visit_all([visit for visit in (first, second) if visit is not None], *more)
        for visit in others:
            if visit is not None:
                visit.fail(Failure.LEFT)

    guests = [host.add(f"guest-{number}") for number in range(5)]
    monkeypatch.setattr(sampler, "visit_all", two_at_most)
    for _ in range(2):
        with pytest.raises(HypervisorError, match="mom has not queried all monitors yet"):
            hypervisor.guests()
    assert len(hypervisor.guests()) == 5
    for _ in range(3):
        before = [guest.asked["query-status"] for guest in guests]
        for _ in range(3):
            assert len(hypervisor.guests()) == 5
        assert all(guest.asked["query-status"] > count for guest, count in zip(guests, before, strict=True))


def test_a_folder_or_socket_that_may_not_be_read_does_not_mean_no_guests(
    hypervisor: QemuHypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionDenied):
        hypervisor.guests()
