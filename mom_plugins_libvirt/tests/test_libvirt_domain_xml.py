"""Parsing guests' definitions."""

from xml.etree import ElementTree

import pytest

from mom_core import DiskTune
from mom_kvm import NodeTune
from mom_plugins_libvirt.domain_xml import DomainDescription, Tuning, described, tuning_of


@pytest.mark.parametrize(
    ("devices", "wanted"),
    [
        ("<memballoon model='virtio'><stats period='5'/></memballoon>", DomainDescription("virtio", 5)),
        (
            "<memballoon model='virtio' autodeflate='on'><alias name='balloon0'/></memballoon>",
            DomainDescription("virtio", 0, autodeflate=True),
        ),
        ("<memballoon model='virtio' autodeflate='off' freePageReporting='on'/>", DomainDescription("virtio", 0, reports_free_pages=True)),
        ("<memballoon model='none'/>", DomainDescription("", 0)),
        ("", DomainDescription("", 0)),
        ("<memballoon model='virtio'><stats period='-1'/></memballoon>", DomainDescription("virtio", 0)),
        ("<memballoon model='virtio'><stats period='99999999999999999999'/></memballoon>", DomainDescription("virtio", 0)),
    ],
)
def test_the_balloon_device_and_the_statistics_period_are_found(devices: str, wanted: DomainDescription) -> None:
    name = "<name>&lt;memballoon model='none'/&gt;</name>"
    assert described(f"<domain type='kvm' id='3'>{name}<devices><disk/>{devices}</devices></domain>") == wanted


LOCKED = "the guest's memory is locked: the host cannot reclaim it"


@pytest.mark.parametrize(
    ("inside", "devices", "reason"),
    [
        ("", "", ""),
        ("<memoryBacking><locked/></memoryBacking>", "", LOCKED),
        ("<memoryBacking><hugepages/></memoryBacking>", "", "huge pages"),
        ("<memoryBacking><hugepages><page size='2048' unit='KiB' nodeset='0'/></hugepages></memoryBacking>", "", "huge pages"),
        ("<launchSecurity type='sev'/>", "", "confidential (sev)"),
        ("", "<hostdev mode='subsystem' type='pci' managed='yes'/>", "a host device (pci) pins"),
        ("", "<hostdev mode='subsystem' type='mdev' model='vfio-pci'/>", "a host device (mdev) pins"),
        ("", "<hostdev mode='subsystem' type='mdev' model='vfio-ap'/>", ""),
        ("", "<hostdev mode='subsystem' type='usb'/><hostdev mode='subsystem' type='scsi'/>", ""),
        ("", "<interface type='hostdev'/>", "a network interface (hostdev) pins"),
        ("", "<disk type='nvme'/>", "a disk (nvme) pins"),
        ("<metadata><memoryBacking><locked/></memoryBacking></metadata>", "", ""),
    ],
)
def test_memory_that_cannot_be_reclaimed_is_told_with_the_reason(inside: str, devices: str, reason: str) -> None:
    found = described(f"<domain>{inside}<devices><memballoon model='virtio'/>{devices}</devices></domain>")
    assert found is not None
    assert (reason in found.pinned) if reason else not found.pinned


@pytest.mark.parametrize(
    ("model", "inside", "kib"),
    [("dimm", "<node>0</node>", 0), ("nvdimm", "<label><size unit='KiB'>128</size></label>", 4096), ("of a later libvirt", "", 0)],
)
def test_memory_devices_that_are_no_ram_are_not_the_guests_memory(model: str, inside: str, kib: int) -> None:
    device = f"<memory model='{model}'><source><path>/tmp/n</path></source><target><size unit='MiB'>4</size>{inside}</target></memory>"
    found = described(f"<domain><devices>{device}</devices></domain>")
    assert found is not None
    assert (found.no_ram_kib, found.not_had_kib) == (kib, kib)


def test_entities_and_what_is_no_xml_are_refused() -> None:
    bombs = "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10))
    bomb = f"<!DOCTYPE domain [<!ENTITY a0 'ha'>{bombs}]><domain><metadata>&a9;</metadata><devices/></domain>"
    assert described(bomb) is None
    assert described("<domain>") is None
    assert described("<!DOCTYPE domain SYSTEM 'file:///etc/passwd'><domain><devices/></domain>") is None
    harmless = "<metadata><![CDATA[<!DOCTYPE domain [<!ENTITY a 'b'>]>]]><!-- <!DOCTYPE x> --></metadata>"
    assert described(f"<domain>{harmless}</domain>") is not None


PROMISE = '<metadata><x:guest xmlns:x="urn:mom:guest:1.0" {}/></metadata>'


@pytest.mark.parametrize(
    ("metadata", "promises"),
    [
        ("", {}),
        ("<metadata><guest class='gold'/></metadata>", {}),
        (PROMISE.replace("1.0", "9.0").format("class='gold'"), {}),
        (PROMISE.format("class='gold' guarantee='75%' colour='red'"), {"sla_class": "gold", "mem_guarantee": "75%"}),
        (PROMISE.format("guarantee=''"), {"mem_guarantee": ""}),
        (PROMISE.format(f"class='{'x' * 999}'"), {"sla_class": "x" * 100}),
    ],
)
def test_what_the_metadata_promises_is_told_as_it_is_written(metadata: str, promises: dict[str, str]) -> None:
    found = described(f"<domain>{metadata}<devices><memballoon model='virtio'/></devices></domain>")
    assert found is not None
    assert found.properties == promises


# --- limits ----------------------------------------------------------------------------------------------------

NONE = dict.fromkeys(DiskTune.LIMITS, 0)
QOS = """<metadata><ovirt-tune:qos xmlns:ovirt-tune="http://ovirt.org/vm/tune/1.0">{}</ovirt-tune:qos></metadata>"""


def tuned(text: str) -> Tuning:
    return tuning_of(ElementTree.fromstring(f"<domain>{text}</domain>"))  # noqa: S314  # a text of this file


@pytest.mark.parametrize(
    ("limit", "percent"),
    [
        ("50", 50.0),
        (" 12.5 ", 12.5),
        ("12.500000000000000000", 12.5),
        *((wrong, None) for wrong in ("0", "-3", "nan", "inf", "much", "", "9" * 400)),
    ],
)
def test_the_agreed_limit_of_cpu_time_is_a_number_or_unknown(limit: str, percent: float | None) -> None:
    assert tuned(QOS.format(f"<ovirt-tune:vcpuLimit>{limit}</ovirt-tune:vcpuLimit>")).user_limit_percent == percent


def test_disks_come_with_their_limits_and_what_was_agreed_by_path_or_by_name() -> None:
    io = """<ovirt-tune:ioTune>
      <ovirt-tune:device name="vdx" path="/a.img"><ovirt-tune:maximum><ovirt-tune:total_bytes_sec>5000</ovirt-tune:total_bytes_sec>
        <ovirt-tune:read_iops_sec>x</ovirt-tune:read_iops_sec></ovirt-tune:maximum></ovirt-tune:device>
      <ovirt-tune:device name="vdn" path="/n"><ovirt-tune:maximum><ovirt-tune:total_iops_sec>8</ovirt-tune:total_iops_sec>
      </ovirt-tune:maximum></ovirt-tune:device>
      <ovirt-tune:device name="vdb"><ovirt-tune:guaranteed><ovirt-tune:total_iops_sec>7</ovirt-tune:total_iops_sec></ovirt-tune:guaranteed>
      </ovirt-tune:device></ovirt-tune:ioTune>"""
    devices = f"""<devices>
      <disk type='file' device='disk'><source file='/a.img'/><target dev='vda'/><iotune><write_bytes_sec>9</write_bytes_sec></iotune></disk>
      <disk type='network'><source protocol='rbd' name='pool/image'/><target dev='vdb'/></disk>
      <disk type='block'><source dev='/dev/c'/><target dev='vdx'/></disk>
      <disk type='nvme'><source type='pci'/><target dev='vdn'/></disk>
      <disk type='file' device='cdrom'><target dev='hdc'/></disk>
      <disk type='file' device='cdrom'><source file='/i.iso'/><target dev='hdd'/>
        <iotune><read_iops_sec>{"9" * 19}</read_iops_sec></iotune></disk>
      <disk type='file' device='disk'><target dev='vdq'/></disk>
      <disk type='file'/></devices>"""
    assert tuned(QOS.format(io) + devices).disks == (
        DiskTune("vda", "/a.img", {**NONE, "write_bytes_sec": 9}, {"total_bytes_sec": 5000}, None),
        DiskTune("vdb", "pool/image", NONE, None, {"total_iops_sec": 7}),
        DiskTune("vdx", "/dev/c", NONE),  # same name, but another path
        DiskTune("vdn", "", NONE, {"total_iops_sec": 8}),  # without a path, the name identifies it
        DiskTune("hdd", "/i.iso", NONE),
        DiskTune("vdq", "", NONE),
    )


def test_nodes_come_with_their_mode() -> None:
    assert tuned("<numatune><memory mode='interleave' nodeset='0,2-3'/></numatune>").nodes == NodeTune("interleave", frozenset({0, 2, 3}))
    assert tuned("").nodes == NodeTune("strict", frozenset())
    assert tuned("<numatune><memory mode='strict' nodeset='some'/></numatune>").nodes == NodeTune("strict", frozenset())
