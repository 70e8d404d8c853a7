"""libvirt with a real polkit, mom's rule and mom-libvirt-helper: user mom reads, the helper changes guests."""

import errno
import os
import pwd
import shutil
import signal
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import libvirt  # type: ignore[import-untyped]  # it has no types
import libvirt_qemu  # type: ignore[import-untyped]  # as above
import pytest
from guest_image import CannotBuild, build, cache_folder
from helper_processes import LIBVIRT_HELPER_SOCKET_VARIABLE, LibvirtHelperProcess
from libvirt_mom import LibvirtMom, another_host, libvirt_mom
from own_systemd import MOM
from private_libvirtd import CannotStart, PrivateLibvirtd
from real_guests import Lab, RealGuest, disk, not_here, once

from mom_core import GuestBusy, PermissionDenied
from mom_devkit import wait_until
from mom_devkit.without_root import another_user
from mom_helper.libvirt_orders import NOT_GIVEN, GuestOrder
from mom_helper.libvirt_orders import GuestOrderNumber as Number
from mom_helper.orders import ORDER, Answer
from mom_kvm import GuestState

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.geteuid() != 0, reason="only root can have others ask libvirt")]

RULE = Path(__file__).parents[2] / "packaging/polkit/60-mom.rules"
POLKITD = Path("/usr/lib/polkit-1/polkitd")
RULES = Path("/usr/share/polkit-1/rules.d")

OUTSIDE, STRANGER = "games", "nobody"
"""Name of user mom's ID in other namespaces, and a user without a rule."""

KIB_IN_MIB = 1024
LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE

BUS = """<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/>
    <allow send_type="method_call"/><allow send_type="method_return"/><allow send_type="error"/><allow send_type="signal"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
  </policy>
</busconfig>
"""

# Both end with libvirtd, which replaces this shell; polkitd ends with its bus.
BEFOREHAND = """
mount --bind {folder}/passwd /etc/passwd
mount --bind {folder}/group /etc/group
mount --bind {folder}/rules.d {rules}
mkdir -p /run/dbus /run/systemd/seats /run/systemd/sessions /run/systemd/users /run/systemd/machines
setpriv --pdeathsig KILL dbus-daemon --config-file={folder}/bus.conf --nofork --nopidfile &
timeout 30 sh -c 'until [ -S /run/dbus/system_bus_socket ]; do sleep 0.1; done'
{polkitd} &
asked="--system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner string:org.freedesktop.PolicyKit1"
timeout 30 sh -c 'until dbus-send $1 | grep -q true; do sleep 0.1; done' sh "$asked"
"""

SETTINGS = """auth_unix_ro = "polkit"
auth_unix_rw = "polkit"
unix_sock_rw_perms = "0777"
unix_sock_ro_perms = "0777"
access_drivers = [ "polkit" ]
"""


@pytest.fixture(scope="module")
def asking() -> Iterator[Lab]:
    """Yield a lab on a libvirtd that asks polkit for each connection and call, on its own bus."""
    if not POLKITD.exists() or shutil.which("dbus-daemon") is None:
        not_here("polkitd and dbus-daemon are needed: apt-get install polkitd dbus")
    with tempfile.TemporaryDirectory(prefix="mom-polkit-", dir="/var/tmp") as made:
        folder = Path(made)
        folder.chmod(0o755)
        for name, line in (("passwd", f"mom:x:{MOM}:{MOM}::/:/usr/sbin/nologin\n"), ("group", f"mom:x:{MOM}:\n")):
            others = [one for one in Path("/etc", name).read_text().splitlines(keepends=True) if one.split(":")[2] != str(MOM)]
            (folder / name).write_text("".join([*others, line]))
            (folder / name).chmod(0o644)
        shutil.copytree(RULES, folder / "rules.d")
        shutil.copy(RULE, folder / "rules.d")
        shutil.chown(folder / "rules.d", "polkitd")
        (folder / "bus.conf").write_text(BUS)
        (folder / "beforehand.sh").write_text(BEFOREHAND.format(folder=folder, rules=RULES, polkitd=POLKITD))
        own = None
        try:
            own = PrivateLibvirtd(cache_folder(), settings=SETTINGS, beforehand=folder / "beforehand.sh")
            own.start()
            yield Lab(own, build(), suffix=once())
        except (CannotStart, CannotBuild) as error:
            not_here(f"there is no real hypervisor: {error}")
        finally:
            if own is not None:
                own.stop()


@pytest.fixture(scope="module")
def helper(asking: Lab, host_beside: PrivateLibvirtd) -> Iterator[LibvirtHelperProcess]:
    """Run mom-libvirt-helper with one destination."""
    there = host_beside.destination
    own = LibvirtHelperProcess(asking.libvirtd.uri, f"[destination beside]\nuri = {there.uri}\nway = {there.way}\n", OUTSIDE)
    own.start()
    yield own
    own.close()


@pytest.fixture(scope="module")
def host_beside(asking: Lab) -> Iterator[PrivateLibvirtd]:
    with another_host(asking.libvirtd) as other:
        yield other


@pytest.fixture(scope="module")
def guest(asking: Lab) -> RealGuest:
    return asking.start("asked", mib=256, period=0, devices=disk(asking, "asked", 16)).wait_until_up()


@contextmanager
def mom_with(asking: Lab, helper: LibvirtHelperProcess | None) -> Iterator[LibvirtMom]:
    """Set up the plugin as user mom, with a helper or without."""
    uri = asking.libvirtd.uri + "-ro"
    environment = helper.environment if helper is not None else {LIBVIRT_HELPER_SOCKET_VARIABLE: "/nowhere"}
    settings = {"uri": uri, "deadline": "60s", "call_timeout": "20s", "watch": "0s"}
    with patch.dict(os.environ, environment), another_user(OUTSIDE), libvirt_mom(asking.libvirtd, **settings) as mom:
        yield mom


def test_user_mom_sees_guests_and_libvirt_lets_it_change_nothing(asking: Lab, guest: RealGuest) -> None:
    with another_user(OUTSIDE):
        assert "authentication" in why_refused(lambda: libvirt.open(asking.libvirtd.uri))
        connection = libvirt.openReadOnly(asking.libvirtd.uri + "-ro")
        domain = connection.lookupByUUIDString(guest.uuid)
        described = domain.XMLDesc()
        refused = {
            "size": lambda: domain.setMemoryFlags(200 * KIB_IN_MIB, LIVE),
            "secrets": lambda: domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE),
            "monitor": lambda: libvirt_qemu.qemuMonitorCommand(domain, "info status", 1),
            "script": lambda: domain.attachDevice("<interface type='ethernet'><script path='/bin/true'/></interface>"),
            "move": lambda: domain.migrateToURI3("qemu+ext://h/system?command=/bin/true", {}, 0),
            "file": lambda: domain.save("/etc/passwd"),
            "define": lambda: connection.defineXML(described),
            "create": lambda: connection.createXML(described),
            "remove": domain.undefine,
        }
        assert {what: why_refused(call) for what, call in refused.items()} == dict.fromkeys(refused, "operation forbidden")
        connection.close()
    with mom_with(asking, None) as mom:
        entity = mom.listed(guest).entity
        assert mom.fields(guest)["balloon_cur"]
        with pytest.raises(PermissionDenied):
            mom.hypervisor.set_balloon(entity, 200 * KIB_IN_MIB)


def test_the_helper_resizes_limits_and_pauses_a_guest_for_user_mom(asking: Lab, guest: RealGuest, helper: LibvirtHelperProcess) -> None:
    with mom_with(asking, helper) as mom:
        entity, hypervisor = mom.listed(guest).entity, mom.hypervisor
        hypervisor.set_stats_period(entity, 2)
        hypervisor.set_io_tune(entity, "vda", {"read_iops_sec": 500})
        hypervisor.set_balloon(entity, 200 * KIB_IN_MIB)
        wait_until(lambda: hypervisor.balloon_sizes([entity]) == {guest.uuid: 200 * KIB_IN_MIB}, "the guest has followed", 60)
        assert mom.fields(guest)["balloon_stats_period"] == 2
        assert hypervisor.io_tunes([entity])[guest.uuid][0].current["read_iops_sec"] == 500
        hypervisor.pause(entity)
        assert hypervisor.standings([entity])[guest.uuid] is GuestState.PAUSED
        hypervisor.resume(entity)
        assert hypervisor.standings([entity])[guest.uuid] is GuestState.RUNNING
    assert guest.domain.blockIoTune("vda", LIVE)["read_iops_sec"] == 500
    lines = [line.partition(guest.uuid)[2].split()[1:] for line in helper.log.splitlines() if guest.uuid in line and "refused" not in line]
    assert [line[0] for line in lines] == ["period", "disk", "balloon", "pause", "resume"]
    assert lines[2] == ["balloon", str(200 * KIB_IN_MIB)]


def test_a_guest_that_mom_has_saved_or_shut_down_is_started_again(asking: Lab, helper: LibvirtHelperProcess) -> None:
    defined = asking.start("saves", persistent=True).wait_until_up()
    with mom_with(asking, helper) as mom:
        hypervisor, entity = mom.hypervisor, mom.listed(defined).entity

        def state() -> GuestState:
            return hypervisor.standings([entity])[defined.uuid]

        hypervisor.save(entity, 60.0)
        assert state() is GuestState.SAVED
        hypervisor.start(entity, 60.0)
        assert state() is GuestState.RUNNING
        hypervisor.guests()
        hypervisor.shut_down(entity)
        wait_until(lambda: state() is GuestState.OFF, "it is off", 60)
        hypervisor.start(entity, 60.0)
        assert state() is GuestState.RUNNING
        os.seteuid(0)
        defined.domain.destroy()
        os.seteuid(pwd.getpwnam(OUTSIDE).pw_uid)
        with pytest.raises(PermissionDenied):
            hypervisor.start(entity, 60.0)


def test_a_guest_moves_to_a_destination_that_root_has_declared_only(
    asking: Lab, helper: LibvirtHelperProcess, host_beside: PrivateLibvirtd
) -> None:
    defined = asking.start("moves", persistent=True).wait_until_up()
    with mom_with(asking, helper) as mom:
        entity = mom.listed(defined).entity
        with pytest.raises(PermissionDenied, match="declared"):
            mom.hypervisor.migrate(entity, replace(host_beside.destination, way=""), 60.0)
        speed(defined, 1)
        with pytest.raises(GuestBusy, match="mom aborted it"):
            mom.hypervisor.migrate(entity, host_beside.destination, 2.0)
        speed(defined, 10_000)
        mom.hypervisor.migrate(entity, host_beside.destination, 60.0)
        assert defined.uuid not in {one.id for one in mom.hypervisor.guests()}
    there = libvirt.open(host_beside.uri)
    assert there.lookupByUUIDString(defined.uuid).isActive()
    there.close()


def test_orders_that_are_none_are_refused(asking: Lab, guest: RealGuest, helper: LibvirtHelperProcess) -> None:
    known, start = uuid.UUID(guest.uuid).bytes, guest.domain.ID()

    def error(number: int, *values: int, what: bytes = b"", identity: bytes = known, start: int = start) -> tuple[int, int]:
        asking_helper.send(GuestOrder(number, 7, identity, start, what, values).packed())
        answer = Answer(*ORDER.unpack(asking_helper.recv(1 << 16)[: ORDER.size]))
        assert answer.id == 7
        return answer.error, answer.a

    with another_user(OUTSIDE), closing(asked_by(helper)) as asking_helper:
        assert error(Number.BALLOON, 200 << 10, identity=bytes(16)) == (errno.EIO, libvirt.VIR_ERR_NO_DOMAIN)
        assert error(Number.BALLOON, 200 << 10, start=start + 1) == (errno.ESRCH, 0)
        assert error(Number.BALLOON, 0) == error(Number.BALLOON, 1 << 42) == error(Number.PERIOD, -1) == (errno.ERANGE, 0)
        assert error(Number.CPU, -2) == error(Number.CPU, NOT_GIVEN, 999) == error(Number.CPU, NOT_GIVEN, NOT_GIVEN, 1) == (errno.ERANGE, 0)
        assert error(Number.DISK, 1, what=b"/etc/passwd") == error(Number.NET, 1) == (errno.EINVAL, 0)
        assert error(Number.DISK, 1, what=b"vdz") == (errno.EIO, libvirt.VIR_ERR_INVALID_ARG)
        assert error(Number.MIGRATE, 1) == error(Number.MIGRATE, -1) == (errno.ENOENT, 0), "it is not declared"
        assert error(Number.LIST, 1) == error(Number.AGENT, 99, 0, 5) == (errno.ENOENT, 0)
        assert error(Number.SAVE) == error(Number.SHUTDOWN) == (errno.EOPNOTSUPP, 0)
        assert error(0) == error(99) == (errno.EINVAL, 0)
        order = GuestOrder(Number.PAUSE, 7, known, start).packed()
        for malformed in (order[:-1], order + b"\0", order * 2, b"\0"):
            with closing(asked_by(helper)) as connection:
                connection.send(malformed)
                assert connection.recv(1 << 16) == b""
    helper.socket.chmod(0o666)
    with another_user(STRANGER), closing(asked_by(helper)) as connection, suppress(ConnectionError):
        connection.send(order)
        assert connection.recv(1 << 16) == b""
    helper.socket.chmod(0o660)
    assert guest.domain.isActive()
    assert guest.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING


def test_an_order_that_hangs_holds_up_no_other_and_ends_with_its_client(
    asking: Lab, guest: RealGuest, helper: LibvirtHelperProcess
) -> None:
    other = asking.start("other").wait_until_up()
    idle = len(helper.processes())
    period = {one: GuestOrder(Number.PERIOD, 7, uuid.UUID(one.uuid).bytes, values=(3,)).packed() for one in (guest, other)}
    os.kill(guest.pid, signal.SIGSTOP)
    try:
        with another_user(OUTSIDE), closing(asked_by(helper)) as connection, closing(asked_by(helper)) as hanging:
            hanging.send(period[guest])
            connection.send(period[other])
            assert Answer(*ORDER.unpack(connection.recv(1 << 16))).error == 0
        wait_until(lambda: len(helper.processes()) == idle, "both processes have ended", 20)
    finally:
        os.kill(guest.pid, signal.SIGCONT)


def speed(guest: RealGuest, mib: int) -> None:
    """Set the migration's speed as root, in MiB/s."""
    name = pwd.getpwuid(os.geteuid()).pw_name
    os.seteuid(0)
    guest.domain.migrateSetMaxSpeed(mib)
    os.seteuid(pwd.getpwnam(name).pw_uid)


def asked_by(helper: LibvirtHelperProcess) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(60)
    connection.connect(str(helper.socket))
    return connection


def test_another_user_changes_nothing(asking: Lab, guest: RealGuest) -> None:
    with another_user(STRANGER):
        assert "authentication" in why_refused(lambda: libvirt.open(asking.libvirtd.uri))
    assert guest.size_mib


def why_refused(call: Callable[[], object]) -> str:
    """Return the start of libvirt's error in lower case; empty if the call works."""
    try:
        call()
    except libvirt.libvirtError as refused:
        return str(refused).lower().partition(":")[0]
    return ""
