"""The line of `mom status` about the host."""

from __future__ import annotations

import pytest

from mom_core.cli.status import _host_line

GIB = 1 << 20


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, "host: available 4.00 GiB"),
        ({"mem_free_wanted": 3 * GIB}, "host: available 4.00 GiB, wanted 3.00 GiB"),
        ({"mem_free_wanted": 5 * GIB, "host_memory_state": "soft"}, "host: available 4.00 GiB, wanted 5.00 GiB (state soft)"),
    ],
)
def test_the_host_is_said_to_have_what_it_has_what_it_should_have_and_how_it_is_off(known: dict[str, object], said: str) -> None:
    assert _host_line({"mem_really_available": 4 * GIB, **known}) == said
