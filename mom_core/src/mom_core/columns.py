"""Field values in columns: fast with thousands of guests."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain

from mom_core.values import Value


class Columns(Mapping[str, Sequence[Value]]):
    """One value per guest for each field name, in the order of the guests. Immutable and thread-safe.

    :param unknown: for each field name, indices of guests whose collector reported None. For other guests, None means no report
    """

    __slots__ = ("_columns", "_types", "_unknown")

    def __init__(self, columns: Mapping[str, Iterable[Value]], unknown: Mapping[str, Collection[int]] | None = None) -> None:
        self._types: dict[str, AbstractSet[type]] = {}
        self._columns: dict[str, Sequence[Value]] = {name: tuple(column) for name, column in columns.items()}
        if len(set(map(len, self.values()))) > 1:
            raise ValueError("columns differ in length: each needs a value for each guest")
        self._unknown = {} if unknown is None else {name: places for name, places in unknown.items() if places}

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, Value]]) -> Columns:
        """Build columns from each guest's mapping of field names to values."""
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
        """Return the indices of guests whose collector reported the field as unknown."""
        return self._unknown.get(name, ())

    def types(self, name: str) -> AbstractSet[type]:
        """Return the types of a field's values."""
        types = self._types.get(name)
        if types is None:
            types = self._types[name] = frozenset(map(type, self[name]))
        return types

    def with_columns(self, more: Columns) -> Columns:
        """Return a copy with columns added or replaced."""
        unknown = {name: places for name, places in self._unknown.items() if name not in more} | more._unknown
        return Columns({**self._columns, **more._columns}, unknown)

    def rows(self) -> Sequence[GuestRow]:
        """Return a view for each guest."""
        count = max(map(len, self.values()), default=0)
        return [GuestRow(self, place) for place in range(count)]


class GuestRow(Mapping[str, Value]):
    """View of one guest's fields."""

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
