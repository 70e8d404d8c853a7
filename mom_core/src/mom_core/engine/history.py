"""The older samples that policies can look back at. Those of many guests are packed until a plugin looks into them: few policies do, and as
they were read, ten samples of 1,000 guests are a quarter of all memory that mom holds."""

from __future__ import annotations

import marshal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from mom_core.model import Guest, Snapshot, with_fields

PACKED_FROM: Final = 100
"""Guests; what fewer of them take is not worth the work."""

_TOGETHER: Final = 50
"""Guests that are packed together, and unpacked when one of them is asked for."""

_WHOLE_FOR: Final = 50
"""So many samples stay as they are after a plugin has looked into one: a policy that averages does it in each cycle, and must not wait for
all of them to be unpacked each time. The next one is packed again, to see whether it still does."""

_Names = tuple[str, ...]


class _Packed(NamedTuple):
    """Some guests: as they were listed, the names of the fields of each, and the values of all, which take a tenth of the room."""

    listed: Sequence[Guest]
    names: Sequence[_Names]
    values: bytes

    def unpacked(self) -> Sequence[Guest]:
        """The guests as they were."""
        values = iter(marshal.loads(self.values))  # noqa: S302  # what `_packed` made, which has never left this process
        return [with_fields(one, dict(zip(names, values))) for one, names in zip(self.listed, self.names, strict=True)]  # noqa: B905  # each guest takes as many values as it has names


class _PackedGuests(Mapping[str, Guest]):
    """The guests of an older sample. May be read from several threads at once: each unpacks to the same."""

    def __init__(self, places: Mapping[str, int], parts: list[_Packed | Sequence[Guest]]) -> None:
        self._places = places
        self._parts = parts

    def __getitem__(self, identity: str) -> Guest:
        number, place = divmod(self._places[identity], _TOGETHER)
        part = self._parts[number]
        if isinstance(part, _Packed):
            part = self._parts[number] = part.unpacked()
        return part[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def was_read(self) -> bool:
        """Whether a plugin has looked at half of the guests."""
        return 2 * sum(not isinstance(part, _Packed) for part in self._parts) > len(self._parts)


class History:
    """The older samples, oldest first.

    :param kept: how many, at the most
    """

    def __init__(self, kept: int) -> None:
        self._samples: deque[Snapshot] = deque(maxlen=kept)
        self._names: dict[_Names, _Names] = {}
        self._listed: Sequence[Guest] = ()
        self._places: Mapping[str, int] = {}
        self._parts: list[_Packed | Sequence[Guest]] | None = None
        """Of the sample that is being taken; None if it is left as it is."""
        self._whole = 0
        """How many samples are left as they are from now on."""

    def samples(self) -> tuple[Snapshot, ...]:
        """All of them now."""
        return tuple(self._samples)

    def keep(self, kept: int) -> None:
        """Keep so many from now on."""
        self._samples = deque(self._samples, maxlen=kept)

    def begin(self, listed: Sequence[Guest]) -> None:
        """A sample of these guests is about to be taken.

        :param listed: the guests as the hypervisor listed them, in the order of the sample
        """
        if self._whole == 0 and any(isinstance(older.guests, _PackedGuests) and older.guests.was_read() for older in self._samples):
            self._whole = _WHOLE_FOR
        self._parts = None if self._whole or len(listed) < PACKED_FROM else []
        self._whole = max(0, self._whole - 1)
        if self._parts is not None and listed is not self._listed:
            self._listed, self._places = listed, {guest.id: place for place, guest in enumerate(listed)}
            self._names.clear()

    def pack(self, listed: Sequence[Guest], guests: Sequence[Guest]) -> None:
        """Pack the next guests of the sample, as many times fifty unless they are the last. While they are still in the processor's cache:
        later, it takes twice as long."""
        if self._parts is not None:
            for begin in range(0, len(guests), _TOGETHER):
                self._parts.append(self._packed(listed[begin : begin + _TOGETHER], guests[begin : begin + _TOGETHER]))

    def add(self, snapshot: Snapshot) -> None:
        """Take in the newest sample."""
        parts, self._parts = self._parts, None
        self._samples.append(snapshot if parts is None else replace(snapshot, guests=_PackedGuests(self._places, parts)))

    def _packed(self, listed: Sequence[Guest], guests: Sequence[Guest]) -> _Packed | Sequence[Guest]:
        values: list[object] = []
        names = []
        for guest in guests:
            fields = guest.fields
            of_this = tuple(fields)
            names.append(self._names.setdefault(of_this, of_this))  # nearly all guests have the same
            values += fields.values()
        try:
            return _Packed(listed, names, marshal.dumps(values, 2))
        except ValueError:  # what a plugin has collected is more than plain Python values
            return guests
