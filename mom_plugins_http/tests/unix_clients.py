"""Clients of mom's socket, in a module with its own name: in a full run, `conftest` may be another folder's."""

from pathlib import Path

import httpx


def client_of(path: Path, name: str = "mom") -> httpx.Client:
    """Return a client of a socket that uses this host name."""
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path), verify=False), base_url=f"http://{name}", timeout=60)
