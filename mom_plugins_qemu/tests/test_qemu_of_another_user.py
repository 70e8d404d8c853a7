"""Monitors of real QEMU processes of another user, as root and through mom-helper."""

import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mom_core import PermissionDenied, PluginContext
from mom_devkit import wait_until
from mom_devkit.without_root import MomPower, StandInGuest, another_user
from mom_plugins_qemu.hypervisor import QemuHypervisor

pytestmark = [pytest.mark.processes, pytest.mark.real, pytest.mark.skipif(os.geteuid() != 0, reason="only root can have others run QEMU")]

USERS = {pwd.getpwnam(StandInGuest.USER).pw_uid}


@pytest.fixture
def monitor(mom_open_folder: Path) -> Iterator[tuple[Path, StandInGuest]]:
    """Start a QEMU without a machine. Only its user may use its monitor."""
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        if os.environ.get("MOM_REQUIRE_REAL") == "1":
            pytest.fail("there is no QEMU here")
        pytest.skip("there is no QEMU here")
    user = pwd.getpwnam(StandInGuest.USER)
    os.chown(mom_open_folder, user.pw_uid, user.pw_gid)
    path = mom_open_folder / "web.qmp"
    nothing = ["-machine", "none", "-nodefaults", "-display", "none", "-accel", "tcg", "-name", "web"]
    try:
        guest = StandInGuest([program, *nothing, "-qmp", f"unix:{path},server=on,wait=off"])
    except OSError as error:
        pytest.skip(f"no control groups can be made here: {error}")
    try:
        wait_until(path.is_socket, "QEMU has made no monitor", 60)
        path.chmod(0o600)
        yield path, guest
    finally:
        guest.close()


def hypervisor(path: Path) -> QemuHypervisor:
    return QemuHypervisor(PluginContext("qemu"), [str(path.parent / "*.qmp")], USERS)


def test_a_guest_is_found_by_its_monitor(monitor: tuple[Path, StandInGuest], mom_power: MomPower) -> None:
    path, process = monitor
    found = hypervisor(path)
    with mom_power(process.DECLARATION):
        (guest,) = wait_until(lambda: list(found.guests()), "QEMU does not answer at its monitor", 60)
    assert (guest.name, guest.properties["pid"]) == ("web", process.pid)


def test_without_a_helper_the_error_says_how_to_start_it(monitor: tuple[Path, StandInGuest]) -> None:
    path, _ = monitor
    with another_user(), pytest.raises(PermissionDenied, match="systemctl enable --now mom-helper"):
        hypervisor(path).guests()
