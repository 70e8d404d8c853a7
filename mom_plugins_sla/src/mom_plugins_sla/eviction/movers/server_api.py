"""A management's HTTP API with answers in JSON: its key stands in a file, no answer is told apart from a no, and there is one limit on each
request as a whole, small answers only, no redirects, and no proxies of the system."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator

from mom_core import HypervisorError, MomError, printable, read_secret

Result = TypeVar("Result")

ANSWER_SECONDS: Final = 15.0
"""For one request; a call of a mover makes two or three."""

LARGEST_ANSWER: Final = 4 << 20
"""Bytes: a node's list of guests, or a machine's description."""

_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


def _a_server(url: str) -> str:
    if not url.isprintable() or " " in url:  # some readers of URLs leave out what others take for a part of the name
        raise ValueError("a URL has neither spaces nor control characters in it: write https://HOST/PATH")
    parts = urlsplit(url)
    _ = parts.port
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("write https://HOST/PATH")
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        raise ValueError("write https://: what guests are to stop or leave is not for others to read; http is for this host only")
    if parts.username or parts.password:
        raise ValueError("leave user and password out: they belong into a file of their own")
    return url


WebUrl = Annotated[str, AfterValidator(_a_server)]
"""The URL of a server: by https, or on this host."""


class UnclearAnswerError(MomError):
    """It is not known whether what was asked for was done. A mover passes it on: of a move that it tells of, it is looked how that is."""


@dataclass(frozen=True, slots=True)
class ServerApi:
    """Where the API is, and by what mom is let in.

    :param name: of the mover, for errors
    :param headers: the headers that let a request in, as the file with the credentials is now; raises `MomError`
    :param no_answer: statuses by which it is not known what became of a request, such as those of a proxy before the API
    """

    name: str
    url: str
    headers: Callable[[], Mapping[str, str]]
    ca: Path | None = None
    no_answer: frozenset[int] = frozenset({408, 429, 502, 503, 504})
    seconds: float = ANSWER_SECONDS

    def check(self) -> None:
        """Raises `MomError` when the files cannot be used."""
        self.headers()
        self._trusted()

    def _trusted(self) -> ssl.SSLContext:
        """Return the authorities that the server's certificate is checked with."""
        try:
            return ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        except OSError as error:  # ssl's own errors are of that kind, too
            raise MomError(f"the certificates {self.ca} cannot be read: {error.strerror or error}") from None

    def ask(self, method: str, path: str, content: bytes = b"", kind: str = "") -> Mapping[str, Any]:
        """Return the answer's JSON object; empty where it is none, or larger than it may be.

        :param path: below the URL, made of parts that were checked
        :param kind: of the content
        :raises HypervisorError: it was refused, or never sent: nothing was done
        :raises UnclearAnswerError: it may have been done
        """
        import httpx

        try:
            headers = {"Accept": "application/json", "Accept-Encoding": "identity", **self.headers()}
            headers |= {"Content-Type": kind} if kind else {}
            verify = self._trusted()
        except MomError as error:
            raise HypervisorError(f"{self.name}: {error.message}", hint=error.hint) from None
        try:
            status, answer = _run(self._answer(method, self.url.rstrip("/") + path, headers, content, verify))
        except TimeoutError:
            raise UnclearAnswerError(f"{self.name}: it does not answer within {self.seconds:g} s") from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise HypervisorError(f"{self.name}: {printable(str(error) or type(error).__name__, 200)}") from None
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise UnclearAnswerError(f"{self.name}: {printable(str(error) or type(error).__name__, 200)}") from None
        if 200 <= status < 300:
            return _object(answer)
        if status in self.no_answer:
            raise UnclearAnswerError(f"{self.name} answers {status}")
        raise HypervisorError(f"{self.name} refuses ({status}): {_why(_object(answer))}")

    async def _answer(self, method: str, url: str, headers: Mapping[str, str], content: bytes, verify: ssl.SSLContext) -> tuple[int, bytes]:
        import httpx

        # One limit on all of it: httpx's own are for each read, and an answer that drips can have any number of those.
        async with (
            asyncio.timeout(self.seconds),
            httpx.AsyncClient(timeout=self.seconds, follow_redirects=False, verify=verify, trust_env=False) as client,
            client.stream(method, url, content=content, headers=headers) as answer,
        ):
            said = bytearray()
            async for part in answer.aiter_raw(1024):
                said += part
                if len(said) > LARGEST_ANSWER:
                    return answer.status_code, b""
            return answer.status_code, bytes(said)


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """As asyncio.run, but for the end: that would wait for the system to find a name's address, which takes half a minute if no server
    answers, though the caller has given up."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def part_of(answer: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return the object within an answer at these names, one below the other; empty where there is none."""
    for name in names:
        found = answer.get(name)
        answer = found if isinstance(found, dict) else {}
    return answer


def _why(said: Mapping[str, Any]) -> str:
    """Return the reason in a server's error: Proxmox VE in `message` and `errors`, oVirt in `detail` or `fault`."""
    parts = [said.get(name) for name in ("message", "errors", "detail")]
    parts += part_of(said, "fault").values()
    return printable("; ".join(str(part).strip() for part in parts if part) or "without a reason", 300)


def credentials(key: Path, make: str) -> str:
    """Return the content of a file that only root can read. Raises `MomError`, whose hint says how to make one."""
    text = read_secret(key, "the credentials", make).decode("utf-8", "replace").strip()
    if not text.isascii() or not text.isprintable() or not text:
        raise MomError(f"the credentials in {key} are none", hint=make)
    return text
