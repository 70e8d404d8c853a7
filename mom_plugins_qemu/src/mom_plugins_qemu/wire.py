"""QEMU's monitor protocol (QMP). Limits apply to all answers.

The library qemu.qmp takes 24 times as much CPU time (benchmarks/qemu).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

MOST_BYTES: Final = 1 << 20
"""Maximum size of one conversation in bytes. A guest with 256 CPUs and 64 disks needs a quarter."""


class WireError(Exception):
    """Invalid answer; the message describes the fault."""


class FalseAnswer(WireError):
    """Well-formed QMP answer whose content cannot be true."""


class Question(NamedTuple):
    """Command with its arguments."""

    command: str
    arguments: Mapping[str, object] | None = None


class Refusal(NamedTuple):
    """QEMU's error: class, such as `DeviceNotFound`, and message."""

    kind: str
    text: str


Answer: TypeAlias = Any
"""Result of a command as JSON, or a `Refusal`."""


def request(questions: Sequence[Question]) -> tuple[bytes, int]:
    """Return the bytes that send these queries after QEMU's greeting, and the number of queries."""
    lines = []
    for number, question in enumerate((Question("qmp_capabilities"), *questions)):
        content: dict[str, object] = {"execute": question.command, "id": number}
        if question.arguments is not None:
            content["arguments"] = question.arguments
        lines.append(json.dumps(content, separators=(",", ":")))
    return ("\n".join(lines) + "\n").encode(), len(questions)


class Conversation:
    """Parser of QEMU's output: a greeting, and an answer to each query.

    :param expected: number of queries
    """

    __slots__ = ("_bytes", "_expected", "_held", "answers", "greeted")

    def __init__(self, expected: int) -> None:
        self.greeted = False
        self.answers: list[Answer] = []
        self._expected = expected + 1
        self._held = b""
        self._bytes = 0

    def feed(self, data: bytes) -> bool:
        """Add received bytes, and return whether all answers are complete. Raise `WireError` for invalid data."""
        self._bytes += len(data)
        if self._bytes > MOST_BYTES:
            raise WireError(f"QEMU sent more than {MOST_BYTES >> 10} KiB")
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            if line and line != b"\r":
                self._take(message(line))
        return len(self.answers) == self._expected

    def result(self) -> list[Answer]:
        """Return the answers to the queries."""
        return self.answers[1:]  # the first is that of `qmp_capabilities`

    def _take(self, content: Mapping[str, Any]) -> None:
        if not self.greeted:
            if not isinstance(content.get("QMP"), dict):
                raise WireError("it sent no greeting")
            self.greeted = True
        elif "event" in content:
            return
        elif content.get("id") != len(self.answers) or type(content["id"]) is not int or len(self.answers) == self._expected:
            raise WireError("an answer came without a query")
        elif "return" in content:
            self.answers.append(content["return"])
        else:
            error = content.get("error")
            if not isinstance(error, dict):
                raise WireError("an answer has neither a result nor an error")
            self.answers.append(Refusal(str(error.get("class", ""))[:100], str(error.get("desc", ""))[:1000]))


def message(line: bytes) -> Mapping[str, Any]:
    """Return the message in a line. Raise `WireError` if invalid."""
    try:
        content = _DECODER.decode(line.decode())
    except (ValueError, RecursionError) as error:  # RecursionError: a thousand levels
        raise WireError("an answer is not JSON") from error
    if type(content) is not dict:
        raise WireError("an answer is not a JSON object")
    return content


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)
