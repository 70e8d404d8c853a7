"""What `mom status` says of KSM."""

import pytest

from mom_core import Report, Value
from mom_core.testing import snapshot
from mom_plugins_ksm.overview import ksm_parts


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, []),
        ({"ksm_run": 1, "ksm_pages_sharing": 12345}, ["KSM on, 12,345 pages shared"]),
        ({"ksm_run": 0, "ksm_pages_sharing": None}, ["KSM off"]),
        ({"ksm_run": 2}, ["KSM off"]),
        ({"ksm_run": 1, "ksm_reason": "look", "ksm_suggested_run": 1}, ["KSM on: it scans for new equal pages"]),
        ({"ksm_run": 1, "ksm_reason": "look", "ksm_suggested_run": 0}, ["KSM on"]),
    ],
)
def test_it_is_said_whether_pages_are_merged(fields: dict[str, Value], said: list[str]) -> None:
    taken = snapshot(host=fields)
    assert [part.text for part in ksm_parts(Report(1, taken.time, "enforce", taken, (), (), (), (), (), 0.01))] == said
