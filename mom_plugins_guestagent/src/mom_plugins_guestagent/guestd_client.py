"""Client of mom-guestd, and of daemons with oVirt MOM's older protocol."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress

from mom_core import Value
from mom_plugins_guestagent.fields import SHORT_LEFT
from mom_plugins_guestagent.ways import AgentAddress, VisitAnswer, Way
from mom_plugins_guestagent.wire import Misbehaves, NoAnswer, Wire

_MOST_LINE_BYTES = 512
_MOST_BYTES = 64 << 10
"""Maximum bytes per query. Earlier answers to another program may precede an answer of about 1 KiB."""

_MOST_LINES = 256

_TOKEN_PATIENCE = 0.4
"""Fraction of the time limit after which mom repeats the query without a token."""

_QUIET_SECONDS = 0.3
"""Silence that ends an answer without an end mark."""

_SHORT_LEFT = SHORT_LEFT.removeprefix("guest_")

_LINE = re.compile(rb"([a-z][a-z0-9_]{0,39}) ?: ?([\x20-\x7e]{0,200})\r?")


async def ask(wire: Wire, *questions: str) -> list[dict[str, str]]:
    """Return the answers to questions: `stats`, `props` or `short SECONDS`. Raise `NoAnswer` or `Misbehaves`."""
    tokens = [secrets.token_hex(8) for _ in questions]
    # The empty line ends a request that another program may have begun on the channel.
    await wire.send(b"\n" + "".join(f"{question} {token}\n" for question, token in zip(questions, tokens, strict=True)).encode())
    answers = []
    for token in tokens:
        begin, end = f"begin:{token}".encode(), f"end:{token}".encode()
        while await wire.line() != begin:
            pass
        values: dict[str, str] = {}
        for _ in range(_MOST_LINES):
            line = await wire.line()
            if line == end:
                break
            _take(line, values)
        else:
            raise Misbehaves("its answer has no end")
        answers.append(values)
    return answers


async def ask_plainly(wire: Wire, question: str) -> dict[str, str]:
    """Return an answer without tokens, which ends with the connection or with silence."""
    await wire.send(f"{question}\n".encode())
    values: dict[str, str] = {}
    with suppress(TimeoutError, NoAnswer):
        for _ in range(_MOST_LINES):
            async with asyncio.timeout(_QUIET_SECONDS if values else None):
                line = await wire.line()
            _take(line, values)
    if not values:
        raise NoAnswer("it does not answer a query without a token either")
    return values


def _take(line: bytes, values: dict[str, str]) -> None:
    match = _LINE.fullmatch(line)
    if match is None:
        raise Misbehaves("its answer is not a list of names and values")
    values[match[1].decode()] = match[2].decode()


class GuestdWay(Way):
    """Way to query mom-guestd, or oVirt MOM's daemon over TCP.

    :param short: returns the seconds of memory shortage to announce; 0 for none
    """

    def __init__(self, place: AgentAddress, seconds: float, short: Callable[[], int] = lambda: 0) -> None:
        super().__init__(place, seconds)
        self._short = short
        self._plain = False

    async def visit(self, *, facts: bool) -> VisitAnswer:
        """Query the guest."""
        async with asyncio.timeout(self._seconds):
            may_be_plain = not isinstance(self.place.address, str)
            if facts or not self._plain:
                try:
                    async with asyncio.timeout(self._seconds * _TOKEN_PATIENCE if may_be_plain else None), self._wire() as wire:
                        statistics, *properties = await ask(wire, *(("stats", "props") if facts else ("stats",)))
                        # Only daemons that may help the host understand the request `short`.
                        if _SHORT_LEFT in statistics and (seconds := self._short()):
                            statistics.update(*await ask(wire, f"short {seconds}"))
                    return VisitAnswer(statistics, _facts(properties[0]) if properties else {})
                except (TimeoutError, NoAnswer):
                    if not may_be_plain:
                        raise
            self._plain = False
            async with self._wire() as wire:
                statistics = await ask_plainly(wire, "stats")
            self._plain = True
        # Daemons without tokens may count from any time: use only sizes.
        return VisitAnswer({name: value for name, value in statistics.items() if name.startswith("mem_")}, {})

    def _wire(self) -> Wire:
        return Wire(self.place.address, most_line=_MOST_LINE_BYTES, most_bytes=_MOST_BYTES, process=self.place.process)


_FACTS = {"guestd": "guest_agent_version", "os": "guest_os", "kernel": "guest_kernel"}


def _facts(properties: Mapping[str, str]) -> dict[str, Value]:
    return {ours: properties[name] for name, ours in _FACTS.items() if properties.get(name)}
