"""What flows through a cycle."""

from __future__ import annotations

import dataclasses

import pytest

from mom_core import Guest
from mom_core.model import with_fields


def test_a_guest_of_a_snapshot_is_the_listed_one_with_fields_and_as_frozen() -> None:
    listed = Guest("u1", "db", properties={"pid": 7}, blocked={"*": "paused"}, incarnation="2")
    made = with_fields(listed, {"rss": 5})
    assert made == dataclasses.replace(listed, fields={"rss": 5})
    assert made.number("rss") == 5
    assert repr(made) == repr(dataclasses.replace(listed, fields={"rss": 5}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "other"  # type: ignore[misc]  # that is what is refused
