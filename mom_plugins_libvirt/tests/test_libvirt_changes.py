"""Changes of guests through libvirt or mom-libvirt-helper, and refused orders."""

from collections.abc import Callable, Iterator
from contextlib import closing

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from helper_processes import LIBVIRT_HELPER_SOCKET_VARIABLE, LibvirtHelperProcess

from mom_core import GuestGone, HypervisorError, NotSupported, PermissionDenied
from mom_devkit.without_root import another_user, why_not_another_user
from mom_plugins_libvirt.api import translated
from mom_plugins_libvirt.changes import GuestOrders, OrderedDomain, OrderRefused

DRIVER = "test:///default"
"""libvirt's driver for tests. Each connection has one guest in memory."""


@pytest.fixture(scope="module")
def helper() -> Iterator[LibvirtHelperProcess]:
    if why := why_not_another_user():
        pytest.skip(why)
    own = LibvirtHelperProcess(DRIVER, "[destination far]\nuri = qemu+tls://h2/system\n[destination odd]\nuri = qemu+ext://h3/system\n")
    own.start()
    yield own
    own.close()


@pytest.fixture
def ordered(helper: LibvirtHelperProcess) -> Iterator[OrderedDomain]:
    connection, orders = libvirt.open(DRIVER), GuestOrders(str(helper.socket))
    with another_user():
        yield OrderedDomain(connection.lookupByName("test"), orders, 1)
    orders.close()
    connection.close()


@pytest.mark.processes
def test_an_order_that_is_not_followed_is_the_error_that_libvirts_would_be(ordered: OrderedDomain) -> None:
    assert ordered.suspend() == ordered.resume() == 0
    assert kind_of(ordered.resume) is HypervisorError, "it runs"
    assert kind_of(lambda: ordered.setMemoryFlags(1)) is NotSupported
    assert kind_of(lambda: ordered.setBlockIoTune("/etc/passwd", {"read_iops_sec": 1})) is NotSupported
    assert kind_of(lambda: ordered.setBlockIoTune("vda", {"group_name": 1})) is NotSupported
    assert kind_of(lambda: ordered.setNumaParameters({"numa_nodeset": "5000"})) is NotSupported
    assert kind_of(lambda: ordered.setMemoryFlags(1 << 70)) is NotSupported
    assert kind_of(OrderedDomain(ordered, GuestOrders("/nowhere"), 1).suspend) is HypervisorError


@pytest.mark.processes
def test_another_start_of_the_guest_is_another_guest(ordered: OrderedDomain, helper: LibvirtHelperProcess) -> None:
    with closing(GuestOrders(str(helper.socket))) as orders:
        assert kind_of(OrderedDomain(ordered, orders, 2).suspend) is GuestGone


@pytest.mark.processes
def test_after_a_helper_has_died_the_next_one_is_asked(helper: LibvirtHelperProcess) -> None:
    with closing(GuestOrders(str(helper.socket))) as orders:
        ordered = OrderedDomain(libvirt.open(DRIVER).lookupByName("test"), orders, 1)
        with another_user():
            assert ordered.suspend() == 0
        helper.kill()
        helper.start()
        with another_user():
            assert ordered.suspend() == 0


@pytest.mark.processes
def test_agents_are_asked_nothing_else(ordered: OrderedDomain) -> None:
    for command in ('{"execute": "guest-exec"}', '{"execute": "guest-file-open", "arguments": {"path": "/etc/shadow", "mode": "r"}}'):
        with pytest.raises(PermissionDenied):
            ordered.ask_agent(command, 5)


@pytest.mark.skipif(bool(why_not_another_user()), reason=why_not_another_user())
def test_the_helper_is_for_the_systems_guests_of_this_host_and_not_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIBVIRT_HELPER_SOCKET_VARIABLE, "/dev/null")
    assert GuestOrders.reached("qemu:///system") is None, "root changes guests itself"
    with another_user():
        assert GuestOrders.reached("qemu:///system") is not None
        for uri in ("qemu:///session", "qemu+ssh://root@h2/system", "qemu+ext:///system?command=x"):
            assert GuestOrders.reached(uri) is None
        monkeypatch.setenv(LIBVIRT_HELPER_SOCKET_VARIABLE, "/nowhere")
        assert GuestOrders.reached("qemu:///system") is None


def kind_of(call: Callable[[], object]) -> type[Exception]:
    """Return the engine's type of a refused order."""
    with pytest.raises(OrderRefused) as refused:
        call()
    return type(translated(refused.value, "changing it"))
