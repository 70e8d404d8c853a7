"""A question or two to the fleet's servers, for a command that ends then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from mom_core import MomError
from mom_plugins_fleet.link import Access, Store, linked
from mom_plugins_fleet.records import Member
from mom_plugins_fleet.signatures import opened
from mom_plugins_fleet.subjects import ROSTER

Answer = TypeVar("Answer")

PATIENCE_SECONDS = 60.0
"""How long a command may take in all: with 10,000 hosts their states are some 100 MiB."""


def ask(access: Access, name: str, log: logging.Logger, what: Callable[[Store], Awaitable[Answer]]) -> Answer:
    """Connect, do that, and leave. Raises `MomError` when the servers do not answer in time."""

    async def asked() -> Answer:
        async with linked(access, name, log, patient=False) as store:
            return await asyncio.wait_for(what(store), PATIENCE_SECONDS)

    try:
        return asyncio.run(asked())
    except TimeoutError:
        raise MomError(f"the fleet's servers did not answer within {PATIENCE_SECONDS:.0f} s") from None


def look(access: Access, host: str, log: logging.Logger, operators: Collection[str]) -> Member | None:
    """How the fleet knows this host; None: not at all. Raises `MomError` for an entry that no operator has signed."""

    async def looked(store: Store) -> Member | None:
        kept = await store.read(ROSTER, host)
        return None if kept.data is None else opened(Member, ROSTER, host, kept.data, operators).record

    return ask(access, host, log, looked)
