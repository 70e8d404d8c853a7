"""The kubelet's own HTTP API on this node, asked by GET: whom it is known by, as whom mom asks, and how much of an answer is read.

By kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz: port 10250 by TLS, where a token or a client's certificate needs the
right to get `nodes/pods` and `nodes/configz` (before Kubernetes 1.33, `nodes/proxy`), and the read-only port, which is off by default.
"""

from __future__ import annotations

import http.client
import json
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
"""Of an answer: 250 pods, which a node may have where much is changed, of 64 KiB each."""

_MOST_TOKEN: Final = 16 << 10

_KEPT: Final = frozenset(
    {
        "items", "metadata", "uid", "name", "annotations", "spec", "containers", "resources", "requests", "memory",
        "descheduler.alpha.kubernetes.io/eviction-in-progress", "kubeletconfig", "evictionHard", "evictionSoft", "memory.available",
        "mergeDefaultEvictionSettings", "enforceNodeAllocatable",
    }
)  # fmt: skip
"""The members of its answers that are read; all others are left out while an answer is read, as they are nearly all of it."""


class KubeletError(MomError):
    """The kubelet gave no answer, or one that is none."""


@dataclass(frozen=True, slots=True)
class KubeletDoor:
    """One way to ask the kubelet.

    :param trusted: the certificate of the node itself, or of who signs those of nodes; None: plain HTTP
    :param names: what the certificate must say whose it is; empty: it is the node's own that is trusted
    :param token: the file with a token; None: without
    :param certificate: the file with a client's certificate and key; None: without
    """

    host: str
    port: int
    trusted: Path | None = None
    names: str = ""
    token: Path | None = None
    certificate: Path | None = None

    def __str__(self) -> str:
        how = "" if self.trusted is not None else ", read-only"
        who = f" with the token {self.token}" if self.token else f" with the certificate {self.certificate}" if self.certificate else ""
        return f"port {self.port}{how}{who}"

    def get(self, path: str, seconds: float) -> Mapping[str, Any]:
        """The JSON object at that path, of which only members that are read here are kept.

        :param seconds: for all of it, however slowly an answer comes
        :raises KubeletError: there is none
        """
        try:
            status, content = self._answer(path, seconds)
        except ssl.SSLCertVerificationError as error:
            raise KubeletError(f"{self}: its certificate is not the node's: {printable(error.verify_message, 200)}") from None
        except TimeoutError:
            raise KubeletError(f"{self}: no whole answer within {seconds:g} s") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise KubeletError(f"{self}: {printable(str(error) or type(error).__name__, 200)}") from None
        if status in {401, 403}:
            raise KubeletError(f"{self}: it refuses {path} ({status})", hint="let mom's service account get nodes/pods and nodes/configz")
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
                # The time limits of sockets are for each piece; an answer that drips is cut off.
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
                raise ValueError(f"it says more than {MOST_BYTES >> 20} MiB of {path}")
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
    """What the first door says that is open, and which one that is. Raises `KubeletError`, with what all of them said."""
    errors: list[KubeletError] = []
    for door in doors:
        try:
            return door, door.get(path, seconds)
        except KubeletError as error:
            errors.append(error)
    if not errors:
        raise KubeletError("there is no way to ask it: no certificate by which it is known, and no read-only port")
    raise KubeletError("; ".join(error.message for error in errors), hint=next((error.hint for error in errors if error.hint), ""))


def _shut(stream: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        stream.shutdown(socket.SHUT_RDWR)


def _token(path: Path) -> str:
    """The token as the file is now: Kubernetes renews it every hour."""
    text = read_file(path, _MOST_TOKEN).decode("ascii", "replace").strip()
    if not text.isprintable() or not text.isascii() or " " in text or not text:
        raise ValueError(f"{path} holds no token")
    return text


def _kept(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in members if name in _KEPT}


def _object(content: bytes, what: str) -> Mapping[str, Any]:
    try:
        found = json.loads(content, object_pairs_hook=_kept)
    except (ValueError, RecursionError):
        raise KubeletError(f"{what}: the answer is no JSON") from None
    if not isinstance(found, dict):
        raise KubeletError(f"{what}: the answer is no object")
    return found


def member(found: object, *names: str) -> object:
    """What is at the end of a path through objects; None where it does not lead there."""
    for name in names:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found


def objects_of(found: object, most: int) -> Iterator[Mapping[str, Any]]:
    """The objects of a list, at most so many."""
    for one in found[:most] if isinstance(found, list) else ():
        if isinstance(one, Mapping):
            yield one
