"""State files: content survives; any damage is reported, the file is set aside, and mom continues."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from pydantic import TypeAdapter

from mom_core import StateError, StateFile, is_there
from mom_core.state_files import MOST_SET_ASIDE, LaterVersionError, UnreadableError, set_aside_below


@dataclass(frozen=True, slots=True)
class Use:
    """Content of the tests' files."""

    highest: int
    names: tuple[str, ...] = ()


FORM = TypeAdapter(Use)
CONTENT: dict[str, object] = {"highest": 5, "names": ["a"]}


def file(folder: Path, **more: Any) -> StateFile[Use]:
    return StateFile(folder / "state" / "use.json", "the file of use", FORM, loss="it is measured anew", **more)


@pytest.fixture
def kept(tmp_path: Path) -> StateFile[Use]:
    made = file(tmp_path)
    made.write(CONTENT)
    return made


def test_every_flipped_bit_and_every_missing_end_is_damage(kept: StateFile[Use]) -> None:
    whole = kept.path.read_bytes()
    flipped = [int.to_bytes(int.from_bytes(whole) ^ 1 << bit, len(whole)) for bit in range(8 * len(whole))]
    for other in (*flipped, *(whole[:length] for length in range(len(whole))), whole + b"\n", whole * 2, b"\0" * len(whole)):
        with pytest.raises(StateError, match="is damaged") as caught:
            kept.decoded(other)
        assert not isinstance(caught.value, LaterVersionError), "a damaged version number is no later version"


# --- invalid files -------------------------------------------------------------------------------------------------


INVALID = ("", "[" * 100_000, "1" * 100_000, "NaN", '{"highest":1e999}', "null", "{}", '{"highest":"5"}', '{"highest":true}')


@pytest.mark.parametrize("body", INVALID, ids=range(len(INVALID)))
def test_invalid_content_with_a_right_checksum_is_damage(tmp_path: Path, body: str) -> None:
    kept = file(tmp_path)
    with patch.object(StateFile, "as_json", str):
        kept.write(body)
    assert kept.read() is None
    assert "its content is invalid" in kept.damage


def test_what_is_damaged_is_set_aside_and_said_and_replaced(kept: StateFile[Use], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept.path.write_text("{")
    again = file(tmp_path)
    assert again.read() is None
    aside = kept.path.with_name("use.json.damaged-1")
    why = f"the file of use {kept.path} is damaged: it is not a state file, or incomplete; mom has renamed it to {aside}"
    assert again.damage == f"{why}; it is measured anew"
    assert again.damage in caplog.text
    assert aside.read_text() == "{"
    assert not kept.path.exists()
    again.write(CONTENT)
    assert again.damage, "it is said until the next start"
    last = file(tmp_path)
    assert last.read() == Use(5, ("a",))
    assert not last.damage
    assert list(set_aside_below(tmp_path)) == [aside]


def test_so_many_are_set_aside_and_the_first_ones_stay(tmp_path: Path) -> None:
    kept = file(tmp_path)
    kept.path.parent.mkdir()
    for number in range(MOST_SET_ASIDE + 5):
        kept.path.write_text(f"damage {number}")
        kept.read()
    texts = [kept.path.with_name(f"use.json.damaged-{number}").read_text() for number in range(1, MOST_SET_ASIDE + 1)]
    assert texts == [*(f"damage {number}" for number in range(MOST_SET_ASIDE - 1)), f"damage {MOST_SET_ASIDE + 4}"]
    assert len(list(kept.path.parent.iterdir())) == MOST_SET_ASIDE


def test_a_later_version_is_no_damage_and_is_not_overwritten_either(kept: StateFile[Use], tmp_path: Path) -> None:
    file(tmp_path, version=2).write({"in another": "form"})
    text = kept.path.read_text()
    with pytest.raises(LaterVersionError, match="was written by a newer mom: the file's format is version 2, this mom reads version 1"):
        kept.look()
    assert kept.read() is None
    assert "damaged" not in kept.damage
    assert kept.cure == "upgrade mom, and rename the file to its original name"
    kept.write(CONTENT)
    assert kept.path.with_name("use.json.later-1").read_text() == text


def test_a_file_of_another_kind_is_damage(kept: StateFile[Use], tmp_path: Path) -> None:
    kept.path.rename(kept.path.with_name("other.json"))
    other = StateFile(kept.path.with_name("other.json"), "the other file", FORM)
    assert other.read() is None
    assert "it is a file of kind use, not other" in other.damage


def test_what_cannot_be_set_aside_is_not_overwritten(kept: StateFile[Use], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    kept.path.write_text("{")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        assert kept.read() is None
        assert "mom cannot rename it: Operation not permitted" in kept.damage
        with pytest.raises(StateError, match="cannot be written"):
            kept.write(CONTENT)
    assert kept.path.read_text() == "{"
    kept.write(CONTENT)
    assert kept.read() == Use(5, ("a",))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_a_file_that_cannot_be_opened_now_is_not_taken_for_damaged(
    kept: StateFile[Use], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def short(_path: Path, _most: int) -> bytes:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("mom_core.state_files.read_file", short)
        with pytest.raises(UnreadableError, match="try again when fewer files are open"):
            kept.read()
    assert kept.read() == Use(5, ("a",))
    assert kept.damage == ""


def test_a_file_that_is_too_large_is_not_read_nor_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = file(tmp_path)
    kept.write({"highest": 1, "names": ["x" * 1000]})
    monkeypatch.setattr("mom_core.state_files.LARGEST_BYTES", 1000)
    with pytest.raises(StateError, match="it would be larger than 1000 bytes"):
        kept.write({"highest": 2, "names": ["x" * 1000]})
    assert kept.read() is None
    assert "it is larger than 1000 bytes" in kept.damage


@pytest.mark.parametrize("content", [float("nan"), {1, 2}, 10**5000], ids=["nan", "set", "huge"])
def test_what_is_no_json_is_not_written_and_said(kept: StateFile[Use], content: object) -> None:
    with pytest.raises(StateError, match="it cannot be written as JSON"):
        kept.write(content)
    assert "cannot be written" in kept.write_error
    assert kept.read() == Use(5, ("a",))
    kept.write(CONTENT)
    assert kept.write_error == ""


def test_half_a_character_keeps_nothing_from_being_written_or_read(kept: StateFile[Use]) -> None:
    kept.write({"highest": 1, "names": ["\ud800", "a\udfffb", "\\ud800", "😀", "\ud83d\ude00"]})
    assert kept.read() == Use(1, ("\ufffd", "a\ufffdb", "\\ud800", "😀", "😀"))


def test_a_full_disk_leaves_the_file_as_it_was(kept: StateFile[Use], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StateError, match="cannot be written: No space left on device"):
            kept.write({"highest": 6})
    assert kept.read() == Use(5, ("a",))
    assert [path.name for path in kept.path.parent.iterdir()] == ["use.json"]


def test_what_is_removed_is_gone_and_damage_is_kept(kept: StateFile[Use]) -> None:
    kept.remove()
    assert kept.read() is None
    kept.remove()
    kept.path.write_text("{")
    looking = StateFile(kept.path, "the file of use", FORM, sets_aside=False)
    looking.read()
    looking.remove()
    assert [path.name for path in kept.path.parent.iterdir()] == ["use.json.damaged-1"]


def test_what_cannot_be_known_to_be_there_is_not_taken_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    assert is_there(tmp_path / "file")
    for absent in ("other", "file/below", "loop"):
        assert not is_there(tmp_path / absent)
    with pytest.raises(OSError, match="too long"):
        is_there(tmp_path / ("x" * 300))
