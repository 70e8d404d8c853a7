"""Requests to web servers of the operator's: one limit on each as a whole, small answers only, no redirects, no proxies of the system.

What uses these requires httpx in its own distribution: it is imported with the first request.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Secret

from mom_core import ExistingFile, MomError, printable, read_secret

Result = TypeVar("Result")

SIGNATURE: Final = "Mom-Signature"
"""The header with the signature: `t=SECONDS,v1=HEX`, the HMAC-SHA256 of `SECONDS.BODY` with the secret."""

LEAST_SECRET: Final = 16
"""Bytes. The hint gives 64 letters that stand for 32."""

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


class SecretUrl(Secret[str]):
    """A URL that opens something to all who know it, such as a webhook's: its path or its query is the secret. It is shown by its host."""

    def _display(self) -> str:
        try:
            parts = urlsplit(self.get_secret_value())
            host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
        except ValueError:
            return "**********"
        return f"{parts.scheme}://{host}/**********"


def _a_secret_server(secret: SecretUrl) -> SecretUrl:
    _a_server(secret.get_secret_value())
    return secret


WebUrl = Annotated[str, AfterValidator(_a_server)]
"""The URL of a server: by https, or on this host."""


class WebhookSettings(BaseModel):
    """A server that is told of something, and how it knows that mom tells it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    url: Annotated[SecretUrl, AfterValidator(_a_secret_server)]
    """Where events are sent, each as a POST with a JSON body. It is shown by its host: with many receivers, who knows the path may post."""
    secret: ExistingFile
    """A file with the secret that they are signed with; other users may not read it."""
    ca: ExistingFile | None = None
    """The certificates that the receiver's is checked with, as PEM. Unset: those that the system trusts."""


def webhook_secret(path: Path) -> bytes:
    """The secret in a file that no other account may read. Raises `MomError`."""
    make = f"openssl rand -hex 32 > {path}; chmod 600 {path}"
    secret = read_secret(path, "the secret", make).strip()
    if len(secret) < LEAST_SECRET:
        raise MomError(f"the secret {path} has {len(secret)} bytes", hint=f"give it {LEAST_SECRET} at least: {make}")
    return secret


def trusted_certificates(ca: Path | None) -> ssl.SSLContext:
    """The authorities that certificates are checked with. Raises `MomError`."""
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except OSError as error:  # ssl's own errors are of that kind, too
        raise MomError(f"the certificates {ca} cannot be read: {error.strerror or error}") from None


def sign(secret: bytes, at: int, body: bytes) -> str:
    """The header `SIGNATURE`."""
    return f"t={at},v1={hmac.new(secret, str(at).encode() + b'.' + body, hashlib.sha256).hexdigest()}"


def signed_headers(secret: bytes, body: bytes) -> Mapping[str, str]:
    """The headers of a signed request with that JSON body, sent now: the receiver compares the time with its own clock."""
    return {"Content-Type": "application/json", SIGNATURE: sign(secret, int(time.time()), body)}


class WebRequestError(MomError):
    """There was no answer, or none that was whole. `sent` is whether the server may have got the request nevertheless."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """An answer: its status, and its content; `whole` is False where that was larger than it may be, and is empty here."""

    status: int
    content: bytes
    whole: bool = True

    @property
    def is_good(self) -> bool:
        """True when it was done: 2xx."""
        return 200 <= self.status < 300

    def json(self) -> dict[str, Any]:
        """The content as a JSON object; empty when it is none."""
        try:
            found = json.loads(self.content)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def web_request(
    method: str, url: str, *, verify: ssl.SSLContext, headers: Mapping[str, str], content: bytes = b"", seconds: float, largest: int
) -> WebAnswer:
    """Ask a server, and wait for the whole answer, `seconds` at most for all of it. Raises `WebRequestError`.

    :param largest: bytes of the answer; more are not read
    """
    import httpx

    sent = True
    try:
        return _run(_ask(method, url, verify, headers, content, seconds, largest))
    except TimeoutError:
        why = f"it does not answer within {seconds:g} s"
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        sent, why = False, printable(str(error) or type(error).__name__, 200)
    except (httpx.HTTPError, OSError, ValueError) as error:
        why = printable(str(error) or type(error).__name__, 200)
    raise WebRequestError(why, sent=sent)


async def _ask(
    method: str, url: str, verify: ssl.SSLContext, headers: Mapping[str, str], content: bytes, seconds: float, largest: int
) -> WebAnswer:
    import httpx

    # One limit on all of it: httpx's own are for each read, and an answer that drips can have any number of those.
    async with (
        asyncio.timeout(seconds),
        httpx.AsyncClient(timeout=seconds, follow_redirects=False, verify=verify, trust_env=False) as client,
        client.stream(method, url, content=content, headers={"Accept-Encoding": "identity", **headers}) as answer,
    ):
        said = b""
        async for part in answer.aiter_raw(1024):
            said += part
            if len(said) > largest:
                return WebAnswer(answer.status_code, b"", whole=False)
        return WebAnswer(answer.status_code, said)


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """As asyncio.run, but for the end: that would wait for the system to find a name's address, which takes half a minute if no server
    answers, though the caller has given up."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
