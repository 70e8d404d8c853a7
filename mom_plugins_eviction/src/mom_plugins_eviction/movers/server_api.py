"""A management's HTTP API with answers in JSON: its key stands in a file, and no answer is told apart from a no."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mom_core import HypervisorError, MomError, printable, read_secret
from mom_plugins_eviction.movers.reports import UNKNOWN
from mom_plugins_eviction.movers.web_requests import WebRequestError, trusted_certificates, web_request
from mom_toolkit import MoveJob, MoveReport

ANSWER_SECONDS: Final = 15.0
"""For one request; a call of a mover makes two or three."""

LARGEST_ANSWER: Final = 4 << 20
"""Bytes: a node's list of guests, or a machine's description."""


class UnclearAnswerError(MomError):
    """It is not known whether what was asked for was done."""


@dataclass(frozen=True, slots=True)
class ServerApi:
    """Where the API is, and by what mom is let in.

    :param name: of the mover, for errors
    :param headers: the headers that let a request with that content in, as the files with credentials are now; raises `MomError`
    :param no_answer: statuses by which it is not known what became of a request, such as those of a proxy before the API
    """

    name: str
    url: str
    headers: Callable[[bytes], Mapping[str, str]]
    ca: Path | None = None
    no_answer: frozenset[int] = frozenset({408, 429, 502, 503, 504})

    def check(self) -> None:
        """Raises `MomError` when the files cannot be used."""
        self.headers(b"")
        trusted_certificates(self.ca)

    def ask(self, method: str, path: str, content: bytes = b"", kind: str = "") -> Mapping[str, Any]:
        """The answer's JSON object.

        :param path: below the URL, made of parts that were checked
        :param kind: of the content
        :raises HypervisorError: it was refused, or never sent: nothing was done
        :raises UnclearAnswerError: it may have been done
        """
        try:
            headers = {**self.headers(content), **({"Content-Type": kind} if kind else {})}
            verify = trusted_certificates(self.ca)
        except MomError as error:
            raise HypervisorError(f"{self.name}: {error.message}", hint=error.hint) from None
        try:
            answer = web_request(
                method,
                self.url.rstrip("/") + path,
                verify=verify,
                headers={"Accept": "application/json", **headers},
                content=content,
                seconds=ANSWER_SECONDS,
                largest=LARGEST_ANSWER,
            )
        except WebRequestError as error:
            if error.sent:
                raise UnclearAnswerError(f"{self.name}: {error.message}") from None
            raise HypervisorError(f"{self.name}: {error.message}") from None
        if answer.is_good:
            return answer.json()
        if answer.status in self.no_answer:
            raise UnclearAnswerError(f"{self.name} answers {answer.status}")
        raise HypervisorError(f"{self.name} refuses ({answer.status}): {_why(answer.json())}")


def _why(said: Mapping[str, Any]) -> str:
    """The reason in a server's error: Proxmox VE in `message` and `errors`, oVirt in `detail` or `fault`, webhooks in `error`."""
    parts = [said.get(name) for name in ("message", "errors", "detail", "error")]
    parts += said["fault"].values() if isinstance(said.get("fault"), dict) else ()
    return printable("; ".join(str(part).strip() for part in parts if part) or "without a reason", 300)


def credentials(key: Path, make: str) -> str:
    """The content of a file that only root can read. Raises `MomError`, whose hint says how to make one."""
    text = read_secret(key, "the credentials", make).decode("utf-8", "replace").strip()
    if not text.isascii() or not text.isprintable() or not text:
        raise MomError(f"the credentials in {key} are none", hint=make)
    return text


class ServerMover:
    """The part of a `Mover` on such an API that all have in common: what an answer that is not clear means."""

    def begin(self, job: MoveJob) -> str:
        """A refusal has begun nothing; without a clear answer it may have been begun, and is looked for."""
        try:
            return self.ask_to_begin(job)
        except UnclearAnswerError:
            return ""

    def look(self, job: MoveJob) -> MoveReport:
        """As the server says; what it does not say clearly is unknown."""
        try:
            return self.ask_how(job)
        except (HypervisorError, UnclearAnswerError):
            return UNKNOWN

    def cancel(self, job: MoveJob) -> None:
        """Raises `HypervisorError` when the server does not take it."""
        try:
            self.ask_to_cancel(job)
        except UnclearAnswerError as error:
            raise HypervisorError(error.message) from None

    def ask_to_begin(self, job: MoveJob) -> str:
        """Begin it, and return the reference. Raises `HypervisorError` and `UnclearAnswerError`, as the others do."""
        raise NotImplementedError

    def ask_how(self, job: MoveJob) -> MoveReport:
        """How it is."""
        raise NotImplementedError

    def ask_to_cancel(self, job: MoveJob) -> None:
        """Give it up."""
        raise NotImplementedError
