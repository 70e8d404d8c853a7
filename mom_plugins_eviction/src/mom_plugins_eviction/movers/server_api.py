"""A management's HTTP API with answers in JSON: its key stands in a file, and no answer is told apart from a no."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from mom_core import Finding, HypervisorError, MomError, Severity, hookimpl, printable, read_secret
from mom_plugins_eviction.movers.web_requests import WebRequestError, trusted_certificates, web_request
from mom_toolkit import Mover

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
    :param key: the file with what lets mom in
    :param make: how to make one, for errors
    :param headers: makes of what stands in the file the headers of a request
    :param no_answer: statuses by which a proxy before the API says that it does not know what became of a request
    """

    name: str
    url: str
    key: Path
    make: str
    headers: Callable[[str], Mapping[str, str]]
    ca: Path | None = None
    no_answer: frozenset[int] = frozenset({408, 429, 502, 503, 504})

    def check(self) -> None:
        """Raises `MomError` when the files cannot be used."""
        self._lets_in()
        trusted_certificates(self.ca)

    def _lets_in(self) -> Mapping[str, str]:
        text = read_secret(self.key, "the credentials", self.make).decode("utf-8", "replace").strip()
        if not text.isascii() or not text.isprintable() or not text:
            raise MomError(f"the credentials in {self.key} are none", hint=self.make)
        return self.headers(text)

    def ask(self, method: str, path: str, content: bytes = b"", kind: str = "") -> Mapping[str, Any]:
        """The answer's JSON object.

        :param path: below the URL, made of parts that were checked
        :param kind: of the content
        :raises HypervisorError: it was refused, or never sent: nothing was done
        :raises UnclearAnswerError: it may have been done
        """
        try:
            headers, verify = {**self._lets_in(), **({"Content-Type": kind} if kind else {})}, trusted_certificates(self.ca)
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
    """What servers say in their errors: Proxmox VE in `message` and `errors`, oVirt in `detail` or `fault`."""
    fault = said.get("fault")
    parts = [said.get("message"), said.get("errors"), said.get("detail"), *(fault.values() if isinstance(fault, dict) else ())]
    return printable("; ".join(str(part).strip() for part in parts if part) or "without a reason", 300)


class ServerMover(Mover, Protocol):
    """A mover that can ask its server who it is."""

    def check(self) -> str:
        """The server's version; raises `MomError` when it does not let mom in."""


class ServerMoverPlugin:
    """The hooks of a plugin whose mover asks such an API; each has settings of its own."""

    def __init__(self, api: ServerApi, mover: ServerMover, server: str, who: str) -> None:
        """`server` is what mom doctor calls it, `who` what its sentence begins with."""
        self._api, self._mover, self._server, self._who = api, mover, server, who

    @hookimpl
    def mom_setup(self) -> None:
        """See that there is what lets mom in. Raises `MomError`."""
        self._api.check()

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        """The mover."""
        return {Mover: self._mover}

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        """Whether the API lets mom in."""
        try:
            self._api.check()
            yield Finding(Severity.OK, self._server, f"{self._who} lets mom in (version {self._mover.check()})")
        except MomError as error:
            yield Finding(Severity.ERROR, self._server, error.message, error.hint or self._api.make)
