"""Client of the kubelet's HTTP API on this node, and the kubelet's configuration."""

from __future__ import annotations

import http.client
import re
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar

from pydantic import AliasPath, BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from mom_core import ConfigError, Document, MomError, printable, read_file
from mom_plugins_kubevirt.pods import NODE_ROOTS

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


class _Container(BaseModel):
    name: str
    requests: dict[str, str] = Field(default_factory=dict, validation_alias=AliasPath("resources", "requests"))


class Pod(BaseModel):
    """Pod with the parts that mom reads."""

    uid: str = Field(validation_alias=AliasPath("metadata", "uid"))
    annotations: dict[str, str] = Field(default_factory=dict, validation_alias=AliasPath("metadata", "annotations"))
    containers: list[_Container] = Field(validation_alias=AliasPath("spec", "containers"))


def _pod_or_none(value: object, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


class PodList(BaseModel):
    """Answer to `/pods`. Kubelets that have just started answer null. Invalid pods are None."""

    items: list[Annotated[Pod | None, WrapValidator(_pod_or_none)]] | None = None


COMPUTE: Final = "compute"
"""Name of the container in which QEMU runs."""

EVICTED: Final = "descheduler.alpha.kubernetes.io/eviction-in-progress"
"""Annotation of a pod whose guest must move (kubevirt/kubevirt, pkg/virt-controller/watch/drain/evacuation)."""


class PodRequest(NamedTuple):
    """Pod as the kubelet reports it. `memory` is the request of the container `compute` in KiB. `leaves`: whether the guest must move."""

    memory: float | None
    leaves: bool = False


def requests_in(pods: Iterable[Pod | None]) -> dict[str, PodRequest]:
    """Return the pods with a container `compute`, keyed by UID."""
    requests: dict[str, PodRequest] = {}
    for pod in filter(None, pods):
        for container in pod.containers:
            if container.name == COMPUTE:
                memory = quantity_kib(container.requests.get("memory", ""))
                requests[pod.uid] = PodRequest(memory, EVICTED in pod.annotations)
    return requests


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


# --- the configuration: the kubelet's own answer, or else the file that kubeadm writes (kubelet-config.v1beta1) ----------------------

_AVAILABLE: Final = "memory.available"

_USUAL_HARD: Final = "100Mi"

_FILE: Final = "var/lib/kubelet/config.yaml"

_LARGEST_FILE: Final = 1 << 20

_NO_SOURCE: Final = "its defaults, because mom found no configuration of it"

_OWN: Final = ("evictionHard", "evictionSoft", "enforceNodeAllocatable")
"""Settings that mom takes from the kubelet's own answer."""


class Threshold(NamedTuple):
    """Threshold of available memory, in KiB or as a share of all memory."""

    kib: float = 0.0
    share: float = 0.0

    def of(self, whole_kib: float) -> float:
        """Return the threshold in KiB for a node with this much memory."""
        return self.kib + self.share * whole_kib

    @classmethod
    def parse(cls, text: str) -> Threshold | None:
        """Parse a threshold such as `100Mi` or `5%`. Return None if invalid, and for 0 and 100 %, which mean no threshold."""
        if text.strip().endswith("%"):
            try:
                percent = float(text.strip()[:-1])
            except ValueError:
                return None
            return cls(share=percent / 100) if 0 < percent < 100 else None
        kib = quantity_kib(text)
        return cls(kib=kib) if kib else None


class KubeletConfig(BaseModel):
    """Part of the kubelet's configuration that mom needs. `by` is the source.

    `certificate` is the path of the kubelet's certificate; empty if the kubelet signs it. `authority` is the path of the CA for clients.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True, coerce_numbers_to_str=True)

    hard_thresholds: dict[str, str] | None = Field(default=None, validation_alias="evictionHard")
    soft_thresholds: dict[str, str] | None = Field(default=None, validation_alias="evictionSoft")
    merged: bool = Field(default=False, validation_alias="mergeDefaultEvictionSettings")
    enforced: list[str] | None = Field(default=None, validation_alias="enforceNodeAllocatable")
    port: int = 10250
    certificate: str = Field(default="", validation_alias="tlsCertFile")
    authority: str = Field(default="", validation_alias=AliasPath("authentication", "x509", "clientCAFile"))
    by: str = _NO_SOURCE

    @property
    def hard(self) -> Threshold | None:
        """Threshold below which the kubelet evicts pods immediately; None for never."""
        thresholds = self.hard_thresholds
        text = _USUAL_HARD if thresholds is None else thresholds.get(_AVAILABLE, _USUAL_HARD if self.merged else "")
        return Threshold.parse(text)

    @property
    def soft(self) -> Threshold | None:
        """Threshold below which the kubelet evicts pods after a grace period; None for never."""
        return Threshold.parse((self.soft_thresholds or {}).get(_AVAILABLE, ""))

    @property
    def holds_pods(self) -> bool:
        """Whether the kubelet also applies `hard` to all pods together."""
        return self.enforced is None or "pods" in self.enforced


def config_of(root: Path, answer: Mapping[str, Any] | None = None) -> KubeletConfig:
    """Return the kubelet's configuration, with defaults instead of invalid values.

    :param answer: the configuration in force according to the kubelet; None if unknown
    """
    document = next(filter(None, (_document(root / node / _FILE) for node in NODE_ROOTS)), {})
    by = f"/{_FILE}" if document else _NO_SOURCE
    if answer is not None:
        own = {name: answer.get(name) for name in _OWN}
        document |= {**own, "evictionHard": answer.get("evictionHard") or {}, "mergeDefaultEvictionSettings": False}
        by = "the kubelet"
    try:
        return KubeletConfig.model_validate({**document, "by": by})
    except ValidationError as error:
        for problem in error.errors():
            document.pop(str(problem["loc"][0]), None)
        return KubeletConfig.model_validate({**document, "by": by})


def _document(path: Path) -> dict[str, Any]:
    try:
        document = Document.parse(read_file(path, _LARGEST_FILE).decode(), path.name).value
    except (OSError, ConfigError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
