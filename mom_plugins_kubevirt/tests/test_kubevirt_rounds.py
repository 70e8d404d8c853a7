"""Rounds of requests to many pods. If some hang, all others are still asked."""

import threading
from collections.abc import Callable, Iterator

import pytest

from mom_core import HypervisorError
from mom_kvm import Callers
from mom_plugins_kubevirt.pod_libvirt import ask_all

LONG_SECONDS = 30.0


@pytest.fixture
def callers() -> Iterator[Callers]:
    made = Callers("test")
    yield made
    made.close(1.0)


@pytest.fixture
def hang() -> Iterator[Callable[[int], int]]:
    """Yield a function that hangs for negative numbers until the test ends."""
    over = threading.Event()

    def ask(number: int) -> int:
        if number < 0:
            over.wait(LONG_SECONDS)
        return 10 * number

    yield ask
    over.set()


def test_those_that_have_hung_before_are_asked_and_not_waited_for(callers, hang):
    answers, open_ = ask_all(callers, [-1, 2, 3], hang, LONG_SECONDS, unsure={-1})
    assert answers.keys() == {2, 3}
    assert open_.keys() == {-1}


def test_one_that_fails_in_a_way_that_nobody_foresaw_costs_the_others_nothing(callers):
    def ask(number: int) -> str:
        return bytes([number]).decode()

    answers, open_ = ask_all(callers, [ord("a"), 0xFF, ord("b")], ask, LONG_SECONDS)
    failed = answers.pop(0xFF)
    assert isinstance(failed, HypervisorError)
    assert "UnicodeDecodeError" in failed.message
    assert set(answers.values()) == {"a", "b"}
    assert not open_


def test_nobody_is_waited_for_longer_than_that(callers, hang):
    answers, open_ = ask_all(callers, [-1, -2], hang, 0.05)
    assert not answers
    assert open_.keys() == {-1, -2}
