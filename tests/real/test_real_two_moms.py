"""Real guests move from the host of one mom to that of another, with faults of both moms and of the move."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import libvirt  # type: ignore[import-untyped]  # it has no types
import pytest
from libvirt_mom import another_host, libvirt_mom
from mom_run import MomRun
from plain_qemu import plain_host
from private_libvirtd import PrivateLibvirtd
from real_guests import Lab, RealGuest

from mom_core import GuestBusy, PluginContext
from mom_devkit import wait_until
from mom_plugins_qemu.hypervisor import QemuHypervisor

pytestmark = pytest.mark.real

MIB = 1024
WHOLE, SMALL = 512, 300
"""Full size of guests, and mom's target here, in MiB. A guest may keep a few MiB more."""

SMALLER = f'(with Guests guest (guest.Control "balloon_target" {SMALL * MIB}))'
GUESTS = {"momtest-*": {"guarantee": f"{SMALL - 20}MiB"}}


@pytest.fixture(scope="module")
def other(libvirtd: PrivateLibvirtd) -> Iterator[PrivateLibvirtd]:
    with another_host(libvirtd) as made:
        yield made


@pytest.fixture
def here(libvirtd: PrivateLibvirtd, tmp_path: Path) -> Iterator[MomRun]:
    """Yield a mom that shrinks guests."""
    made = _mom(tmp_path / "here", libvirtd, {"defaults": False}, {"50_smaller": SMALLER})
    yield made
    made.kill()


@pytest.fixture
def there(other: PrivateLibvirtd, tmp_path: Path) -> Iterator[MomRun]:
    """Yield a mom that shrinks no guest, and returns memory that others took."""
    made = _mom(tmp_path / "there", other, {}, None)
    yield made
    made.kill()


def _mom(folder: Path, libvirtd: PrivateLibvirtd, policy: dict[str, object], policies: dict[str, str] | None) -> MomRun:
    folder.mkdir()
    made = MomRun(folder)
    balloon = {"host_free": "64MiB", "law": {"start_rest": "1s"}}
    made.configure({"libvirt": libvirtd.settings(), "balloon": balloon, "policy": policy}, GUESTS, policies=policies)
    return made


class Move:
    """Migration of a guest by another program than mom: slow until `goes_on`."""

    def __init__(self, guest: RealGuest, other: PrivateLibvirtd, flags: int = 0) -> None:
        self.guest, self.other = guest, other
        self.failed = ""
        guest.domain.migrateSetMaxSpeed(1)
        self._thread = threading.Thread(target=self._run, args=(flags,), daemon=True)
        self._thread.start()
        wait_until(lambda: guest.domain.jobStats().get("memory_processed") and self._comes, "it is under way", 60)

    @property
    def _comes(self) -> bool:
        return self.guest.uuid in {one.UUIDString() for one in libvirt.open(self.other.uri).listAllDomains()}

    def _run(self, flags: int) -> None:
        parameters = {libvirt.VIR_MIGRATE_PARAM_URI: f"unix://{self.other.folder}/migration"}
        try:
            self.guest.domain.migrate3(libvirt.open(self.other.uri), parameters, libvirt.VIR_MIGRATE_LIVE | flags)
        except libvirt.libvirtError as error:
            self.failed = str(error)

    def goes_on(self) -> Any:
        """Finish the migration. Return the domain at the destination."""
        self.guest.domain.migrateSetMaxSpeed(10_000)
        self.ends()
        assert not self.failed
        return libvirt.open(self.other.uri).lookupByUUIDString(self.guest.uuid)

    def ends(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def _small_guest(lab: Lab, here: MomRun, name: str) -> RealGuest:
    """Start a guest and a mom, and wait until mom has shrunk it."""
    guest = lab.start(name, mib=WHOLE, workload=(60, 5, 0, 0)).wait_until_it_works()
    here.start()
    most = (SMALL + 10) * MIB

    def is_small() -> bool:
        return guest.size_mib * MIB < most and all(one["applied"] < most for one in _changes(here))

    small_cycles = 0

    def stays_small() -> bool:  # statistics from a moving balloon may make mom stop the shrink once more
        nonlocal small_cycles
        here.next_cycle()
        small_cycles = small_cycles + 1 if is_small() and _changes(here) else 0
        return small_cycles >= 3

    wait_until(stays_small, lambda: f"{guest.size_mib} MiB, {_changes(here)}; {here.log}", 60)
    return guest


def _changes(mom: MomRun) -> list[dict[str, Any]]:
    """Return the ledger's changes of sizes."""
    with suppress(FileNotFoundError):
        content = json.loads((mom.folder / "state" / "ledger.json").read_text())
        entries = content if isinstance(content, list) else content["content"]
        return [one for one in entries if one["control"] == "balloon_target"]
    return []


def _why_left_alone(mom: MomRun, guest: RealGuest) -> str:
    return str(mom.guest_rows().get(guest.name, {}))


def _size(domain: Any) -> int:
    return int(domain.memoryStats()["actual"]) >> 10


def test_a_mom_that_is_killed_during_a_move_keeps_its_hands_off_and_the_next_one_forgets_the_guest_when_it_is_gone(
    lab: Lab, other: PrivateLibvirtd, here: MomRun, there: MomRun
) -> None:
    guest = _small_guest(lab, here, "killed")
    there.start()
    move = Move(guest, other)
    here.kill()
    here.start()
    wait_until(lambda: "being migrated out" in _why_left_alone(here, guest), here.guest_rows, 60)
    wait_until(lambda: "being migrated" in _why_left_alone(there, guest), there.guest_rows, 60)
    assert [one["id"] for one in _changes(here)] == [guest.uuid]
    assert guest.size_mib < SMALL + 10
    moved = move.goes_on()
    wait_until(lambda: not _changes(here), "nothing is left to be put back here", 60)
    wait_until(lambda: _size(moved) == WHOLE, lambda: there.log, 60)
    here.stop()
    there.stop()
    moved.destroy()


def test_a_mom_that_ends_during_a_move_gives_the_guest_back_what_it_took(lab: Lab, other: PrivateLibvirtd, here: MomRun) -> None:
    guest = _small_guest(lab, here, "ends")
    move = Move(guest, other)
    here.stop()
    wait_until(lambda: guest.size_mib == WHOLE, "it has what it had before mom", 30)
    assert guest.domain.jobStats()["operation"] == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT, "though it is moved still"
    assert not _changes(here)
    moved = move.goes_on()
    assert _size(moved) == WHOLE
    with libvirt_mom(other) as mom:
        assert mom.size(guest) == WHOLE * MIB, "a mom there is not told by libvirt"
    moved.destroy()


def test_a_guest_that_comes_back_is_not_the_one_whose_size_a_killed_mom_has_noted(lab: Lab, other: PrivateLibvirtd, here: MomRun) -> None:
    guest = _small_guest(lab, here, "returns")
    here.kill()
    moved = Move(guest, other).goes_on()
    moved.setMemory(400 * MIB)
    wait_until(lambda: _size(moved) == 400, "it has another size there", 30)
    back = {libvirt.VIR_MIGRATE_PARAM_URI: f"unix://{lab.libvirtd.folder}/migration"}
    moved.migrate3(libvirt.open(lab.libvirtd.uri), back, libvirt.VIR_MIGRATE_LIVE)
    restored = here.verb("restore")
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert not _changes(here)
    assert guest.size_mib == 400, "that is not mom's"


def test_after_a_move_that_failed_mom_goes_on_with_the_guest(lab: Lab, other: PrivateLibvirtd, here: MomRun) -> None:
    guest = _small_guest(lab, here, "fails")
    move = Move(guest, other)
    wait_until(lambda: "being migrated out" in _why_left_alone(here, guest), here.guest_rows, 60)
    libvirt.open(other.uri).lookupByUUIDString(guest.uuid).destroy()
    move.ends()
    assert move.failed
    wait_until(lambda: "migrated" not in _why_left_alone(here, guest), here.guest_rows, 60)
    here.stop()
    wait_until(lambda: guest.size_mib == WHOLE, "it has what it had before mom", 30)
    assert not _changes(here)
    guest.works_on()


@pytest.mark.parametrize("way", ["paused", "post-copy"])
def test_of_a_guest_whose_balloon_moved_during_its_move_the_size_is_known_and_it_is_left_alone_until_it_is_there(
    lab: Lab, other: PrivateLibvirtd, way: str
) -> None:
    flags = libvirt.VIR_MIGRATE_PAUSED if way == "paused" else libvirt.VIR_MIGRATE_POSTCOPY
    guest = lab.start("resized", mib=WHOLE, workload=(60, 5, 0, 0)).wait_until_it_works()
    with libvirt_mom(other) as mom:
        mom.hypervisor.guests()
        guest.domain.setMemory(SMALL * MIB)
        move = Move(guest, other, flags)
        assert "the guest is paused" in mom.blocked(guest)["*"]
        wait_until(lambda: guest.size_mib == SMALL, "it is smaller now", 30)
        if way == "post-copy":
            guest.domain.migrateSetMaxSpeed(10, libvirt.VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY)
            guest.domain.migrateStartPostCopy()
            wait_until(lambda: mom.blocked(guest) == {"*": "the guest is being migrated in (post-copy)"}, lambda: mom.blocked(guest), 20)
            move.ends()
            moved = libvirt.open(other.uri).lookupByUUIDString(guest.uuid)
        else:
            moved = move.goes_on()
        assert mom.size(guest) == SMALL * MIB
        assert mom.hypervisor.balloon_sizes([guest.entity]) == {guest.uuid: SMALL * MIB}
        if way == "paused":
            assert mom.blocked(guest) == {"*": "the guest is paused"}
            moved.resume()
        wait_until(lambda: mom.blocked(guest) == {}, "it is managed", 30)
        assert mom.size(guest) == SMALL * MIB
        mom.hypervisor.set_balloon(guest.entity, WHOLE * MIB)
        wait_until(lambda: mom.size(guest) == WHOLE * MIB, "it has all", 30)
        moved.destroy()


def test_a_mom_that_is_killed_while_it_moves_a_guest_leaves_it_here_and_the_next_one_does_not_begin_anew(
    lab: Lab, other: PrivateLibvirtd, tmp_path: Path
) -> None:
    lab.start("stays")  # mom does not move the only guest
    guest = lab.start("leaves", mib=256, workload=(60, 5, 0, 0)).wait_until_it_works()
    guest.domain.migrateSetMaxSpeed(1)
    mom, where = MomRun(tmp_path), str(other.destination)
    plugins = {
        "libvirt": lab.libvirtd.settings(),
        "sla": {"classes": {"leaves": {"may_migrate": True, "warning": "0s"}}},
        "eviction": {"destination": where, "sweep": "0s"},
        "policy": {"defaults": False},
    }
    policies = {"50_move": f'(with Guests guest (guest.Control "guest_migrate" "{where}"))'}
    mom.configure(plugins, {guest.name: {"class": "leaves"}}, policies=policies)

    def comes() -> bool:
        return bool(libvirt.open(other.uri).listAllDomains())

    try:
        mom.start()
        wait_until(comes, lambda: mom.log, 60)
        mom.kill()
        wait_until(lambda: not comes(), "libvirt gives it up with the connection of mom", 30)
        guest.works_on()
        mom.start()
        for _ in range(3):
            mom.next_cycle()
        assert not comes(), "it is asked how the move has ended"
        assert "being moved to" in str(mom.guest_rows()[guest.name]), mom.guest_rows()
        mom.stop()
        guest.works_on()
    finally:
        mom.kill()


def test_a_guest_of_plain_qemu_that_is_moved_within_the_host_is_managed_before_and_after_and_never_empty_in_between(tmp_path: Path) -> None:
    with TemporaryDirectory(prefix="mom-qemu-") as folder, plain_host(Path(folder)) as host:
        waits = ["-m", "256", "-incoming", "defer"]
        old = host.start("web", arguments="momtest.workload=60,5,0,0").wait_until_it_works()
        new = host.start("a-new", options=waits, identity=old.uuid)

        def mom() -> QemuHypervisor:
            return QemuHypervisor(PluginContext("qemu"), (f"{folder}/*.qmp",))

        before = mom()  # it begins while the other one is already waiting
        (guest,) = before.guests()
        assert (guest.properties["pid"], guest.blocked) == (old.pid, {})
        before.set_balloon(guest.entity, 200 * MIB)
        wait_until(lambda: old.size_mib == 200, "it is smaller", 30)
        old.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 20})
        new.ask("migrate-incoming", uri=f"unix:{folder}/move")
        old.ask("migrate", uri=f"unix:{folder}/move")
        wait_until(lambda: before.guests()[0].blocked == {"*": "the guest is being migrated"}, "mom knows", 30)
        with pytest.raises(GuestBusy, match="being migrated"):
            before.set_balloon(guest.entity, 150 * MIB)
        before.set_balloon(guest.entity, 256 * MIB)
        wait_until(lambda: old.size_mib == 256, "it gets memory back", 30)
        assert [one.properties["pid"] for one in mom().guests()] == [old.pid], "for a mom that begins now, too"
        old.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 30})

        def moved() -> bool:
            (found,) = before.guests()
            return (found.properties.get("pid"), found.blocked) == (new.pid, {})

        wait_until(moved, before.guests, 60)
        assert before.balloon_sizes([guest.entity]) == {guest.id: 256 * MIB}
        before.set_balloon(guest.entity, 200 * MIB)
        wait_until(lambda: new.size_mib == 200, "it is smaller there", 30)
