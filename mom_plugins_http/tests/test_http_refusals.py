"""What the log says of refusals, at a rate that no client decides."""

import logging

import pytest
from served_mom import Clock

from mom_plugins_http.server.refusals import MOST_LINES, RefusalLog


@pytest.fixture
def refusals(clock: Clock, caplog: pytest.LogCaptureFixture) -> RefusalLog:
    caplog.set_level(logging.INFO)
    return RefusalLog(logging.getLogger("mom.test"), clock)


def test_a_peer_that_guesses_is_logged_at_once_and_then_once_a_minute_with_how_often(refusals, clock, caplog):
    for _ in range(1000):
        refusals.note("192.0.2.7", "a token that is not known")
    refusals.note("192.0.2.8", "a token that is not known")
    refusals.note("192.0.2.7", "PUT /v1/policies/{name}")
    clock.now += 61
    refusals.note("192.0.2.7", "a token that is not known")
    assert caplog.messages == [
        "refused to 192.0.2.7: a token that is not known",
        "refused to 192.0.2.8: a token that is not known",
        "refused to 192.0.2.7: PUT /v1/policies/{name}",
        "refused to 192.0.2.7: a token that is not known (999 more since this was logged last)",
    ]


def test_any_number_of_addresses_gets_few_lines_a_minute_and_little_memory(refusals, clock, caplog):
    for minute in range(5):
        for number in range(5000):
            refusals.note(f"2001:db8::{minute}:{number:x}", "a token that is not known")
        clock.now += 60
    assert len(caplog.messages) == 5 * MOST_LINES + 4
    assert caplog.messages[MOST_LINES] == f"refused to others: {5000 - MOST_LINES} more requests in the minute before"
    assert len(refusals._told) <= 3 * MOST_LINES  # nothing else shows what is remembered
