"""Possible controls of a guest in each of QEMU's states."""

from typing import Any

import pytest

from mom_plugins_qemu.monitored_guest import MonitoredGuest
from mom_plugins_qemu.qemu_process import Identity


def guest(**more: Any) -> MonitoredGuest:
    return MonitoredGuest(start="1", since=0.0, path="/run/web.qmp", process=7, started=1, identity=Identity(), **more)


@pytest.mark.parametrize("status", ["inmigrate", "postmigrate", "finish-migrate", "save-vm", "shutdown", "internal-error", "new in QEMU"])
def test_what_is_done_for_a_paused_guest_is_done_for_none_that_is_to_be_left_alone(status: str) -> None:
    assert guest(status="paused").obstacle(while_paused=True) == ""
    assert guest(status="paused").obstacle() == "the guest is paused"
    assert guest(status="paused", migration="active").obstacle(while_paused=True) == "the guest is being migrated"
    assert guest(status=status).obstacle(while_paused=True)
