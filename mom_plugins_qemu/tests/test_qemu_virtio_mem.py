"""virtio-mem: a second way to size a guest, by a control of its own."""

from __future__ import annotations

from typing import Any

import pytest
from fake_monitors import MIB, FakeHost

from mom_cli import About
from mom_core import Change, Decision, Entity, Guest, NotSupported, PluginContext, Refused, Report, Scope, Snapshot, Status, Target, Value
from mom_core.testing import snapshot
from mom_devkit import apply_decisions
from mom_plugins_qemu import QemuPlugin
from mom_plugins_qemu.explanation import WayExplainer
from mom_plugins_qemu.fields import WAY
from mom_plugins_qemu.hypervisor import QemuHypervisor
from mom_plugins_qemu.virtio_mem import CONTROL, reviewed
from mom_toolkit import Promises


def device(name: str = "vm0", plugged: int = 256, most: int = 512) -> dict[str, Any]:
    sizes = {"size": plugged << 20, "requested-size": plugged << 20, "max-size": most << 20, "block-size": 2 << 20}
    return {"type": "virtio-mem", "data": {"id": name, **sizes}}


@pytest.fixture
def plugin(host: FakeHost) -> QemuPlugin:
    made = QemuPlugin(QemuPlugin.Settings.model_validate({"sockets": [f"{host.folder}/*.qmp"], "watch": "0s"}), PluginContext(name="qemu"))
    made.mom_setup()
    return made


def of(plugin: QemuPlugin) -> QemuHypervisor:
    found = plugin.mom_hypervisor()
    assert isinstance(found, QemuHypervisor)
    return found


def test_what_is_plugged_in_is_collected_set_and_read_back(host: FakeHost, plugin: QemuPlugin) -> None:
    guest = host.add("web", memory_devices=[device()])
    (web,) = of(plugin).guests()
    fields = plugin.mom_collect_guests(of(plugin), [web])[web.id]
    assert (fields["plugged_cur"], fields["plugged_requested"], fields["plugged_max"]) == (256 * MIB, 256 * MIB, 512 * MIB)
    (outcome,) = apply_decisions(plugin, [Decision(web.entity, CONTROL, 128 * MIB)], of(plugin))
    assert (outcome.status, outcome.before, outcome.after) == (Status.APPLIED, 256 * MIB, 128 * MIB)
    assert guest.memory_devices[0]["data"]["requested-size"] == 128 << 20


def test_a_size_between_the_steps_of_the_device_is_rounded_up(host: FakeHost, plugin: QemuPlugin) -> None:
    guest = host.add("web", memory_devices=[device()])
    (web,) = of(plugin).guests()
    of(plugin).set_plugged(web.entity, 127 * MIB + 1)
    assert guest.memory_devices[0]["data"]["requested-size"] == 128 << 20


@pytest.mark.parametrize("devices", [[], [device("a"), device("b")]])
def test_a_guest_without_one_such_device_has_no_such_control(host: FakeHost, plugin: QemuPlugin, devices: list[dict[str, Any]]) -> None:
    host.add("web", memory_devices=devices)
    (web,) = of(plugin).guests()
    assert "plugged_cur" not in plugin.mom_collect_guests(of(plugin), [web])[web.id]
    with pytest.raises(NotSupported, match="virtio-mem devices"):
        of(plugin).plugged(web.entity)


@pytest.mark.parametrize("size", [-1, 513 * MIB, "much", 1.5, True])
def test_impossible_sizes_are_refused_and_not_sent(host: FakeHost, plugin: QemuPlugin, size: Value) -> None:
    guest = host.add("web", memory_devices=[device()])
    (web,) = of(plugin).guests()
    target = Target(web.entity, CONTROL)
    assert isinstance(plugin.mom_write(of(plugin), [Change(target, size, 256 * MIB)])[target], Refused)
    assert guest.memory_devices[0]["data"]["requested-size"] == 256 << 20


class Promised:
    """All guests are guaranteed so much."""

    def __init__(self, kib: float | None) -> None:
        self.kib = kib

    def guaranteed_kib(self, guest: Guest) -> float | None:
        return self.kib

    promised_kib = guaranteed_kib


FIELDS: dict[str, Value] = {"plugged_cur": 256 * MIB, "plugged_max": 512 * MIB, "balloon_cur": 1024 * MIB, "mem_usable": 300 * MIB}


def left(value: Value, promises: Promises, fields: dict[str, Value], *others: Decision) -> Value:
    """What review leaves of a decision; None: it is dropped."""
    found: Snapshot = snapshot(guests={"web": fields})
    (guest,) = found.guests.values()
    decision = Decision(guest.entity, CONTROL, value)
    for revision in reviewed(found, [decision, *others], promises):
        return None if revision.after is None else revision.after.value
    return value


@pytest.mark.parametrize(
    ("wanted", "promised", "leaves"),
    [
        (512 * MIB, None, 512 * MIB),
        (600 * MIB, None, 512 * MIB),
        (200 * MIB, None, 200 * MIB),
        (0, None, int(256 * MIB - (300 * MIB - 0.1 * 1024 * MIB))),
        (0, 1000 * MIB, 232 * MIB),
        (0, 2000 * MIB, 256 * MIB),
        (300 * MIB, 2000 * MIB, 300 * MIB),
    ],
)
def test_a_guest_keeps_what_it_is_promised_and_what_it_needs(wanted: int, promised: float | None, leaves: int) -> None:
    assert left(wanted, Promised(promised), FIELDS) == leaves


@pytest.mark.parametrize("unknown", ["plugged_cur", "plugged_max", "balloon_cur", "mem_usable"])
def test_nothing_is_taken_from_a_guest_of_which_too_little_is_known(unknown: str) -> None:
    assert left(0, Promised(None), {**FIELDS, unknown: None}) is None


def test_only_one_way_takes_memory_from_a_guest_in_a_cycle() -> None:
    found = snapshot(guests={"web": FIELDS})
    (guest,) = found.guests.values()
    by_balloon = Decision(Entity(Scope.GUEST, guest.id, guest.name), "balloon_target", 900 * MIB)
    assert left(200 * MIB, Promised(None), FIELDS, by_balloon) is None


def by_file(host: FakeHost, memory: str = "1GiB", more: str = "") -> QemuPlugin:
    """A plugin with a file of the guest web."""
    folder = host.folder / "guests"
    folder.mkdir(exist_ok=True)
    (folder / "web.yaml").write_text(f"monitor: {host.folder}/web.qmp\n" + (f"memory: {memory}\n" if memory else "") + more)
    settings = {"sockets": [f"{host.folder}/*.qmp"], "watch": "0s", "guest_files": folder}
    made = QemuPlugin(QemuPlugin.Settings.model_validate(settings), PluginContext(name="qemu"))
    made.mom_setup()
    return made


VFIO = [{"name": "gpu0", "type": "child<vfio-pci>"}]


def test_a_guest_whose_memory_a_balloon_cannot_take_is_sized_by_virtio_mem(host: FakeHost) -> None:
    guest = host.add("web", memory=512 * MIB, size=512 * MIB, devices=VFIO, memory_devices=[device(plugged=512)])
    guest.reports(usable=400 * MIB)
    plugin = by_file(host, more="guarantee: 600MiB\n")
    hypervisor = of(plugin)
    (web,) = hypervisor.guests()
    fields = plugin.mom_collect_guests(hypervisor, [web])[web.id]
    assert (fields["balloon_cur"], fields["balloon_max"], fields["sized_by"]) == (1024 * MIB, 1024 * MIB, "virtio-mem")
    assert "pinned" not in web.properties, "there is a way"
    assert web.properties["mem_guarantee"] == f"{600 * MIB}KiB"
    assert web.blocked == {}
    hypervisor.set_balloon(web.entity, 700 * MIB + 1)
    assert guest.memory_devices[0]["data"]["requested-size"] == 190 << 20, "the steps of the device, and no less than was asked"
    assert guest.asked["balloon"] == 0
    assert hypervisor.balloon_sizes([web.entity]) == {web.id: 702 * MIB}
    (web,) = hypervisor.guests()
    fields = plugin.mom_collect_guests(hypervisor, [web])[web.id]
    assert (fields["balloon_cur"], fields["balloon_max"]) == (702 * MIB, 1024 * MIB), "what it was sold is not what is plugged in"
    hypervisor.set_balloon(web.entity, 100 * MIB)
    assert hypervisor.balloon_sizes([web.entity]) == {web.id: 512 * MIB}, "it keeps what cannot be unplugged"
    with pytest.raises(NotSupported, match="was sold"):
        hypervisor.set_balloon(web.entity, 1100 * MIB)


def test_a_mom_that_starts_anew_gives_back_what_the_guest_was_sold(host: FakeHost) -> None:
    host.add("web", balloon=False, memory=512 * MIB, memory_devices=[device(plugged=64)])
    plugin = by_file(host)
    (web,) = of(plugin).guests()
    assert web.blocked == {"balloon_stats_period": "the guest has no balloon device"}
    assert web.properties["mem_guarantee"] == f"{512 * MIB}KiB", "what it has by itself"
    fields = plugin.mom_collect_guests(of(plugin), [web])[web.id]
    assert (fields["balloon_cur"], fields["balloon_max"]) == (576 * MIB, 1024 * MIB)
    of(plugin).set_balloon(web.entity, 1024 * MIB)
    assert of(plugin).balloon_sizes([web.entity]) == {web.id: 1024 * MIB}


@pytest.mark.parametrize(
    ("more", "memory", "devices"),
    [({}, "1GiB", [device()]), ({"devices": VFIO}, "", [device()]), ({"devices": VFIO}, "1GiB", [device("a"), device("b")])],
)
def test_a_balloon_that_works_is_preferred_and_without_one_way_for_certain_none_is_used(
    host: FakeHost, more: dict[str, Any], memory: str, devices: list[dict[str, Any]]
) -> None:
    guest = host.add("web", memory=512 * MIB, size=512 * MIB, memory_devices=devices, **more)
    plugin = by_file(host, memory)
    (web,) = of(plugin).guests()
    fields = plugin.mom_collect_guests(of(plugin), [web])[web.id]
    assert fields.get("sized_by") == (None if more else "balloon")
    assert ("pinned" in web.properties) == bool(more)
    assert bool(web.blocked) == bool(more)
    if not more:
        of(plugin).set_balloon(web.entity, 600 * MIB)
        assert (guest.asked["balloon"], guest.asked["qom-set"]) == (1, 0)


def test_the_way_is_explained_and_stands_beside_the_guest() -> None:
    def said(way: str | None) -> list[str]:
        fields: dict[str, Value] = {"plugged_cur": 128 * MIB, "plugged_max": 512 * MIB} | ({} if way is None else {"sized_by": way})
        snap = snapshot(guests={"web": fields})
        report = Report(1, 0.0, "enforce", snap, (), (), (), (), (), 0.1)
        part = WayExplainer().part(About(report, snap.guests["web"]))
        return [str(WAY.value(fields) or ""), *(sentence.text for sentence in part.sentences)]

    has = "that has 128 MiB of 512 MiB plugged in."
    assert said(None) == [""]
    assert said("virtio-mem") == ["virtio-mem", f"It is sized by virtio-mem, as a balloon cannot take its memory; {has}"]
    assert said("balloon") == ["balloon", f"It is sized by its balloon, which works, and not by virtio-mem; {has}"]
