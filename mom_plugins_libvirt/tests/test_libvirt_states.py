"""In which states a guest is left alone, and what that is called."""

import pytest

from mom_plugins_libvirt.domain_entry import why_left_alone


@pytest.mark.parametrize(
    ("state", "reason", "why"),
    [
        (1, 1, ""),
        (1, 10, "the guest is being migrated in (post-copy)"),
        (2, 10, ""),
        (3, 1, "the guest is paused"),
        (3, 2, "the guest is paused, being migrated"),
        (3, 12, "the guest is paused, being migrated (post-copy)"),
        (5, 1, "the guest is shut off"),
        (42, 0, "the guest is in an unknown state"),
    ],
)
def test_a_guest_is_left_alone_unless_it_runs_with_all_its_memory(state: int, reason: int, why: str) -> None:
    assert why_left_alone(state, reason) == why
