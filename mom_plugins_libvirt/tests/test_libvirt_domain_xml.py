"""What a guest's description says."""

import pytest

from mom_plugins_libvirt.domain_xml import DomainDescription, described


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


@pytest.mark.parametrize(
    ("inside", "vcpus"),
    [("<vcpu>4</vcpu>", 4), ("<vcpu placement='static' current='2'>4</vcpu>", 2), ("<vcpu current='x'>4</vcpu>", 0), ("", 0)],
)
def test_the_vcpus_that_are_online_are_counted(inside: str, vcpus: int) -> None:
    found = described(f"<domain>{inside}</domain>")
    assert found is not None
    assert found.vcpus == vcpus


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


def test_virtio_mem_counts_by_what_it_has_plugged_in() -> None:
    device = "<memory model='virtio-mem'><target><size unit='MiB'>256</size><requested/><current unit='KiB'>{}</current></target></memory>"
    dimm = "<memory model='dimm'><target><size unit='KiB'>1024</size></target></memory>"
    found = described(f"<domain><devices>{device.format(65536)}{dimm}{device.format(0)}</devices></domain>")
    assert found is not None
    assert (found.resizable_kib, found.plugged_kib, found.not_had_kib) == (512 << 10, 64 << 10, 448 << 10)


@pytest.mark.parametrize(
    ("model", "inside", "kib"),
    [("dimm", "<node>0</node>", 0), ("nvdimm", "<label><size unit='KiB'>128</size></label>", 4096), ("of a later libvirt", "", 0)],
)
def test_memory_devices_that_are_no_ram_are_not_the_guests_memory(model: str, inside: str, kib: int) -> None:
    device = f"<memory model='{model}'><source><path>/tmp/n</path></source><target><size unit='MiB'>4</size>{inside}</target></memory>"
    found = described(f"<domain><devices>{device}</devices></domain>")
    assert found is not None
    assert (found.no_ram_kib, found.not_had_kib) == (kib, kib)


@pytest.mark.parametrize("number", ["", "-1", "x", "1e3", "9" * 30, "²", "99999999999999999999", " "])
def test_sizes_that_are_none_count_nothing(number: str) -> None:
    device = f"<memory model='virtio-mem'><target><size>{number}</size><current unit='furlong'>7</current></target></memory>"
    found = described(f"<domain><devices>{device}<memory model='virtio-mem'/></devices></domain>")
    assert found is not None
    assert (found.resizable_kib, found.plugged_kib) == (0, 0)


def test_entities_and_what_is_no_xml_are_refused() -> None:
    bombs = "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10))
    bomb = f"<!DOCTYPE domain [<!ENTITY a0 'ha'>{bombs}]><domain><metadata>&a9;</metadata><devices/></domain>"
    assert described(bomb) is None
    assert described("<domain>") is None
    assert described("<!DOCTYPE domain SYSTEM 'file:///etc/passwd'><domain><devices/></domain>") is None
    harmless = "<metadata><![CDATA[<!DOCTYPE domain [<!ENTITY a 'b'>]>]]><!-- <!DOCTYPE x> --></metadata>"
    assert described(f"<domain>{harmless}</domain>") is not None


def test_large_metadata_is_read_over_and_what_libvirt_cannot_send_is_refused() -> None:
    deep = "<a>" * 50_000 + "</a>" * 50_000
    balloon = "<devices><memballoon model='virtio'/></devices>"
    assert described(f"<domain><metadata>{deep}{'x' * (1 << 20)}</metadata>{balloon}</domain>") == DomainDescription("virtio", 0)
    assert described(f"<domain><metadata>{'x' * (9 << 20)}</metadata>{balloon}</domain>") is None


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


@pytest.mark.parametrize(
    ("requested", "current", "left"),
    [("262144", "262144", 0), ("262144", "131072", 131072), ("0", "131072", 131072), ("", "131072", 0), ("many", "131072", 0)],
)
def test_what_is_still_to_be_plugged_is_found(requested: str, current: str, left: int) -> None:
    target = f"<target><size>524288</size><requested>{requested}</requested><current>{current}</current></target>"
    found = described(f"<domain><devices><memory model='virtio-mem'>{target}</memory></devices></domain>")
    assert found is not None
    assert found.plugging_kib == left
