"""Values as text: amounts, times, JSON and YAML."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Status, Value
from mom_core.config.document import read_document
from mom_daemon import amount, json_text, moment
from mom_daemon.config.setting_texts import yaml_value

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_what_is_written_is_read_as_it_was_and_is_one_line(value: object) -> None:
    text = json_text(value)
    assert b"\n" not in text
    assert json.loads(text) == value


@given(st.text(st.characters(exclude_categories=[])))
def test_half_a_character_gets_through(name: str) -> None:
    assert json.loads(json_text({"name": name})) == {"name": name}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_cannot_write_is_unknown(number: float) -> None:
    assert json.loads(json_text({"a": [number]})) == {"a": [None]}


def test_mappings_sequences_and_names_of_choices_are_written_as_plain_ones() -> None:
    value = {Status.APPLIED: MappingProxyType({"a": range(2)}), "status": Status.GONE, "pair": (1, 2)}
    assert json.loads(json_text(value)) == {"applied": {"a": [0, 1]}, "status": "gone", "pair": [1, 2]}


@pytest.mark.parametrize(
    "text",
    ["web-1", "0xbeef", "0X1F", "0b11", "0o17", "017", "12", "1e5", "1_000", "12:30", "2026-11-28", "yes", "null", "a: b", "a #b", ""],
)
def test_a_text_is_read_as_the_text_that_was_written(tmp_path: Path, text: str) -> None:
    """This includes guests' names that look like numbers."""
    (tmp_path / "a.yaml").write_text(f"guests:\n  {yaml_value(text)}: {yaml_value(text)}\n")
    assert read_document(tmp_path / "a.yaml").value == {"guests": {text: text}}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (
            [{"name": "vda", "path": "/a", "total_bytes_sec": 5, "read_bytes_sec": 0, "total_iops_sec": 7}],
            "vda: total_bytes_sec 5, total_iops_sec 7",
        ),
        ([{"name": "vnet0", "inbound": {"average": 5}, "outbound": {}}, {"name": "vnet1"}], "vnet0: inbound average 5; vnet1: none"),
        ([], "nothing"),
        (None, "unknown"),
    ],
)
def test_lists_are_shown_as_people_would_say_them(value: Value, shown: str) -> None:
    assert amount(value, "list") == shown


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "5 ago", "2026-13-01", "-5m ago", "99999999999d ago"])
def test_an_invalid_time_is_misuse(text: str) -> None:
    with pytest.raises(click.UsageError, match="is not a time; write it as"):
        moment(text, "--at", 0.0)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("5m ago", 300),
        ("09:30", 1800),
        ("9:30:30", 1770),
        ("10:32", 86400 - 1920),
        ("2026-11-20T09:00", 3600),
        ("2026-11-20T09:00+01:00", 7200),
    ],
)
def test_times_are_in_utc_and_a_time_of_day_is_the_last_one(text: str, ago: int) -> None:
    now = datetime(2026, 11, 20, 10, 0, tzinfo=UTC).timestamp()
    assert moment(text, "--at", 0.0, now) == now - ago
