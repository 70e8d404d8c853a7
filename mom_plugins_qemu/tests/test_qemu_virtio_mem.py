"""virtio-mem, which resizes guests without a usable balloon."""

from typing import Any

import pytest
from fake_monitors import MIB, FakeHost

from mom_core import NotSupported, PluginContext
from mom_plugins_qemu import QemuPlugin
from mom_plugins_qemu.description import Description, VirtioMem, with_held_memory
from mom_plugins_qemu.hypervisor import QemuHypervisor
from mom_plugins_qemu.monitored_guest import virtio_mem_sizing


def device(name: str = "vm0", plugged: int = 256) -> dict[str, Any]:
    sizes = {"size": plugged << 20, "requested-size": plugged << 20, "max-size": 512 << 20, "block-size": 2 << 20}
    return {"type": "virtio-mem", "data": {"id": name, **sizes}}


def of(plugin: QemuPlugin) -> QemuHypervisor:
    found = plugin.mom_hypervisor()
    assert isinstance(found, QemuHypervisor)
    return found


def assigned(host: FakeHost, memory: str = "1GiB") -> QemuPlugin:
    """Return a plugin whose configuration sets the guests' memory."""
    settings = QemuPlugin.Settings.model_validate({"sockets": [f"{host.folder}/*.qmp"], "watch": "0s"})
    of_guests = QemuPlugin.GuestSettings.model_validate({"memory": memory} if memory else {})
    made = QemuPlugin(settings, PluginContext(name="qemu", guest_settings=lambda guest: of_guests))
    made.mom_setup()
    return made


VFIO = [{"name": "gpu0", "type": "child<vfio-pci>"}]


def test_a_guest_whose_memory_a_balloon_cannot_take_is_sized_by_virtio_mem(host: FakeHost) -> None:
    guest = host.add("web", memory=512 * MIB, size=512 * MIB, devices=VFIO, memory_devices=[device(plugged=512)])
    guest.reports(usable=400 * MIB)
    plugin = assigned(host)
    hypervisor = of(plugin)
    (web,) = hypervisor.guests()
    fields = plugin.mom_collect_guests(hypervisor, [web])[web.id]
    assert (fields["balloon_cur"], fields["balloon_max"], fields["sized_by"]) == (1024 * MIB, 1024 * MIB, "virtio-mem")
    assert fields["mem_vouched"] == 1024 * MIB
    assert "pinned" not in web.properties, "there is a way"
    assert web.properties["mem_guarantee"] == f"{512 * MIB}KiB"
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
    with pytest.raises(NotSupported, match="can have"):
        hypervisor.set_balloon(web.entity, 1100 * MIB)


def test_a_guest_that_had_more_than_is_assigned_gets_that_back(host: FakeHost) -> None:
    host.add("web", balloon=False, memory=512 * MIB, memory_devices=[device(plugged=512)])
    hypervisor = of(assigned(host, memory="900MB"))
    (web,) = hypervisor.guests()
    assert hypervisor.fields([web])[web.id]["balloon_max"] == 1024 * MIB
    for size in (700 * MIB, 1024 * MIB):
        hypervisor.guests()
        hypervisor.set_balloon(web.entity, size)
        assert hypervisor.balloon_sizes([web.entity]) == {web.id: size}


def test_a_lie_about_its_size_is_no_guarantee(host: FakeHost) -> None:
    guest = host.add("web", balloon=False, memory=1 << 51, memory_devices=[device(plugged=64)])
    (web,) = of(assigned(host)).guests()
    assert (web.id, "mem_guarantee" in web.properties, "*" in web.blocked) == (guest.uuid, False, True)


@pytest.mark.parametrize(
    ("more", "memory", "devices"),
    [({}, "1GiB", [device()]), ({"devices": VFIO}, "", [device()]), ({"devices": VFIO}, "1GiB", [device("a"), device("b")])],
)
def test_a_balloon_that_works_is_preferred_and_without_one_way_for_certain_none_is_used(
    host: FakeHost, more: dict[str, Any], memory: str, devices: list[dict[str, Any]]
) -> None:
    guest = host.add("web", memory=512 * MIB, size=512 * MIB, memory_devices=devices, **more)
    plugin = assigned(host, memory)
    (web,) = of(plugin).guests()
    fields = plugin.mom_collect_guests(of(plugin), [web])[web.id]
    assert fields.get("sized_by") == (None if more else "balloon")
    assert ("pinned" in web.properties) == bool(more)
    assert bool(web.blocked) == bool(more)
    if not more:
        of(plugin).set_balloon(web.entity, 600 * MIB)
        assert (guest.asked["balloon"], guest.asked["qom-set"]) == (1, 0)


def test_the_memory_of_a_device_without_an_id_is_the_guests_too_and_cannot_size_it(host: FakeHost) -> None:
    unnamed = device(plugged=256)
    del unnamed["data"]["id"]
    for name, more in (("web", {"devices": VFIO}), ("plain", {})):
        guest = host.add(name, memory=512 * MIB, size=512 * MIB, memory_devices=[unnamed], **more)
        guest.reports(usable=400 * MIB, total=740 * MIB)
    hypervisor = of(assigned(host))
    guests = {one.name: one for one in hypervisor.guests()}
    assert hypervisor.remarks() == []
    for found in hypervisor.fields(list(guests.values())).values():
        assert (found["balloon_cur"], found["balloon_max"], found["balloon_least"]) == (768 * MIB, 768 * MIB, 257 * MIB)
    assert "pinned" in guests["web"].properties
    assert guests["plain"].blocked == {}


def test_mom_itself_plugs_where_virtio_mem_sizes_a_guest(host: FakeHost) -> None:
    named = device(plugged=256)
    named["data"]["requested-size"] = 128 << 20
    host.add("web", memory=512 * MIB, size=512 * MIB, devices=VFIO, memory_devices=[named])
    hypervisor = of(assigned(host))
    (web,) = hypervisor.guests()
    assert "give_back" not in hypervisor.fields([web])[web.id]


def test_a_pool_of_huge_pages_gains_nothing_by_virtio_mem_either() -> None:
    one = VirtioMem("/machine/peripheral/vm0", 256 * MIB, 256 * MIB, 512 * MIB, 2 * MIB)
    vfio = Description("web", "", 512 * MIB, 1, "/machine/balloon", "a host device pins it", (one,))
    for locked in (0, 1024 * MIB):
        assert virtio_mem_sizing(with_held_memory(vfio, locked_kib=locked), (one,), 1024 * MIB) is not None
    assert virtio_mem_sizing(with_held_memory(vfio, pool_kib=2048), (one,), 1024 * MIB) is None
