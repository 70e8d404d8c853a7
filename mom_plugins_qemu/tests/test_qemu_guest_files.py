"""Guests that the operator defines in a folder of files."""

import logging
from pathlib import Path

import pytest
from fake_monitors import MIB, FakeHost

from mom_core import GuestBusy, HypervisorError
from mom_plugins_qemu.doctor import examined
from mom_plugins_qemu.hypervisor import QemuHypervisor
from mom_plugins_qemu.sampler import QemuHypervisorSettings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "guests"
    made.mkdir()
    return made


@pytest.fixture
def hypervisor(folder: Path) -> QemuHypervisor:
    return QemuHypervisor(QemuHypervisorSettings(sockets=("/nowhere/*.qmp",), guest_files=folder), logging.getLogger("test"))


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
    with pytest.raises(GuestBusy, match="definition is wrong"):
        hypervisor.set_balloon(found.entity, 800 * MIB)
    assert guest.asked["balloon"] == 0
    (finding,) = (one for one in examined(hypervisor, readonly=False, stats_period=1.0) if one.subject == "definition")
    assert finding.message.startswith(f"web is left alone: {file}:2:12")


@pytest.mark.parametrize("text", ["monitor: relative\n", "guarantee: 1GiB\n", "monitor: /a\nguarentee: 1GiB\n", "monitor: [", "- a\n", ""])
def test_a_file_that_was_never_right_makes_all_guests_unknown(host: FakeHost, hypervisor: QemuHypervisor, folder: Path, text: str) -> None:
    host.add("web")
    (folder / "web.yaml").write_text(text)
    with pytest.raises(HypervisorError, match=r"a guest's definition is wrong: .*web\.yaml"):
        hypervisor.guests()


def test_two_files_of_one_guest_are_a_mistake(host: FakeHost, hypervisor: QemuHypervisor, folder: Path) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.yaml").write_text(f"monitor: {host.add(name).path.with_name('a.qmp')}\n")
    with pytest.raises(HypervisorError, match=r"b\.yaml has the monitor of a\.yaml"):
        hypervisor.guests()


def test_a_file_that_others_could_have_written_is_not_believed(host: FakeHost, hypervisor: QemuHypervisor, folder: Path) -> None:
    file = folder / "web.yaml"
    file.write_text(f"monitor: {host.add('web').path}\nguarantee: 10MiB\n")
    file.chmod(0o666)
    with pytest.raises(HypervisorError, match="can be written by everybody"):
        hypervisor.guests()
