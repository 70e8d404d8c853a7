"""HTTP client for a JSON API, without redirects and proxies."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator

from mom_core import HypervisorError, MomError, printable, read_secret

ANSWER_SECONDS: Final = 15.0

NO_ANSWER: Final = frozenset({408, 429, 502, 503, 504, *range(595, 600)})
"""Statuses without a clear result. pveproxy returns 595 to 599 if it cannot reach a node."""

LARGEST_ANSWER: Final = 4 << 20

_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


def _server_url(url: str) -> str:
    if not url.isprintable() or " " in url:  # URL parsers disagree on such characters
        raise ValueError("a URL must not contain spaces or control characters: write https://HOST/PATH")
    parts = urlsplit(url)
    _ = parts.port
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("write https://HOST/PATH")
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        raise ValueError("write https://: http is for this host only")
    if parts.username or parts.password:
        raise ValueError("leave user and password out: put them into the file for credentials")
    return url


WebUrl = Annotated[str, AfterValidator(_server_url)]


class UnclearAnswerError(MomError):
    """Error: it is unknown whether the server has acted."""


@dataclass(frozen=True, slots=True)
class ServerApi:
    """Address and credentials of an API.

    :param headers: returns headers with current credentials; raises `MomError`
    """

    name: str
    url: str
    headers: Callable[[], Mapping[str, str]]
    ca: Path | None = None
    seconds: float = ANSWER_SECONDS

    def check(self) -> None:
        """Raise `MomError` if the files with credentials or certificates are unusable."""
        self.headers()
        self._trusted()

    def _trusted(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        except OSError as error:  # SSLError is an OSError
            raise MomError(f"cannot read the certificates {self.ca}: {error.strerror or error}") from None

    def ask(self, method: str, path: str, content: bytes = b"", kind: str = "") -> Mapping[str, Any]:
        """Return the answer's JSON object; empty if the answer is no object.

        :param path: path below the URL, built from validated parts
        :raises HypervisorError: the server has not acted
        :raises UnclearAnswerError: the server may have acted
        """
        import httpx

        try:
            headers = {"Accept": "application/json", "Accept-Encoding": "identity", **self.headers()}
            headers |= {"Content-Type": kind} if kind else {}
            verify = self._trusted()
        except MomError as error:
            raise HypervisorError(f"{self.name}: {error.message}", hint=error.hint) from None
        try:
            status, answer = self._answer(method, path, headers, content, verify)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise HypervisorError(f"{self.name}: {printable(str(error) or type(error).__name__, 200)}") from None
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise UnclearAnswerError(f"{self.name}: {printable(str(error) or type(error).__name__, 200)}") from None
        if 200 <= status < 300:
            return _object(answer)
        if status in NO_ANSWER:
            raise UnclearAnswerError(f"{self.name} answers with status {status}")
        raise HypervisorError(f"{self.name} refuses ({status}): {_why(_object(answer))}")

    def _answer(self, method: str, path: str, headers: Mapping[str, str], content: bytes, verify: ssl.SSLContext) -> tuple[int, bytes]:
        import httpx

        until, body = time.monotonic() + self.seconds, bytearray()
        with (
            httpx.Client(timeout=self.seconds, follow_redirects=False, verify=verify, trust_env=False) as client,
            client.stream(method, self.url.rstrip("/") + path, content=content, headers=headers) as answer,
        ):
            for part in answer.iter_raw():
                body += part
                if len(body) > LARGEST_ANSWER or time.monotonic() > until:
                    raise UnclearAnswerError(f"{self.name}: the answer is too long or too slow")
            return answer.status_code, bytes(body)


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def part_of(answer: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return the object nested under these names, or an empty object."""
    for name in names:
        value = answer.get(name)
        answer = value if isinstance(value, dict) else {}
    return answer


def _why(answer: Mapping[str, Any]) -> str:
    # Proxmox VE sends `message` and `errors`, oVirt sends `detail` or `fault`.
    parts = [answer.get(name) for name in ("message", "errors", "detail")]
    parts += part_of(answer, "fault").values()
    return printable("; ".join(str(part).strip() for part in parts if part) or "without a reason", 300)


def credentials(key: Path, make: str) -> str:
    """Read credentials. If they are invalid, raise `MomError` with `make` as hint."""
    text = read_secret(key, "the credentials", make).decode("utf-8", "replace").strip()
    if not text.isascii() or not text.isprintable() or not text:
        raise MomError(f"{key} has no valid credentials", hint=make)
    return text
