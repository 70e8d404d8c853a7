"""What a mom keeps of guests' days at rest: two kinds of files, and beside each the one that `mom forecast learn` leaves for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from mom_core import MomError, StateFile
from mom_plugins_record.forecast import past, state
from mom_plugins_record.forecast.host_days import HostDays
from mom_plugins_record.forecast.past import HostPast
from mom_plugins_record.forecast.slots import Calendar


class Learned(Protocol):
    """What every kind has: how time was divided when it was learned."""

    calendar: Calendar


Content = TypeVar("Content", bound=Learned)


@dataclass(frozen=True, slots=True)
class KeptKind(Generic[Content]):
    """One kind of file.

    :param file: its name, in the plugin's folder of state
    :param learned: the name of the file beside it with what `mom forecast learn` has learned
    :param what: what it is, for messages
    :param loss: what it means that it is lost
    :param form: makes the content of what JSON gave, as `StateFile` has it
    :param part: the part of a host's days that is kept in it
    :param head: all of that but the guests
    :param guest: what is kept of the guest with this id; None: nothing
    :param merge: takes in what was learned elsewhere; gives of how many guests that was
    :param nothing: that there is none yet, for messages
    :param hint: what to do about that
    """

    file: str
    learned: str
    what: str
    loss: str
    form: Callable[[Any], Content]
    part: Callable[[HostDays], Content]
    head: Callable[[Content], Mapping[str, Any]]
    guest: Callable[[Content, str], Sequence[Any] | None]
    merge: Callable[[Content, Content], int]
    nothing: str
    hint: str

    def guest_text(self, content: Content, identity: str) -> str:
        """What is kept of a guest, as it stands in the file; empty: nothing. Raises `OSError` if that cannot be JSON."""
        kept = self.guest(content, identity)
        return "" if kept is None else StateFile.as_json(kept)

    def head_text(self, content: Content) -> str:
        """Return all but the guests, in the same way."""
        return StateFile.as_json(self.head(content))

    @staticmethod
    def text(head: str, guests: Iterable[str]) -> str:
        """Return the whole, of these texts."""
        return f'{head[:-1]},"guests":[{",".join(filter(None, guests))}]}}'

    def leave(self, folder: Path, days: HostDays) -> None:
        """Leave what was learned for the mom that keeps its own in this folder, with what was left before. Raises `MomError`."""
        file = StateFile(folder / self.learned, self.what, self.form, loss=self.loss, sets_aside=False)
        content, before = self.part(days), file.look()
        if before is not None and before.calendar.same_as(content.calendar):
            self.merge(content, before)
        texts = [self.guest_text(content, identity) for identity in days.to_keep()]
        file.write_json(lambda: self.text(self.head_text(content), texts))

    def at_rest(self, path: Path, calendar: Calendar | None = None) -> Content:
        """What this file holds; or, of a folder, what a mom keeps there, with what was learned for it. For verbs.

        :param calendar: leave out what was learned by another one; None: of a folder, what is not of the first one's
        :raises MomError: there is nothing, a file is damaged, or cannot be read
        """
        result: Content | None = None
        for file in (path / self.file, path / self.learned) if is_folder(path) else (path,):
            content = StateFile(file, self.what, self.form, loss=self.loss, sets_aside=False).look()
            if content is None or (calendar is not None and not content.calendar.same_as(calendar)):
                continue
            if result is None:
                result, calendar = content, content.calendar
            else:
                self.merge(result, content)
        if result is None:
            raise MomError(f"{self.nothing} in {path} yet", hint=self.hint)
        return result


def is_folder(path: Path) -> bool:
    """Return True if it is one. Where this user may not look, whoever reads it says so."""
    with suppress(OSError):
        return path.is_dir()
    return False


def _guest_of_days(days: HostDays, identity: str) -> Sequence[Any] | None:
    guest = days.known.get(identity)
    return None if guest is None or not guest.days.slots else state.kept_guest(guest)


DAYS: Final[KeptKind[HostDays]] = KeptKind(
    file=state.FILE,
    learned=state.LEARNED,
    what="the file of guests' days",
    loss="guests' days are learned anew",
    form=state.days_from,
    part=lambda days: days,
    head=state.head_of,
    guest=_guest_of_days,
    merge=HostDays.merge,
    nothing="there are no guests' days",
    hint="a mom with the plugin forecast writes them each hour; `mom forecast learn RECORDING` learns from what was recorded",
)

PAST: Final[KeptKind[HostPast]] = KeptKind(
    file=past.FILE,
    learned=past.LEARNED,
    what="the file of guests' past days",
    loss="how much can be sold at which risk is known again after two weeks",
    form=past.past_from,
    part=lambda days: days.past,
    head=HostPast.head,
    guest=HostPast.kept,
    merge=HostPast.merge,
    nothing="there are no past days of guests",
    hint="a mom with the plugin forecast writes them each hour, and knows enough after two weeks; `mom forecast learn RECORDING` learns "
    "them from what was recorded",
)

KINDS: Final[Sequence[KeptKind[Any]]] = (DAYS, PAST)
"""Both, in the order in which they are written."""
