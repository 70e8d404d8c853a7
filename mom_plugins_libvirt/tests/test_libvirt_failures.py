"""From libvirt's errors to mom's."""

import errno

import libvirt  # type: ignore[import-untyped]  # it has no types

from mom_plugins_libvirt import failures
from mom_plugins_libvirt.failures import cure_for


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


def test_a_cure_fits_the_error() -> None:
    assert "start libvirt" in cure_for(failures.SYSTEM_ERROR, errno.ENOENT)
    assert "unix_sock_ro_perms" in cure_for(failures.SYSTEM_ERROR, errno.EACCES)
    assert "unix_sock_ro_perms" in cure_for(failures.AUTH_UNAVAILABLE)
    assert "uri" in cure_for(failures.NO_CONNECT)
    assert cure_for(failures.NO_DOMAIN) == ""
    assert "virsh -c 'qemu+ssh://root@other/system'" in cure_for(failures.SYSTEM_ERROR, errno.ECONNRESET, "qemu+ssh://root@other/system")
