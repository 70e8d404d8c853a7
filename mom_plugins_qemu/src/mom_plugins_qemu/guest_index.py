"""Assignment of monitors to guests, also without a UUID or with duplicate UUIDs."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mom_core import printable
from mom_plugins_qemu.guest_files import FileDefinition
from mom_plugins_qemu.monitored_guest import MonitoredGuest
from mom_plugins_qemu.states import COMING, MOVED_AWAY
from mom_plugins_qemu.visits import Failure


class GuestIndex(NamedTuple):
    """Guests by id. `duplicates` maps the path of a monitor that claims another guest's id to the reason."""

    guests: dict[str, MonitoredGuest]
    duplicates: Mapping[str, str]


def index_guests(guests: Collection[MonitoredGuest]) -> GuestIndex:
    """Choose one monitor for each guest, and name the guests.

    If two processes claim an id, the process started with this id wins. A guest that migrated away, or is waiting for its migration, loses.
    """
    by_id: dict[str, MonitoredGuest] = {}
    duplicates: dict[str, str] = {}
    for guest in sorted(guests, key=_precedence):
        if not guest.id:
            continue
        guest.name = (guest.defined.guest.name if guest.defined is not None else "") or guest.own_name or guest.id
        first = by_id.setdefault(guest.id, guest)
        if first.process != guest.process:
            duplicates[guest.path] = f"it claims to be guest {printable(first.name)}, whose monitor is {first.path}"
        elif first is not guest:
            guest.proxmox = guest.proxmox or first.proxmox
            first.proxmox = first.proxmox or guest.proxmox
            if first.failure and not guest.failure:
                by_id[guest.id] = guest
    return GuestIndex(by_id, duplicates)


def _precedence(guest: MonitoredGuest) -> tuple[bool, bool, bool]:
    return guest.id != guest.identity.uuid, guest.status == MOVED_AWAY, guest.status == COMING


def id_by_process(guest: MonitoredGuest, guests: Iterable[MonitoredGuest]) -> str:
    """Return the id of a guest without a UUID, the same for all monitors of its process."""
    same = [guest, *(other for other in guests if (other.process, other.started) == (guest.process, guest.started))]
    confirmed = next((other.id for other in same if other.id and not other.guessed), "")
    return confirmed or str(uuids.uuid5(uuids.NAMESPACE_URL, f"qmp:{min(other.path for other in same)}"))


def guess_ids(guests: Collection[MonitoredGuest]) -> None:
    """Assign ids to guests whose monitors have not answered since mom's start: mom needs ids to restore the guests' sizes."""
    for guest in guests:
        silent = guest.failure in {Failure.OCCUPIED, Failure.LATE}
        if guest.guessed or (not guest.id and silent and guest.identity.monitored):
            guest.id, guest.guessed = id_by_process(guest, guests), True
            guest.own_name = guest.identity.name or Path(guest.path).stem


def assign_definitions(guests: Collection[MonitoredGuest], files: Mapping[str, FileDefinition], undefined: FileDefinition | None) -> None:
    """Give each guest its operator's definition, from any of its monitors.

    :param undefined: definition for guests without a file
    """
    by_guest: dict[tuple[int, str], FileDefinition] = {}
    for guest in guests:
        if guest.id and guest.path in files:
            defined, key = files[guest.path], (guest.process, guest.id)
            first = by_guest.setdefault(key, defined)
            if first is not defined:
                wrong = f"two files define the guest, with the monitors {first.guest.monitor} and {defined.guest.monitor}"
                by_guest[key] = first._replace(wrong=first.wrong or printable(wrong, 300))
    for guest in guests:
        guest.defined = by_guest.get((guest.process, guest.id), files.get(guest.path, undefined))
