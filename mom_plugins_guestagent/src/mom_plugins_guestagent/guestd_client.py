"""Asks mom-guestd, or a daemon that speaks MOM's older protocol, for its figures."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress

from mom_plugins_guestagent.failures import Misbehaves, NoAnswer
from mom_plugins_guestagent.wire import Wire

_MOST_LINE_BYTES = 512
_MOST_BYTES = 64 << 10
"""An answer has some thirty lines of thirty bytes; before it there may be what a guest still had to say to another program."""

_MOST_LINES = 256

_TOKEN_PATIENCE = 0.4
"""The share of the time limit after which a daemon that does not answer a question with a token is asked without one."""

_QUIET_SECONDS = 0.3
"""An answer without an end is over when nothing has come for so long."""

_LINE = re.compile(rb"([a-z][a-z0-9_]{0,39}) ?: ?([\x20-\x7e]{0,200})\r?")


async def ask(wire: Wire, *questions: str) -> list[dict[str, str]]:
    """The answers to these questions (`stats`, `props`), by name.

    What belongs to no question, or to an older one, is passed over. Raises `NoAnswer` and `Misbehaves`.
    """
    tokens = [secrets.token_hex(8) for _ in questions]
    # The empty line ends what another program may have begun on the same channel.
    await wire.send(b"\n" + "".join(f"{question} {token}\n" for question, token in zip(questions, tokens, strict=True)).encode())
    answers = []
    for token in tokens:
        begin, end = f"begin:{token}".encode(), f"end:{token}".encode()
        while await wire.line() != begin:
            pass
        said: dict[str, str] = {}
        for _ in range(_MOST_LINES):
            line = await wire.line()
            if line == end:
                break
            _take(line, said)
        else:
            raise Misbehaves("its answer has no end")
        answers.append(said)
    return answers


async def ask_plainly(wire: Wire, question: str) -> dict[str, str]:
    """The answer of a daemon that knows no tokens. It ends with the connection, or when no more comes."""
    await wire.send(f"{question}\n".encode())
    said: dict[str, str] = {}
    with suppress(TimeoutError, NoAnswer):
        for _ in range(_MOST_LINES):
            async with asyncio.timeout(_QUIET_SECONDS if said else None):
                line = await wire.line()
            _take(line, said)
    if not said:
        raise NoAnswer("there is no answer to a plain question either")
    return said


def _take(line: bytes, said: dict[str, str]) -> None:
    match = _LINE.fullmatch(line)
    if match is None:
        raise Misbehaves("its answer is no list of names and values")
    said[match[1].decode()] = match[2].decode()


class GuestdClient:
    """One guest's daemon, at one place.

    :param address: the path of a unix socket, or a numeric (address, port) pair; only over TCP can it be MOM's
    """

    def __init__(self, address: str | tuple[str, int], timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._plain = False

    async def read(self, *, facts: bool) -> tuple[Mapping[str, str], Mapping[str, str] | None]:
        """Its figures and, if they are wanted, its properties. Raises `NoAnswer` and `Misbehaves`; the caller limits the time."""
        if facts or not self._plain:
            try:
                async with asyncio.timeout(self._timeout * (_TOKEN_PATIENCE if self._may_be_plain else 1)):
                    async with self._wire() as wire:
                        figures, *properties = await ask(wire, *(("stats", "props") if facts else ("stats",)))
                return figures, properties[0] if properties else None
            except (TimeoutError, NoAnswer):
                if not self._may_be_plain:
                    raise
        try:
            async with self._wire() as wire:
                said = await ask_plainly(wire, "stats")
        except NoAnswer:
            self._plain = False
            raise
        self._plain = True
        # Nothing says since when such a daemon counts: only sizes are taken from it.
        return {name: value for name, value in said.items() if name.startswith("mem_")}, {} if facts else None

    @property
    def _may_be_plain(self) -> bool:
        return not isinstance(self._address, str)

    def _wire(self) -> Wire:
        return Wire(self._address, most_line=_MOST_LINE_BYTES, most_bytes=_MOST_BYTES)
