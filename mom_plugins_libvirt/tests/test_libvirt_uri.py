"""URIs: which make sense, what is said of those that do not, and whose guests run on this host."""

import pytest
from pydantic import ValidationError

from mom_plugins_libvirt import LibvirtPlugin
from mom_plugins_libvirt.uri import cure_for_transport, is_local, without_questions


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "not a libvirt URI; write qemu:///system"),
        ("qemu://my host/system", "not a libvirt URI"),
        ("qemu://[::1/system", "Invalid IPv6"),
        ("qemu://system", "a slash is missing: qemu:///system"),
        ("qemu+ssh://-oProxyCommand=reboot/system", "hyphen"),
    ],
)
def test_nonsense_is_refused_with_what_could_be_meant(uri, said):
    with pytest.raises(ValidationError) as raised:
        LibvirtPlugin.Settings(uri=uri)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("uri", "local", "opened", "cure"),
    [
        ("qemu:///system", True, "", ""),
        ("qemu+ext:///system?command=/x", False, "", ""),
        ("qemu+ssh://root@other/system", False, "?no_tty=1", "ssh root@other true"),
        ("qemu+ssh://other/system?keyfile=/k", False, "&no_tty=1", "ssh other true"),
        ("qemu+ssh://other/system?no_tty=0", False, "", "ssh other true"),
        ("qemu://other/system", False, "", "certificate"),
        ("qemu+tcp://other/system", False, "", "listens"),
    ],
)
def test_only_local_guests_have_processes_here_only_ssh_asks_questions_and_each_transport_has_its_cure(uri, local, opened, cure):
    assert is_local(uri) is local
    assert without_questions(uri) == uri + opened
    assert cure in cure_for_transport(uri)
    assert bool(cure_for_transport(uri)) == bool(cure)
