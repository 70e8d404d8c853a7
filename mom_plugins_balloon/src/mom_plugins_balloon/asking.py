"""Asks one guest for one size, with everything that can go wrong as a status and a reason."""

from __future__ import annotations

from mom_core import BalloonControl, Entity, GuestGone, HypervisorError, NotSupported, Status


def ask(hypervisor: BalloonControl, guest: Entity, target_kib: int) -> tuple[Status, str]:
    """Ask the guest to go to `target_kib`: what came of it, and why if it went wrong."""
    try:
        hypervisor.set_balloon(guest, target_kib)
    except GuestGone as error:
        return Status.GONE, str(error)
    except NotSupported as error:
        return Status.REFUSED, str(error)
    except HypervisorError as error:
        return Status.FAILED, str(error)
    except Exception as error:  # noqa: BLE001  # containment: whatever one guest provokes, the others still get their memory
        return Status.FAILED, f"{type(error).__name__}: {error}"
    return Status.APPLIED, ""
