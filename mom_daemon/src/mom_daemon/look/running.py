"""Queries to the running mom, and lookup of guests."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Protocol

from mom_core import Condition, Guest, MomError, first_names, printable

if TYPE_CHECKING:
    from mom_daemon.report_models import ReportDocument
    from mom_kvm import PolicyText


class NoSuchGuest(MomError):
    """No guest, or more than one, has this name or id. The hint lists similar names."""


class NotRunning(MomError):
    """No mom is running."""


class RunningMom(Protocol):
    """Connection to the running mom. Each call raises `MomError` if mom does not answer, and `NotRunning` if no mom is running."""

    @property
    def where(self) -> str:
        """Return the connection's name in messages, such as the socket's path."""

    def report(self) -> ReportDocument:
        """Return the newest cycle in the status file's form."""

    def explanation(self, guest: str) -> Mapping[str, Any]:
        """Return the explanation of the guest with this id or name."""

    def configuration(self) -> Mapping[str, Any]:
        """Return the settings in force, with secrets masked."""

    def policies(self) -> Mapping[str, PolicyText]:
        """Return the policies in force, keyed by name."""


_COMPARED_NAMES: Final = 2000


def find_guest(guests: Mapping[str, Guest], wanted: str, unknown: Condition | None = None) -> Guest:
    """Return the guest with this id or name.

    :raises NoSuchGuest: no guest, or more than one, has this name
    :raises MomError: mom does not know its guests, for the reason in `unknown`
    """
    if unknown is not None:
        raise MomError(unknown.message, hint=unknown.cure)
    named = [guest for guest in guests.values() if guest.name == wanted]
    found = guests.get(wanted) or (named[0] if len(named) == 1 else None)
    if found is not None:
        return found
    if named:
        hint = f"specify the guest by its ID: {first_names([guest.id for guest in named])}"
        raise NoSuchGuest(f"{len(named)} guests are called {printable(wanted)}", hint=hint)
    names = [guest.name for guest in guests.values()]
    alike = [name for name in names if wanted and wanted.lower() in name.lower()][:3]
    alike = alike or get_close_matches(wanted[:100], names[:_COMPARED_NAMES], 3, 0.6)
    hint = f"did you mean {' or '.join(map(printable, alike))}?" if alike else "`mom guests` lists all guests"
    raise NoSuchGuest(f"there is no guest {printable(wanted)}", hint=hint)
