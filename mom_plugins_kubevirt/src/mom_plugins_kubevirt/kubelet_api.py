"""Client of the kubelet's HTTP API on this node."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mom_core import MomError, printable, read_file

MOST_BYTES: Final = 16 << 20
"""Longest answer that mom reads: 64 KiB for each of 250 pods, which the largest nodes run."""

_MOST_TOKEN: Final = 16 << 10

_KEPT: Final = frozenset(
    {
        "items", "metadata", "uid", "name", "annotations", "spec", "containers", "resources", "requests", "memory",
        "descheduler.alpha.kubernetes.io/eviction-in-progress", "kubeletconfig", "evictionHard", "evictionSoft", "memory.available",
        "mergeDefaultEvictionSettings", "enforceNodeAllocatable",
    }
)  # fmt: skip
"""Names of the JSON members that mom reads. The parser drops all other members."""


_QUANTITY: Final = re.compile(r"\+?([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?")
_SUFFIXES: Final = {
    **{f"{letter}i": float(1 << 10 * place) for place, letter in enumerate("KMGTPE", 1)},
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
}  # fmt: skip
_LARGEST_QUANTITY: Final = float(1 << 60)
"""An exbibyte; larger values are invalid."""


class KubeletError(MomError):
    """Invalid or missing answer of the kubelet."""


@dataclass(frozen=True, slots=True)
class KubeletDoor:
    """Address of the kubelet, with credentials.

    :param trusted: file with the certificate of the kubelet or of its signer; None for plain HTTP
    :param names: required name in the certificate; empty if `trusted` is the kubelet's own
    :param token: file with mom's token
    :param certificate: file with mom's client certificate and key
    """

    host: str
    port: int
    trusted: Path | None = None
    names: str = ""
    token: Path | None = None
    certificate: Path | None = None

    def __str__(self) -> str:
        plain = "" if self.trusted is not None else ", read-only"
        login = f" with the token {self.token}" if self.token else f" with the certificate {self.certificate}" if self.certificate else ""
        return f"port {self.port}{plain}{login}"

    def get(self, path: str, seconds: float) -> Mapping[str, Any]:
        """Return the JSON object at this path, with only the members that mom reads.

        :param seconds: timeout of the whole answer
        :raises KubeletError: the kubelet gave no valid answer
        """
        try:
            status, content = self._answer(path, seconds)
        except ssl.SSLCertVerificationError as error:
            raise KubeletError(f"{self}: its certificate is not the node's: {printable(error.verify_message, 200)}") from None
        except TimeoutError:
            raise KubeletError(f"{self}: no complete answer within {seconds:g} s") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise KubeletError(f"{self}: {printable(str(error) or type(error).__name__, 200)}") from None
        if status in {401, 403}:
            raise KubeletError(
                f"{self}: it refuses {path} ({status})", hint="allow mom's service account to get nodes/pods and nodes/configz"
            )
        if status != 200:
            raise KubeletError(f"{self}: it answers {status} to {path}")
        return _object(content, f"{self}: {path}")

    def _answer(self, path: str, seconds: float) -> tuple[int, bytes]:
        until = time.monotonic() + seconds
        with closing(socket.create_connection((self.host, self.port), seconds)) as plain:
            stream = plain if self.trusted is None else self._context(self.trusted).wrap_socket(
                plain, server_hostname=self.names or None, do_handshake_on_connect=False
            )  # fmt: skip
            with closing(stream):
                # A socket's timeout applies to each read. The timer limits the whole answer.
                cut = threading.Timer(max(0.0, until - time.monotonic()), _shut, [stream])
                cut.daemon = True
                cut.start()
                try:
                    return self._asked(stream, path)
                except (OSError, ValueError, http.client.HTTPException):
                    if time.monotonic() >= until:
                        raise TimeoutError from None
                    raise
                finally:
                    cut.cancel()

    def _asked(self, stream: socket.socket, path: str) -> tuple[int, bytes]:
        if isinstance(stream, ssl.SSLSocket):
            stream.do_handshake()
        connection = http.client.HTTPConnection(self.host, self.port)
        connection.sock = stream
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {_token(self.token)}"
        connection.request("GET", path, headers=headers)
        with closing(connection.getresponse()) as answer:
            content = answer.read(MOST_BYTES + 1)
            if len(content) > MOST_BYTES:
                raise ValueError(f"its answer to {path} exceeds {MOST_BYTES >> 20} MiB")
            if answer.length:
                raise ValueError("its answer ended too soon")
            return answer.status, content

    def _context(self, trusted: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = bool(self.names)
        if not self.names:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cafile=str(trusted))
        if self.certificate is not None:
            context.load_cert_chain(str(self.certificate))
        return context


def first_answer(doors: Sequence[KubeletDoor], path: str, seconds: float) -> tuple[KubeletDoor, Mapping[str, Any]]:
    """Return the first door that answers, and its answer. Raise `KubeletError` with all errors."""
    errors: list[KubeletError] = []
    for door in doors:
        try:
            return door, door.get(path, seconds)
        except KubeletError as error:
            errors.append(error)
    if not errors:
        raise KubeletError("mom cannot ask the kubelet: mom has no certificate to verify it, and it has no read-only port")
    raise KubeletError("; ".join(error.message for error in errors), hint=next((error.hint for error in errors if error.hint), ""))


def _shut(stream: socket.socket) -> None:
    with suppress(OSError):  # already closed
        stream.shutdown(socket.SHUT_RDWR)


def _token(path: Path) -> str:
    # Kubernetes renews the token every hour, so each query reads it again.
    text = read_file(path, _MOST_TOKEN).decode("ascii", "replace").strip()
    if not text.isprintable() or not text.isascii() or " " in text or not text:
        raise ValueError(f"{path} contains no token")
    return text


def _kept(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in members if name in _KEPT}


def _object(content: bytes, subject: str) -> Mapping[str, Any]:
    try:
        document = json.loads(content, object_pairs_hook=_kept)
    except (ValueError, RecursionError):
        raise KubeletError(f"{subject}: the answer is not JSON") from None
    if not isinstance(document, dict):
        raise KubeletError(f"{subject}: the answer is not an object")
    return document


def member(value: object, *names: str) -> object:
    """Return the value at a path through nested objects; None if it does not exist."""
    for name in names:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def objects_of(values: object, most: int) -> Iterator[Mapping[str, Any]]:
    """Yield at most `most` objects of a list; nothing for another type."""
    for value in values[:most] if isinstance(values, list) else ():
        if isinstance(value, Mapping):
            yield value


def quantity_kib(text: object) -> float | None:
    """Return a Kubernetes quantity such as `100Mi` in KiB (k8s.io/apimachinery, pkg/api/resource); None if invalid or negative."""
    if isinstance(text, int) and not isinstance(text, bool):
        text = str(text)
    match = _QUANTITY.fullmatch(text.strip()) if isinstance(text, str) and len(text) <= 60 else None
    if match is None:
        return None
    number, suffix = float(match[1]), match[2] or ""
    size = number * (_SUFFIXES[suffix] if suffix in _SUFFIXES else 10.0 ** int(suffix[1:]))
    return size / 1024 if size <= _LARGEST_QUANTITY else None
