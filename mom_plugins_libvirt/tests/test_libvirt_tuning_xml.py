"""Limits in definitions of libvirt and oVirt, and in hostile ones."""

from xml.etree import ElementTree

import pytest

from mom_core import DiskTune
from mom_kvm import NodeTune
from mom_plugins_libvirt.domain_xml import Tuning, tuning_of

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
