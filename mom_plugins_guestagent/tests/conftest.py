"""Fixtures: servers that act like agents, also with faults, and a plugin that asks them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_servers import QemuAgent, Servers


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    made = Servers(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def agent() -> QemuAgent:
    return QemuAgent()


@pytest.fixture
def socket_of_agent(servers: Servers, agent: QemuAgent) -> str:
    """Return the socket of `agent`."""
    return servers.unix(agent.speak)
