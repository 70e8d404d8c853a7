"""Asks mom-guestd, or a daemon that speaks MOM's older protocol, for its figures."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress

from mom_core import Value
from mom_plugins_guestagent.fields import SHORT_LEFT
from mom_plugins_guestagent.ways import AgentAddress, VisitAnswer
from mom_plugins_guestagent.wire import Misbehaves, NoAnswer, Wire

_MOST_LINE_BYTES = 512
_MOST_BYTES = 64 << 10
"""An answer has some thirty lines of thirty bytes; before it there may be what a guest still had to say to another program."""

_MOST_LINES = 256

_TOKEN_PATIENCE = 0.4
"""The share of the time limit after which a daemon that does not answer a question with a token is asked without one."""

_QUIET_SECONDS = 0.3
"""An answer without an end is over when nothing has come for so long."""

_SHORT_LEFT = SHORT_LEFT.removeprefix("guest_")
"""Stands among the figures of a guest whose owner lets it help its host."""

_LINE = re.compile(rb"([a-z][a-z0-9_]{0,39}) ?: ?([\x20-\x7e]{0,200})\r?")


async def ask(wire: Wire, *questions: str) -> list[dict[str, str]]:
    """The answers to these questions (`stats`, `props`, `short SECONDS`), by name.

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


class GuestdWay:
    """To mom-guestd, or to MOM's: that can be there only over TCP."""

    def __init__(self, place: AgentAddress, seconds: float, short: Callable[[], int] = lambda: 0) -> None:
        self._address, self._process = place.address, place.process
        self._seconds = seconds
        self._short = short
        """For how many seconds more the guest is to take its host to be short of memory; 0: it is told nothing."""
        self._plain = False

    async def visit(self, *, figures: bool, facts: bool) -> VisitAnswer:
        """Ask, for figures in any case. Raises `NoAnswer`, `Misbehaves`, and `TimeoutError` when the time for one visit is up."""
        async with asyncio.timeout(self._seconds):
            may_be_plain = not isinstance(self._address, str)
            if facts or not self._plain:
                try:
                    async with asyncio.timeout(self._seconds * _TOKEN_PATIENCE if may_be_plain else None), self._wire() as wire:
                        said, *properties = await ask(wire, *(("stats", "props") if facts else ("stats",)))
                        # Older ones do not know this question, and those whose owners allow nothing have no use for it.
                        if _SHORT_LEFT in said and (seconds := self._short()):
                            said.update(*await ask(wire, f"short {seconds}"))
                    return VisitAnswer(said, _facts(properties[0]) if properties else None)
                except (TimeoutError, NoAnswer):
                    if not may_be_plain:
                        raise
            self._plain = False
            async with self._wire() as wire:
                said = await ask_plainly(wire, "stats")
            self._plain = True
        # Nothing says since when such a daemon counts: only sizes are taken from it.
        return VisitAnswer({name: value for name, value in said.items() if name.startswith("mem_")}, {} if facts else None)

    def _wire(self) -> Wire:
        return Wire(self._address, most_line=_MOST_LINE_BYTES, most_bytes=_MOST_BYTES, process=self._process)


_FACTS = {"guestd": "guest_agent_version", "os": "guest_os", "kernel": "guest_kernel"}


def _facts(properties: Mapping[str, str]) -> dict[str, Value]:
    return {ours: properties[name] for name, ours in _FACTS.items() if properties.get(name)}
