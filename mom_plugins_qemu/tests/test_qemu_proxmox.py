"""A node of Proxmox VE: definitions of guests, and its daemon, which also resizes guests."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fake_monitors import MIB, FakeGuest, FakeHost

from mom_core import Guest, GuestPattern, PluginContext, Severity
from mom_kvm import GuestDescription, GuestPlatform, LaunchedGuest
from mom_plugins_qemu import QemuPlugin
from mom_plugins_qemu.hypervisor import QemuHypervisor
from mom_plugins_qemu.proxmox import ProxmoxLaunches

WEB = """#the shop
agent: 1
balloon: 512
cores: 4
memory: 1024
name: web
scsi0: local-lvm:vm-100-disk-0,size=32G
smbios1: uuid=7e1d3c1a-93a7-4d0c-a7f5-0d9f3a1b0c01
tags: prod;class-gold

[PENDING]
memory: 8192

[before-upgrade]
lock: backup
shares: 0
"""


class Node:
    """Files of a node, and mom."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "run/qemu-server").mkdir(parents=True)
        (root / "etc/pve/qemu-server").mkdir(parents=True)
        (root / "proc/77").mkdir(parents=True)
        (root / "run/pvestatd.pid").write_text("77\n")
        (root / "proc/77/cmdline").write_bytes(b"pvestatd\0")
        self.monitors = FakeHost(root / "run/qemu-server")
        self.mode = "enforce"
        self.context = PluginContext(name="qemu", root=root, configuration=lambda: {"mode": self.mode})
        self.plugin = QemuPlugin(QemuPlugin.Settings.model_validate({"watch": "0s"}), self.context)
        self.plugin.mom_setup()

    @property
    def hypervisor(self) -> QemuHypervisor:
        found = self.plugin.mom_hypervisor()
        assert isinstance(found, QemuHypervisor)
        return found

    def add(self, number: int, text: str) -> FakeGuest:
        (self.root / f"etc/pve/qemu-server/{number}.conf").write_text(text)
        return self.monitors.add(str(number))

    def guest(self, number: int) -> Guest:
        return next(guest for guest in self.hypervisor.guests() if guest.name == str(number))


@pytest.fixture
def node() -> Iterator[Node]:
    with TemporaryDirectory(prefix="pve-") as folder:
        made = Node(Path(folder))
        yield made
        made.plugin.mom_teardown()
        made.monitors.close()


def test_the_least_memory_is_the_guarantee_and_tags_name_the_class(node: Node) -> None:
    node.add(100, WEB.replace("name: web", "name: web\nshares: 0"))
    node.add(101, "memory: 1024\n")
    web, plain = node.guest(100), node.guest(101)
    assert (web.properties["mem_guarantee"], web.properties["sla_class"], web.blocked) == ("512MiB", "gold", {})
    assert plain.properties["mem_guarantee"] == "100%", "a guest with no least memory was sold all of it"


def test_what_proxmox_promises_a_guest_holds_while_another_client_has_its_monitor_and_mom_uses_a_second_one(node: Node) -> None:
    first = node.add(100, WEB)
    second = node.monitors.add("mom", uuid=first.uuid)
    (node.root / "run/qemu").mkdir()
    second.path.rename(node.root / "run/qemu/100.qmp")
    (web,) = node.hypervisor.guests()
    first.hangs = True
    (held,) = node.hypervisor.guests()
    assert held.blocked == web.blocked
    assert held.properties["mem_guarantee"] == web.properties["mem_guarantee"] == "512MiB"
    (node.root / "etc/pve/qemu-server/100.conf").write_text(f"lock: backup\n{WEB}")
    (locked,) = node.hypervisor.guests()
    assert "locked" in locked.blocked["*"]


class Pools:
    """Platform of a third party that reads guests' descriptions."""

    def properties(self, description: GuestDescription) -> dict[str, str]:
        return {"tenant": description.options.get("description", "").removeprefix("tenant ")}


def test_a_platform_gives_properties_by_the_options_and_a_reload_that_brings_it_is_enough(node: Node) -> None:
    node.add(100, f"description: tenant acme\n{WEB}")
    assert "tenant" not in node.guest(100).properties
    node.context.offers = {GuestPlatform: (Pools(),)}
    web = node.guest(100)
    assert (web.properties["tenant"], web.properties["sla_class"]) == ("acme", "gold")
    assert GuestPattern.of("tenant=ac*").matches(web)
    assert GuestPattern.of("tags=prod").matches(web)


def test_a_guest_that_proxmox_resizes_is_left_alone_until_that_has_ended(node: Node) -> None:
    node.add(100, WEB)
    assert node.guest(100).blocked == {"balloon_target": "pvestatd of Proxmox VE resizes the guest; to prevent this: qm set 100 --shares 0"}
    said = {finding.subject: finding for finding in node.plugin.mom_doctor()}
    assert said["Proxmox VE"].severity is Severity.WARNING
    assert said["Proxmox VE"].cure == "qm set 100 --shares 0"
    node.mode = "observe"
    assert node.guest(100).blocked == {}, "what mom would do is shown"
    node.mode = "enforce"
    (node.root / "etc/pve/qemu-server/100.conf").write_text(WEB.replace("name: web", "name: web\nshares: 0"))
    assert node.guest(100).blocked == {}
    assert "Proxmox VE" not in {finding.subject for finding in node.plugin.mom_doctor()}


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ("", "qm set 100 --balloon 256, then qm set 100 --shares 0"),
        ("shares: 0\n", "qm set 100 --delete shares, then qm set 100 --balloon 256, then qm set 100 --shares 0"),
        ("balloon: 1024\n", ""),
        ("balloon: 512\n", ""),
    ],
)
def test_a_guest_without_a_minimum_is_named_with_the_line_that_has_it_give(node: Node, options: str, lines: str) -> None:
    node.add(100, f"memory: 1024\n{options}")
    guest = node.guest(100)
    fields = node.hypervisor.fields([guest])[guest.id]
    said = str(fields.get("keeps_all_memory", ""))
    assert (bool(said), lines in said) == (bool(lines), True)
    found = [one for one in node.plugin.mom_doctor() if "without Minimum memory" in one.message]
    assert bool(found) == bool(lines)


def test_without_its_daemon_shares_say_what_it_costs_to_take_memory(node: Node) -> None:
    (node.root / "proc/77/cmdline").write_bytes(b"another\0")
    node.add(100, f"shares: 4000\n{WEB}")
    web = node.guest(100)
    assert web.blocked == {}
    fields = node.hypervisor.fields([web])[web.id]
    assert (fields["reclaim_cost"], fields["mem_vouched"]) == (4.0, 1024 * MIB)


def test_a_guest_whose_definition_cannot_be_read_is_left_alone(node: Node) -> None:
    node.add(100, WEB)
    assert "*" not in node.guest(100).blocked
    (node.root / "etc/pve/qemu-server/100.conf").unlink()
    assert node.guest(100).blocked == {"*": "the guest's definition cannot be read, so its guarantee is unknown"}
    (node.root / "etc/pve/qemu-server/100.conf").write_text(WEB)
    (node.root / "etc/pve/qemu-server/100.conf").chmod(0o666)
    assert "*" in node.guest(100).blocked, "any user may have written it"


def test_a_definition_that_could_not_be_read_for_a_moment_is_read_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as unreadable:
        unreadable.setattr("mom_plugins_qemu.proxmox.read_kernel_file", lambda *_: b"")
        node.add(100, WEB)
        assert "*" in node.guest(100).blocked
        (finding,) = (one for one in node.plugin.mom_doctor() if one.subject == "Proxmox VE")
        assert (finding.severity, "1 guest left alone: 100" in finding.message) == (Severity.WARNING, True)
        assert "usermod -aG www-data mom" in finding.cure
    assert "*" not in node.guest(100).blocked, "though nothing has changed"


def test_a_node_is_recognized(node: Node) -> None:
    found = QemuPlugin.mom_suggest(node.root)
    assert found is not None
    assert (found.reason, found.settings) == ("this is a node of Proxmox VE", {"sockets": ["/run/qemu-server/*.qmp"]})
    assert found.order < 21, "before libvirt, which a node may have besides"


class TestLaunches:
    """Guests before their start: Proxmox VE's hookscript sends their definitions."""

    def test_a_guest_starts_with_all_of_its_memory(self) -> None:
        assert ProxmoxLaunches().read(WEB, "100") == LaunchedGuest("web", 1 << 20, "7e1d3c1a-93a7-4d0c-a7f5-0d9f3a1b0c01")

    @pytest.mark.parametrize(
        ("text", "name", "mib"),
        [("name: a\n", "a", 512), ("memory: current=2048\n", "vm100", 2048), ("memory: 4096\n[PENDING]\nname: b\n", "vm100", 4096)],
    )
    def test_what_is_not_written_is_what_proxmox_makes_of_it(self, text: str, name: str, mib: int) -> None:
        assert ProxmoxLaunches().read(text, "100") == LaunchedGuest(name, mib << 10)

    @pytest.mark.parametrize(("text", "number"), [("memory: x\n", "100"), (WEB, ""), (WEB, "1/2"), ("<domain/>", "100")])
    def test_what_is_no_definition_is_none(self, text: str, number: str) -> None:
        assert ProxmoxLaunches().read(text, number) is None
