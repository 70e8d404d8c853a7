"""The kubelet's configuration: its own answer, or else the file that kubeadm writes (kubelet-config.v1beta1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import AliasPath, BaseModel, ConfigDict, Field, ValidationError

from mom_core import ConfigError, Document, read_file
from mom_plugins_kubevirt.kubelet_api import quantity_kib
from mom_plugins_kubevirt.pods import NODE_ROOTS

_AVAILABLE: Final = "memory.available"

_USUAL_HARD: Final = "100Mi"

_FILE: Final = "var/lib/kubelet/config.yaml"

_MOST_BYTES: Final = 1 << 20

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
    by: str = ""

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
    by = f"/{_FILE}" if document else ""
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
        document = Document.parse(read_file(path, _MOST_BYTES).decode(), path.name).value
    except (OSError, ConfigError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
