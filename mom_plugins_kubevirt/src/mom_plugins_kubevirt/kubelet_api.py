"""Client of the kubelet's HTTP API on this node."""

from __future__ import annotations

import http.client
import re
import ssl
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from mom_core import MomError, printable, read_file

MOST_BYTES: Final = 16 << 20
"""Longest answer that mom reads: 64 KiB for each of 250 pods on the largest nodes."""

_PART_BYTES: Final = 64 << 10

_MOST_TOKEN: Final = 16 << 10

_QUANTITY: Final = re.compile(r"\+?([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?")
_SUFFIXES: Final = {
    **{f"{letter}i": float(1 << 10 * place) for place, letter in enumerate("KMGTPE", 1)},
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
}  # fmt: skip
_LARGEST_QUANTITY: Final = float(1 << 60)
"""Largest valid quantity: an exbibyte."""


class KubeletError(MomError):
    """Invalid or missing answer of the kubelet."""


class _Metadata(BaseModel):
    uid: str
    annotations: dict[str, str] = Field(default_factory=dict)


class _Resources(BaseModel):
    requests: dict[str, str] = Field(default_factory=dict)


class _Container(BaseModel):
    name: str
    resources: _Resources = _Resources()


class _PodSpec(BaseModel):
    containers: list[_Container]


class Pod(BaseModel):
    """Pod with the parts that mom reads."""

    metadata: _Metadata
    spec: _PodSpec


def _pod_or_none(value: object, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


class PodList(BaseModel):
    """Answer to `/pods`. Kubelets that have just started answer null. Invalid pods are None."""

    items: list[Annotated[Pod | None, WrapValidator(_pod_or_none)]] | None = None


class Configz(BaseModel):
    """Answer to `/configz`: the configuration in force."""

    kubeletconfig: dict[str, Any]


M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class KubeletDoor:
    """Address of the kubelet, with credentials.

    :param trusted: file with the certificate of the kubelet or of its signer
    :param names: required name in the certificate; empty if `trusted` is the kubelet's own certificate
    :param certificate: file with mom's client certificate and key
    """

    host: str
    port: int
    trusted: Path
    names: str = ""
    token: Path | None = None
    certificate: Path | None = None

    def __str__(self) -> str:
        return f"port {self.port} with the " + (f"token {self.token}" if self.token else f"certificate {self.certificate}")

    def get(self, path: str, model: type[M], seconds: float) -> M:
        """Request `path`; return the answer. Raise `KubeletError` if the answer is missing or invalid.

        :param seconds: time limit for the whole answer
        """
        try:
            status, content = self._answer(path, seconds)
        except ssl.SSLCertVerificationError as error:
            raise KubeletError(f"{self}: the certificate is not the node's: {printable(error.verify_message, 200)}") from None
        except TimeoutError:
            raise KubeletError(f"{self}: no complete answer within {seconds:g} s") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise KubeletError(f"{self}: {printable(str(error) or type(error).__name__, 200)}") from None
        if status in {401, 403}:
            raise KubeletError(
                f"{self}: the kubelet refuses {path} ({status})", hint="allow mom's service account to get nodes/pods and nodes/configz"
            )
        if status != 200:
            raise KubeletError(f"{self}: the kubelet answers {status} to {path}")
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            raise KubeletError(f"{self}: {path}: the answer is invalid: {printable(error.errors()[0]['msg'], 200)}") from None

    def _answer(self, path: str, seconds: float) -> tuple[int, bytes]:
        until = time.monotonic() + seconds
        connection = http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        with closing(connection):
            connection.connect()
            connection.sock = self._context().wrap_socket(connection.sock, server_hostname=self.names or None)
            connection.request("GET", path, headers={} if self.token is None else {"Authorization": f"Bearer {_token(self.token)}"})
            with closing(connection.getresponse()) as answer:
                content = bytearray()
                while part := answer.read1(_PART_BYTES):
                    content += part
                    if len(content) > MOST_BYTES:
                        raise ValueError(f"its answer to {path} exceeds {MOST_BYTES >> 20} MiB")
                    if time.monotonic() >= until:  # a socket's timeout applies to each read
                        raise TimeoutError
                if answer.length:
                    raise ValueError("its answer ended too soon")
                return answer.status, bytes(content)

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = bool(self.names)
        if not self.names:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cafile=str(self.trusted))
        if self.certificate is not None:
            context.load_cert_chain(str(self.certificate))
        return context


def first_answer(doors: Sequence[KubeletDoor], path: str, model: type[M], seconds: float) -> tuple[KubeletDoor, M]:
    """Return the first door that answers, and its answer. If none answers, raise `KubeletError` with all errors."""
    errors: list[KubeletError] = []
    for door in doors:
        try:
            return door, door.get(path, model, seconds)
        except KubeletError as error:
            errors.append(error)
    if not errors:
        raise KubeletError("mom cannot query the kubelet: mom has no certificate to verify it, or no login")
    raise KubeletError("; ".join(error.message for error in errors), hint=next((error.hint for error in errors if error.hint), ""))


def _token(path: Path) -> str:
    # Kubernetes renews the token every hour, so each query reads it again.
    text = read_file(path, _MOST_TOKEN).decode("ascii", "replace").strip()
    if not text.isprintable() or not text.isascii() or " " in text or not text:
        raise ValueError(f"{path} contains no token")
    return text


def quantity_kib(text: str) -> float | None:
    """Return a Kubernetes quantity such as `100Mi` in KiB (k8s.io/apimachinery, pkg/api/resource); None if invalid or negative."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        return None
    number, suffix = float(match[1]), match[2] or ""
    size = number * (_SUFFIXES[suffix] if suffix in _SUFFIXES else 10.0 ** int(suffix[1:]))
    return size / 1024 if size <= _LARGEST_QUANTITY else None
