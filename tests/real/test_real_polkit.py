"""libvirt with a real polkit and the rule that mom's packages install: user mom gets in and resizes guests, and nobody else does."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from guest_image import CannotBuild, build, cache_folder
from libvirt_mom import libvirt_mom
from own_systemd import MOM
from private_libvirtd import CannotStart, PrivateLibvirtd
from real_guests import Lab, RealGuest, not_here, once

from mom_core import HypervisorError
from mom_devkit import wait_until
from mom_devkit.without_root import another_user

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.geteuid() != 0, reason="only root can have others ask libvirt")]

RULE = Path(__file__).parents[2] / "packaging/polkit/60-mom.rules"
POLKITD = Path("/usr/lib/polkit-1/polkitd")
RULES = Path("/usr/share/polkit-1/rules.d")

OUTSIDE, STRANGER = "games", "nobody"
"""Whom other namespaces know by the number of user mom, and a user whom no rule knows."""

KIB_IN_MIB = 1024

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

# Both end with libvirtd, which takes the place of this shell: polkitd does when its bus has gone.
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
    """Guests of a libvirtd that asks polkit, for each connection and each call, on a bus of its own."""
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
def guest(asking: Lab) -> RealGuest:
    return asking.start("asked", mib=256).wait_until_up()


def test_user_mom_sees_guests_and_resizes_them(asking: Lab, guest: RealGuest) -> None:
    with another_user(OUTSIDE), libvirt_mom(asking.libvirtd, deadline="20s", call_timeout="8s") as mom:
        entity = mom.listed(guest).entity
        mom.hypervisor.set_balloon(entity, 200 * KIB_IN_MIB)
        wait_until(lambda: mom.hypervisor.balloon_sizes([entity]) == {guest.uuid: 200 * KIB_IN_MIB}, "the guest has followed", 60)
        assert mom.fields(guest)["balloon_cur"] == 200 * KIB_IN_MIB


def test_user_mom_has_no_guest_of_its_own_run_and_removes_none(asking: Lab, guest: RealGuest) -> None:
    with another_user(OUTSIDE):
        connection = opened(asking)
        described = connection.lookupByUUIDString(guest.uuid).XMLDesc().replace(guest.name, "another").replace(guest.uuid, "")
        forbidden = {"define": lambda: connection.defineXML(described), "create": lambda: connection.createXML(described)}
        forbidden |= {
            "remove": connection.lookupByUUIDString(guest.uuid).undefine,
            "secret": lambda: connection.secretDefineXML("<secret ephemeral='yes'/>"),
        }
        assert {what: why_refused(call) for what, call in forbidden.items()} == dict.fromkeys(forbidden, "access denied")
        connection.close()


def test_another_user_does_not_get_in(asking: Lab, guest: RealGuest) -> None:
    with another_user(STRANGER):
        assert "authentication" in why_refused(lambda: opened(asking))
        with libvirt_mom(asking.libvirtd, deadline="20s", call_timeout="8s") as mom, pytest.raises(HypervisorError, match="authentication"):
            mom.hypervisor.guests()
    assert guest.size_mib


def opened(lab: Lab) -> Any:
    return libvirt.open(lab.libvirtd.uri)


def why_refused(call: Callable[[], object]) -> str:
    """What libvirt says first, in small letters; empty where it does it."""
    try:
        call()
    except libvirt.libvirtError as refused:
        return str(refused).lower().partition(":")[0]
    return ""
