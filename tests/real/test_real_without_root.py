"""A real guest whose QEMU is another user's, with mom as root, and as a user without power that has a mom-helper."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from guest_image import CannotBuild, build
from plain_qemu import PlainGuest, PlainHost
from real_guests import not_here

from mom_core import PluginContext, Value
from mom_devkit import wait_until
from mom_devkit.without_root import MomPower, StandInGuest
from mom_plugins_host.numa.sampler import Process
from mom_plugins_qemu.hypervisor import QemuHypervisor
from mom_plugins_qemu.sampler import QemuHypervisorSettings

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.geteuid() != 0, reason="only root can have others run QEMU")]

KIB_IN_MIB = 1024
USER = pwd.getpwnam(StandInGuest.USER)


@pytest.fixture
def guest(mom_open_folder: Path) -> Iterator[PlainGuest]:
    """One of 256 MiB that has started, in a folder of QEMU's user."""
    if shutil.which("qemu-system-x86_64") is None:
        not_here("there is no QEMU")
    try:
        image = build()
    except CannotBuild as error:
        not_here(f"there is no guest to start: {error}")
    near = {name: mom_open_folder / name for name in ("kernel", "initrd")}
    for name, path in near.items():
        shutil.copy(getattr(image, name), path)
    image = replace(image, **near)
    for path in (mom_open_folder, *near.values()):
        os.chown(path, USER.pw_uid, USER.pw_gid)
    begun: list[StandInGuest] = []

    def begin(command: list[str]) -> subprocess.Popen[bytes]:
        begun.append(StandInGuest(command))
        return begun[-1].process

    try:
        try:
            started = PlainHost(mom_open_folder, image, begin).start("web")
        except OSError as error:
            not_here(f"no control groups can be made here: {error}")
        yield started.wait_until_up()
    finally:
        for one in begun:
            one.close()


def test_it_is_measured_and_resized(guest: PlainGuest, mom_power: MomPower) -> None:
    settings = QemuHypervisorSettings(sockets=[str(guest.monitor)], users={USER.pw_uid})
    guest.monitor.chmod(0o600)
    with mom_power(StandInGuest.DECLARATION):
        hypervisor = QemuHypervisor(settings, PluginContext("qemu"))
        (found,) = hypervisor.guests()
        assert (found.name, found.properties["pid"]) == ("web", guest.pid)
        hypervisor.set_stats_period(found.entity, 1)

        def fields() -> dict[str, Value]:
            return dict(hypervisor.fields(hypervisor.guests())[guest.uuid])

        wait_until(lambda: "mem_usable" in fields(), "statistics come", 120)
        assert "host_ksm_merged" in fields()
        held = sum(Process(Path(f"/proc/{guest.pid}")).memory().values())
        assert held > 50 * KIB_IN_MIB
        hypervisor.set_balloon(found.entity, 200 * KIB_IN_MIB)
        wait_until(lambda: hypervisor.balloon_sizes([found.entity]) == {guest.uuid: 200 * KIB_IN_MIB}, "the guest has followed", 120)
