"""`mom doctor` about a hypervisor with its own swap."""

from pathlib import Path

from offload_hosts import MovingHypervisor

from mom_kvm import Hierarchies, SwapStore
from mom_plugins_host.offload.stores import findings


def test_no_command_for_this_host_is_advised_where_the_hypervisor_has_swap_of_its_own(tmp_path: Path) -> None:
    disk = SwapStore("/dev/sim1", SwapStore.Kind.DISK, 8 << 20, 8 << 20)
    for stores in ([disk], []):
        (found,) = findings(tmp_path, Hierarchies(tmp_path), MovingHypervisor([], stores))
        assert found.cure == ""
