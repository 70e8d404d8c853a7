"""Monitors and processes of a guest when several claim its ID, and the states in which mom may change it."""

from typing import Any

import pytest

from mom_plugins_qemu.monitored_guest import MonitoredGuest, index_guests
from mom_plugins_qemu.qemu_process import Identity

UUID = "0aa55aa5-0000-4000-8000-000000000001"


def guest(path: str, process: int, *, started_as: str = "", **more: Any) -> MonitoredGuest:
    identity = Identity(uuid=started_as)
    return MonitoredGuest(id=UUID, start=path, since=0.0, path=path, process=process, started=1, identity=identity, own_name=path, **more)


def test_a_uuid_belongs_to_the_guest_that_was_started_with_it_whoever_claims_it_first() -> None:
    liar, web = guest("liar", 1), guest("web", 2, started_as=UUID)
    guests, duplicates = index_guests([liar, web])
    assert guests == {UUID: web}
    assert duplicates == {"liar": "it claims to be guest web, whose monitor is web"}


def test_of_two_processes_with_one_uuid_the_older_guest_stays() -> None:
    first, second = guest("first", 1, failure="its monitor is used"), guest("second", 2)
    assert index_guests([first, second]) == ({UUID: first}, {"second": "it claims to be guest first, whose monitor is first"})


@pytest.mark.parametrize(
    ("old", "new", "runs"), [("running", "inmigrate", "old"), ("postmigrate", "running", "new"), ("postmigrate", "inmigrate", "new")]
)
@pytest.mark.parametrize("new_first", [False, True])
def test_during_a_migration_within_the_host_the_guest_is_the_one_that_runs(old: str, new: str, runs: str, new_first: bool) -> None:
    both = [guest("old", 1, status=old), guest("new", 2, status=new)]
    guests, _ = index_guests(both[::-1] if new_first else both)
    assert [known.path for known in guests.values()] == [runs]


@pytest.mark.parametrize("status", ["inmigrate", "postmigrate", "finish-migrate", "save-vm", "shutdown", "internal-error", "new in QEMU"])
def test_what_is_done_for_a_paused_guest_is_done_for_none_that_is_to_be_left_alone(status: str) -> None:
    assert guest("web", 7, status="paused").obstacle(while_paused=True) == ""
    assert guest("web", 7, status="paused").obstacle() == "the guest is paused"
    assert guest("web", 7, status="paused", migration="active").obstacle(while_paused=True) == "the guest is being migrated"
    assert guest("web", 7, status=status).obstacle(while_paused=True)
