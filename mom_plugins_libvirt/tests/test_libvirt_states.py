"""In which states a guest is left alone, and what that is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_libvirt.states import job_name, state_name, why_left_alone


@pytest.mark.parametrize(
    ("state", "reason", "why"),
    [
        (1, 1, ""),
        (0, 0, ""),
        (1, 10, "the guest is being migrated in (post-copy)"),
        (2, 10, ""),
        (3, 1, "the guest is paused"),
        (3, 2, "the guest is paused, being migrated"),
        (3, 12, "the guest is paused, being migrated (post-copy)"),
        (4, 1, "the guest is shutting down"),
        (5, 1, "the guest is shut off"),
        (6, 1, "the guest is crashed"),
        (7, 0, "the guest is suspended"),
        (42, 0, "the guest is in an unknown state"),
    ],
)
def test_a_guest_is_left_alone_unless_it_runs_with_all_its_memory(state: int, reason: int, why: str) -> None:
    assert why_left_alone(state, reason) == why


@pytest.mark.parametrize(
    ("job", "what"),
    [
        ({"type": 0, "operation": 5}, ""),
        ({"type": 2, "operation": 5}, "being migrated out"),
        ({"type": 2, "operation": 9}, ""),
        ({"type": 2, "operation": "5"}, ""),
        ({}, ""),
    ],
)
def test_only_jobs_that_keep_a_guest_from_being_changed_count(job: dict[str, object], what: str) -> None:
    assert job_name(job) == what


@given(st.integers(), st.integers())
def test_no_number_raises(state: int, reason: int) -> None:
    assert state_name(state)
    why_left_alone(state, reason)
