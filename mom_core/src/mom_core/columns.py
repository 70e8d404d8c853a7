"""What is known of many guests by field, instead of by guest: of thousands, a field of all is checked, read and kept in a part of the time
that it takes to go from guest to guest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain

from mom_core.values import Value


class Columns(Mapping[str, Sequence[Value]]):
    """The fields of several guests by name: of each field a value for each guest, in the guests' order. None: unknown of that guest.

    Nothing changes it. May be read from several threads at once.

    :param columns: are copied
    :param unknown: by name, the places of guests of which the field was collected, and found to be unknown: a guest that has None elsewhere
        does not have the field at all
    """

    __slots__ = ("_columns", "_types", "_unknown")

    def __init__(self, columns: Mapping[str, Iterable[Value]], unknown: Mapping[str, Collection[int]] | None = None) -> None:
        self._types: dict[str, AbstractSet[type]] = {}
        self._columns: dict[str, Sequence[Value]] = {name: tuple(column) for name, column in columns.items()}
        if len(set(map(len, self.values()))) > 1:
            raise ValueError("columns are of different lengths: each has a value for each guest")
        self._unknown = {} if unknown is None else {name: places for name, places in unknown.items() if places}

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Value]]) -> Columns:
        """The fields of guests that are known guest by guest."""
        names = dict.fromkeys(chain.from_iterable(rows))
        columns = {name: tuple(fields.get(name) for fields in rows) for name in names}
        with_none = [name for name, column in columns.items() if None in column]
        return cls(columns, {name: {place for place, fields in enumerate(rows) if fields.get(name, 0) is None} for name in with_none})

    def __getitem__(self, name: str) -> Sequence[Value]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def unknown(self, name: str) -> Collection[int]:
        """The places of guests of which this field was collected, and found to be unknown."""
        return self._unknown.get(name, ())

    def absent(self, name: str) -> Sequence[int]:
        """The places of guests that do not have this field, in their order."""
        if _NONE not in self.types(name):
            return ()
        unknown = self.unknown(name)
        return [place for place, value in enumerate(self[name]) if value is None and place not in unknown]

    def types(self, name: str) -> AbstractSet[type]:
        """The types of the values of this field. Whoever needs to know asks here: the values are looked at for it only once."""
        types = self._types.get(name)
        if types is None:
            types = self._types[name] = frozenset(map(type, self[name]))
        return types

    def with_columns(self, more: Columns) -> Columns:
        """These columns and more of the same guests, which take the place of those of the same names."""
        unknown = {name: places for name, places in self._unknown.items() if name not in more} | more._unknown
        return Columns({**self._columns, **more._columns}, unknown)

    def rows(self) -> Sequence[GuestRow]:
        """The same guest by guest."""
        count = max(map(len, self.values()), default=0)
        return [GuestRow(self, place) for place in range(count)]


_NONE = type(None)


class GuestRow(Mapping[str, Value]):
    """The fields of one guest, as a view on the columns of all."""

    __slots__ = ("_columns", "_place")

    def __init__(self, columns: Columns, place: int) -> None:
        self._columns = columns
        self._place = place

    def __getitem__(self, name: str) -> Value:
        value = self._columns[name][self._place]
        if value is None and self._place not in self._columns.unknown(name):
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        columns, place = self._columns, self._place
        return (name for name in columns if columns[name][place] is not None or place in columns.unknown(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))
