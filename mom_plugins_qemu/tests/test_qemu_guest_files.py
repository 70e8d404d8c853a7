"""Guests that the operator defines in a folder of files."""

import contextlib
import os
import re
from pathlib import Path

import pytest
from fake_monitors import MIB, FakeHost

from mom_core import GuestBusy, HypervisorError, PermissionDenied, PluginContext
from mom_devkit import wait_until
from mom_devkit.without_root import another_user
from mom_plugins_qemu.doctor import examined
from mom_plugins_qemu.hypervisor import QemuHypervisor
from mom_plugins_qemu.sampler import QemuHypervisorSettings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "guests"
    made.mkdir()
    return made


def with_files(host: FakeHost, folder: Path) -> QemuHypervisor:
    """Finds guests by all monitors, and reads the files."""
    return QemuHypervisor(QemuHypervisorSettings(sockets=(f"{host.folder}/*.qmp",), guest_files=folder), PluginContext("qemu"))


@pytest.fixture
def hypervisor(folder: Path) -> QemuHypervisor:
    return QemuHypervisor(QemuHypervisorSettings(sockets=("/nowhere/*.qmp",), guest_files=folder), PluginContext("qemu"))


def test_a_guest_is_found_by_its_file_with_what_it_is_promised(host: FakeHost, hypervisor: QemuHypervisor, folder: Path) -> None:
    guest = host.add("vm-17")
    assert list(hypervisor.guests()) == []
    (folder / "web.yaml").write_text(f"monitor: {guest.path}\nname: web\nguarantee: 50%\nclass: gold\n")
    (folder / "later.yaml").write_text(f"monitor: {host.folder}/later.qmp\n")
    (folder / "notes.txt").write_text("no definition")
    (found,) = hypervisor.guests()
    assert (found.name, found.id) == ("web", guest.uuid)
    assert (found.properties["mem_guarantee"], found.properties["sla_class"]) == ("50%", "gold")
    (folder / "web.yaml").write_text(f"monitor: {guest.path}\nguarantee: 700MiB\n")
    (found,) = hypervisor.guests()
    assert (found.name, found.properties["mem_guarantee"]) == ("vm-17", "700MiB")
    assert "sla_class" not in found.properties
    (folder / "web.yaml").unlink()
    assert hypervisor.guests()[0].blocked["*"], "its process still runs, and it is not to be taken for gone"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user for a while")
def test_a_guest_whose_monitor_this_user_may_not_look_at_is_not_taken_for_gone(
    host: FakeHost, hypervisor: QemuHypervisor, folder: Path
) -> None:
    (folder / "web.yaml").write_text(f"monitor: {host.add('web').path}\n")
    host.folder.chmod(0o700)
    with contextlib.ExitStack() as within:
        for above in (folder, *folder.parents):
            before = above.stat().st_mode
            above.chmod(before | 0o055)
            within.callback(above.chmod, before)
        with another_user(), pytest.raises(PermissionDenied, match=r"cannot check whether .*web\.qmp exists") as raised:
            hypervisor.guests()
    assert f"setfacl -m u:USER:rx {host.folder}" in raised.value.hint
    assert [guest.name for guest in hypervisor.guests()] == ["web"]


def test_a_file_that_becomes_wrong_has_its_guest_left_alone(host: FakeHost, hypervisor: QemuHypervisor, folder: Path) -> None:
    guest = host.add("web")
    file = folder / "web.yaml"
    file.write_text(f"monitor: {guest.path}\nguarantee: 700MiB\n")
    (found,) = hypervisor.guests()
    assert found.blocked == {}
    file.write_text(f"monitor: {guest.path}\nguarantee: much\n")
    (found,) = hypervisor.guests()
    assert f"{file}:2:12" in found.blocked["*"]
    assert found.properties["mem_guarantee"] == "700MiB", "what was promised last"
    with pytest.raises(GuestBusy, match="definition is invalid"):
        hypervisor.set_balloon(found.entity, 800 * MIB)
    assert guest.asked["balloon"] == 0
    (finding,) = (one for one in examined(hypervisor, stats_period=1.0) if one.subject == "definition")
    assert finding.message.startswith(f"web is left alone: {file}:2:12")


@pytest.mark.parametrize("text", ["monitor: relative\n", "guarantee: 1GiB\n", "monitor: /a\nguarentee: 1GiB\n", "monitor: [", "- a\n", ""])
def test_a_file_that_was_never_right_makes_all_guests_unknown(host: FakeHost, hypervisor: QemuHypervisor, folder: Path, text: str) -> None:
    host.add("web")
    (folder / "web.yaml").write_text(text)
    with pytest.raises(HypervisorError, match=r"a guest's definition is invalid: .*web\.yaml"):
        hypervisor.guests()


def test_a_new_file_that_is_wrong_has_only_guests_left_alone_that_no_other_file_defines(host: FakeHost, folder: Path) -> None:
    hypervisor = with_files(host, folder)
    web, db = host.add("web"), host.add("db")
    (folder / "web.yaml").write_text(f"monitor: {web.path}\nguarantee: 700MiB\n")
    assert [guest.blocked for guest in hypervisor.guests()] == [{}, {}]
    (folder / "db.yaml").write_text(f"monitor: {db.path}\nguarantee: much\n")
    host.add("new")
    found = {guest.name: guest for guest in hypervisor.guests()}
    assert (found["web"].blocked, found["web"].properties["mem_guarantee"]) == ({}, "700MiB")
    for name in ("db", "new"):
        assert f"{folder}/db.yaml:2:12" in found[name].blocked["*"]
        with pytest.raises(GuestBusy, match="definition is invalid"):
            hypervisor.set_balloon(found[name].entity, 800 * MIB)
    said = [one.message for one in examined(hypervisor, stats_period=1.0) if one.subject == "definition"]
    assert sorted(one.partition(" is left alone")[0] for one in said) == ["db", "new"]
    with pytest.raises(HypervisorError, match="a guest's definition is invalid"):
        with_files(host, folder).guests()
    (folder / "db.yaml").write_text(f"monitor: {db.path}\nguarantee: 300MiB\n")
    promised = {guest.name: guest.properties.get("mem_guarantee") for guest in hypervisor.guests() if not guest.blocked}
    assert promised == {"web": "700MiB", "db": "300MiB", "new": "0KiB"}


@pytest.mark.parametrize("missing", ["the folder", "what a link leads to"])
def test_where_definitions_are_missing_no_guest_is_taken_for_one_that_is_promised_nothing(
    host: FakeHost, folder: Path, missing: str
) -> None:
    hypervisor = with_files(host, folder)
    guest = host.add("web")
    file = folder / "web.yaml"
    file.write_text(f"monitor: {guest.path}\nguarantee: 700MiB\n")
    (found,) = hypervisor.guests()
    file.unlink()
    gone = folder if missing == "the folder" else file
    if gone is folder:
        folder.rmdir()
    else:
        file.symlink_to("nowhere.yaml")
    for one in (hypervisor, with_files(host, folder)):
        with pytest.raises(HypervisorError, match=rf"{re.escape(str(gone))} cannot be read: No such file") as raised:
            one.guests()
        assert "create it, or remove `guest_files`" in (raised.value.hint or "")
    folder.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_text(f"monitor: {guest.path}\nguarantee: 700MiB\n")
    assert hypervisor.guests()[0].properties["mem_guarantee"] == found.properties["mem_guarantee"] == "700MiB"


@pytest.mark.parametrize("defined", ["web", "web2"])
def test_what_a_guest_is_promised_holds_whichever_of_its_monitors_answers(host: FakeHost, folder: Path, defined: str) -> None:
    hypervisor = with_files(host, folder)
    first = host.add("web")
    host.add("web2", uuid=first.uuid)
    hypervisor.guests()
    (folder / "web.yaml").write_text(f"monitor: {host.guests[defined].path}\nname: shop\nguarantee: 700MiB\n")
    for held in (None, "web", "web2"):
        for name, one in host.guests.items():
            one.hangs = name == held
        wait_until(lambda: [guest.blocked for guest in hypervisor.guests()] == [{}])  # one that was held is left in peace for a moment
        (shop,) = hypervisor.guests()
        assert (shop.name, shop.properties["mem_guarantee"]) == ("shop", "700MiB")


def test_two_files_of_one_guest_are_a_mistake(host: FakeHost, hypervisor: QemuHypervisor, folder: Path) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.yaml").write_text(f"monitor: {host.add(name).path.with_name('a.qmp')}\n")
    with pytest.raises(HypervisorError, match=r"b\.yaml has the same monitor as a\.yaml"):
        hypervisor.guests()


@pytest.mark.parametrize("uuid", ["", "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"])
def test_a_guest_that_two_files_define_by_two_of_its_monitors_is_left_alone(
    host: FakeHost, hypervisor: QemuHypervisor, folder: Path, uuid: str
) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.yaml").write_text(f"monitor: {host.add(name, uuid=uuid).path}\nguarantee: 700MiB\n")
    (guest,) = hypervisor.guests()
    said = "two files define the guest, with the monitors " + " and ".join(str(host.guests[name].path) for name in ("a", "b"))
    assert said[:50] in guest.blocked["*"]
    assert any(said in finding.message for finding in examined(hypervisor, stats_period=1))
    (folder / "b.yaml").unlink()
    (guest,) = hypervisor.guests()
    assert (guest.blocked, guest.properties["mem_guarantee"]) == ({}, "700MiB")


def test_a_file_that_others_could_have_written_is_not_believed(host: FakeHost, hypervisor: QemuHypervisor, folder: Path) -> None:
    file = folder / "web.yaml"
    file.write_text(f"monitor: {host.add('web').path}\nguarantee: 10MiB\n")
    file.chmod(0o666)
    with pytest.raises(HypervisorError, match="can be written by everybody"):
        hypervisor.guests()
