"""QEMU's monitor protocol (QMP) as bytes: what is asked in one go, and what comes back. Pure, and bounded whatever comes.

QEMU's own library, qemu.qmp, takes 1.2 ms of CPU time for a guest that is asked four questions on a connection of its own; this takes
0.05 ms (benchmarks/qemu). A host with a thousand guests has 150 ms for all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

MOST_BYTES: Final = 1 << 20
"""Of all that one monitor may send in one visit. What 256 CPUs, 64 disks and their devices give is a quarter of this."""


class WireError(Exception):
    """No answer to what was asked has come; the text says what instead."""


class FalseAnswer(WireError):
    """What QEMU says is QMP, and cannot be true."""


class Question(NamedTuple):
    """One command, with its arguments."""

    command: str
    arguments: Mapping[str, object] | None = None


class Refusal(NamedTuple):
    """QEMU's answer when it did not do what was asked: its class of error, such as `DeviceNotFound`, and its text."""

    kind: str
    text: str


Answer: TypeAlias = Any
"""The result of a command, as JSON has it, or a `Refusal`."""


def request(questions: Sequence[Question]) -> bytes:
    """The bytes to send once greeted, so that all these are answered in their order."""
    lines = []
    for number, question in enumerate((Question("qmp_capabilities"), *questions)):
        content: dict[str, object] = {"execute": question.command, "id": number}
        if question.arguments is not None:
            content["arguments"] = question.arguments
        lines.append(json.dumps(content, separators=(",", ":")))
    return ("\n".join(lines) + "\n").encode()


class Conversation:
    """One visit's bytes: a greeting, then as many answers as there are questions; events in between are read over.

    :param expected: how many questions are asked after the greeting
    :param before: how many of the same list were answered in earlier conversations
    """

    __slots__ = ("_before", "_bytes", "_expected", "_held", "answers", "greeted")

    def __init__(self, expected: int, before: int = 0) -> None:
        self.greeted = False
        self._before = before
        self.answers: list[Answer] = []
        self._expected = expected + 1
        self._held = b""
        self._bytes = 0

    def feed(self, data: bytes) -> bool:
        """Take in what has come; True if that is all. Raises `WireError`."""
        self._bytes += len(data)
        if self._bytes > MOST_BYTES:
            raise WireError(f"more than {MOST_BYTES >> 10} KiB came")
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            if line and line != b"\r":
                self._take(message(line))
        return len(self.answers) == self._expected

    def result(self) -> list[Answer]:
        """The answers to the questions that have come."""
        return self.answers[1:]

    @property
    def _next(self) -> int:
        """The number of the question that is answered next; 0 is the one that begins each conversation."""
        return len(self.answers) + self._before if self.answers else 0

    def _take(self, content: Mapping[str, Any]) -> None:
        if not self.greeted:
            if not isinstance(content.get("QMP"), dict):
                raise WireError("no greeting came")
            self.greeted = True
        elif "event" in content:
            return
        elif content.get("id") != self._next or type(content["id"]) is not int or len(self.answers) == self._expected:
            raise WireError("an answer came to what was not asked")
        elif "return" in content:
            self.answers.append(content["return"])
        else:
            error = content.get("error")
            if not isinstance(error, dict):
                raise WireError("an answer came that is none")
            self.answers.append(Refusal(str(error.get("class", ""))[:100], str(error.get("desc", ""))[:1000]))


def message(line: bytes) -> Mapping[str, Any]:
    """One line of a monitor. Raises `WireError`."""
    try:
        text = line.decode()
        content, end = _DECODER.raw_decode(text)
        if not text[end:].isspace() and end != len(text):
            raise WireError("more than a message came in a line")
    except (ValueError, RecursionError) as error:  # RecursionError: it nests a thousand times; what is asked for does so five times
        raise WireError("what came is no JSON") from error
    if type(content) is not dict:
        raise WireError("what came is no message")
    return content


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)
