"""libvirt's errors and URIs."""

import errno

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from pydantic import ValidationError

from mom_plugins_libvirt import LibvirtPlugin, api
from mom_plugins_libvirt.api import cure_for, is_local, without_questions


def test_the_numbers_are_libvirts() -> None:
    names = {name: value for name, value in vars(api).items() if name.isupper() and isinstance(value, int) and not name.startswith("_")}
    theirs = {name.removeprefix("VIR_ERR_"): value for name, value in vars(libvirt).items() if name.startswith("VIR_ERR_")}
    assert len(names) > 15
    for name, value in names.items():
        known = theirs.get(name)
        assert value == known or (known is None and value > max(theirs.values())), name  # libvirt may be older than the error


def test_a_cure_fits_the_error() -> None:
    assert "start libvirt" in cure_for(api.SYSTEM_ERROR, errno.ENOENT)
    assert "unix_sock_ro_perms" in cure_for(api.SYSTEM_ERROR, errno.EACCES)
    assert "unix_sock_ro_perms" in cure_for(api.AUTH_UNAVAILABLE)
    assert "uri" in cure_for(api.NO_CONNECT)
    assert cure_for(api.NO_DOMAIN) == ""
    assert "virsh -c 'qemu+ssh://root@other/system'" in cure_for(api.SYSTEM_ERROR, errno.ECONNRESET, "qemu+ssh://root@other/system")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "not a libvirt URI; write qemu:///system"),
        ("qemu://my host/system", "not a libvirt URI"),
        ("qemu://[::1/system", "Invalid IPv6"),
        ("qemu://system", "a slash is missing: qemu:///system"),
    ],
)
def test_nonsense_is_refused_with_what_could_be_meant(uri, said):
    with pytest.raises(ValidationError) as raised:
        LibvirtPlugin.Settings(uri=uri)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("uri", "local", "opened"),
    [
        ("qemu:///system", True, ""),
        ("qemu+ext:///system?command=/x", False, ""),
        ("qemu+ssh://root@other/system", False, "?no_tty=1"),
        ("qemu+ssh://other/system?keyfile=/k", False, "&no_tty=1"),
        ("qemu+ssh://other/system?no_tty=0", False, ""),
        ("qemu+tcp://other/system", False, ""),
    ],
)
def test_only_local_guests_have_processes_here_and_only_ssh_asks_questions(uri, local, opened):
    assert is_local(uri) is local
    assert without_questions(uri) == uri + opened
