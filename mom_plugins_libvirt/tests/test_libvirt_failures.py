"""From libvirt's errors to mom's."""

import errno

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from fake_libvirt import FakeError

from mom_core import GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied
from mom_plugins_libvirt import failures
from mom_plugins_libvirt.failures import cure_for, kind_of, translated


def test_the_numbers_are_libvirts() -> None:
    names = {
        name: value for name, value in vars(failures).items() if name.isupper() and isinstance(value, int) and not name.startswith("_")
    }
    spelt = {"INVALID_ARGUMENT": "INVALID_ARG"}
    theirs = {name.removeprefix("VIR_ERR_"): value for name, value in vars(libvirt).items() if name.startswith("VIR_ERR_")}
    assert len(names) > 15
    for name, value in names.items():
        known = theirs.get(spelt.get(name, name))
        assert value == known or (known is None and value > max(theirs.values())), name  # libvirt may be older than the error


@pytest.mark.parametrize(
    ("code", "number", "running", "kind"),
    [
        (failures.NO_DOMAIN, 0, None, GuestGone),
        (failures.OPERATION_INVALID, 0, False, GuestGone),
        (failures.OPERATION_INVALID, 0, True, NotSupported),
        (failures.OPERATION_TIMEOUT, 0, None, GuestBusy),
        (failures.CONFIG_UNSUPPORTED, 0, None, NotSupported),
        (failures.OPERATION_DENIED, 0, None, PermissionDenied),
        (failures.SYSTEM_ERROR, errno.EACCES, None, PermissionDenied),
        (1, 0, None, HypervisorError),
        (987_654, 0, True, HypervisorError),
    ],
)
def test_an_error_has_its_kind(code: int, number: int, running: bool | None, kind: type) -> None:
    assert kind_of(code, number, running=running) is kind
    error = translated(FakeError("it said\nno", code, number), "doing this", running=running)
    assert type(error) is kind
    assert error.message == "doing this: it said\\nno"


def test_a_cure_fits_the_error() -> None:
    assert "start libvirt" in cure_for(failures.SYSTEM_ERROR, errno.ENOENT)
    assert "unix_sock_ro_perms" in cure_for(failures.SYSTEM_ERROR, errno.EACCES)
    assert "unix_sock_ro_perms" in cure_for(failures.AUTH_UNAVAILABLE)
    assert "uri" in cure_for(failures.NO_CONNECT)
    assert cure_for(failures.NO_DOMAIN) == ""
    assert "ssh root@other true" in cure_for(failures.SYSTEM_ERROR, errno.ECONNRESET, "qemu+ssh://root@other/system")
