"""Clients of mom's socket. Tests import it by its name: `conftest` is another folder's when all are tested."""

from pathlib import Path

import httpx


def client_of(path: Path, name: str = "mom") -> httpx.Client:
    """A client of this socket, which calls the server by this name."""
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path), verify=False), base_url=f"http://{name}", timeout=60)
