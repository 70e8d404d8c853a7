"""URIs: which make sense, what is said of those that do not, and whose guests run on this host."""

import pytest
from pydantic import ValidationError

from mom_plugins_libvirt import LibvirtPlugin
from mom_plugins_libvirt.uri import is_local, without_questions


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
