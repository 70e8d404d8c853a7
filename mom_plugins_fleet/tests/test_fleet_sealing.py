"""Orders that a coordinator has sealed, and orders that somebody has invented."""

from __future__ import annotations

import os

import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest

from mom_plugins_fleet.records import Move, MoveState
from mom_plugins_fleet.seals import Seal, is_sealed
from mom_toolkit import Destination

MOVE = Move(guest="g", name="web", to="h2", destination=Destination.parse("qemu+tls://h2/system"), takes=1024, number=1)


def new_seal() -> Seal:
    return Seal(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode())


def test_a_sealed_move_is_known_by_the_key_of_its_coordinator_whatever_the_host_says_of_it() -> None:
    seal, other = new_seal(), new_seal()
    sealed = seal.sealed("h1", MOVE)
    assert is_sealed("h1", sealed, [other.public, seal.public])
    assert is_sealed("h1", sealed.model_copy(update={"state": MoveState.FAILED, "error": "no room"}), [seal.public])
    assert not is_sealed("h1", sealed, [other.public])
    assert not is_sealed("h1", sealed, [])


@pytest.mark.parametrize(
    "change", [{"guest": "x"}, {"to": "h3"}, {"destination": Destination.parse("qemu+tls://evil/system")}, {"takes": 1}, {"number": 2}]
)
def test_whoever_changes_what_was_ordered_breaks_the_seal(change: dict[str, object]) -> None:
    seal = new_seal()
    assert not is_sealed("h1", seal.sealed("h1", MOVE).model_copy(update=change), [seal.public])


def test_a_seal_is_for_one_host() -> None:
    seal = new_seal()
    assert not is_sealed("h2", seal.sealed("h1", MOVE), [seal.public])


@pytest.mark.parametrize("written", ["", "x", "AAAA", "é", "A" * 88])
@pytest.mark.parametrize("key", ["", "U", "é", "A" * 56, "UA" * 28])
def test_nonsense_is_no_seal(written: str, key: str) -> None:
    assert not is_sealed("h1", MOVE.model_copy(update={"seal": written}), [key])


def test_without_a_key_nothing_is_sealed() -> None:
    assert Seal(None).sealed("h1", MOVE) == MOVE
    assert Seal(None).public == ""
