"""Hypervisors have all methods of the capabilities that plugins test."""

import pytest

from mom_core import BalloonControl
from mom_devkit import FakeHypervisor
from mom_plugins_guestagent import AgentAccess
from mom_plugins_host import ColdMemoryControl, CpuPinControl, CpuTuneControl, GrowthControl, IoTuneControl, NetTuneControl, NodeTuneControl
from mom_plugins_ksm import KsmControl, KsmWriter
from mom_plugins_kubevirt.hypervisor import KubevirtHypervisor
from mom_plugins_libvirt import LibvirtHypervisor
from mom_plugins_qemu.hypervisor import QemuHypervisor
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sla import LifecycleControl, MigrationControl
from mom_plugins_vdsm.hypervisor import VdsmHypervisor

TUNES = {CpuTuneControl, IoTuneControl, NetTuneControl, CpuPinControl, NodeTuneControl}


@pytest.mark.parametrize(
    ("hypervisor", "capabilities"),
    [
        (FakeHypervisor, {BalloonControl, *TUNES}),
        (KubevirtHypervisor, {BalloonControl, AgentAccess}),
        (LibvirtHypervisor, {BalloonControl, AgentAccess, LifecycleControl, MigrationControl, *TUNES}),
        (QemuHypervisor, {BalloonControl, AgentAccess, IoTuneControl, LifecycleControl}),
        (SimHypervisor, {BalloonControl, ColdMemoryControl, GrowthControl, KsmControl, KsmWriter, LifecycleControl, MigrationControl}),
        (VdsmHypervisor, {BalloonControl, CpuTuneControl, IoTuneControl, KsmWriter}),
    ],
)
def test_a_hypervisor_has_all_methods_of_its_capabilities(hypervisor: type, capabilities: set[type]) -> None:
    known = {
        AgentAccess,
        BalloonControl,
        ColdMemoryControl,
        GrowthControl,
        KsmControl,
        KsmWriter,
        LifecycleControl,
        MigrationControl,
        *TUNES,
    }
    methods = {kind: {name for name in vars(kind) if name.islower() and not name.startswith("_")} for kind in known}
    assert {kind for kind, names in methods.items() if names <= set(dir(hypervisor))} == capabilities
