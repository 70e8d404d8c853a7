"""Reader of the kubelet's configuration.

mom prefers the kubelet's own answer, then its command line, then its files (kubelet-config.v1beta1, pkg/kubelet/eviction/helpers.go).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import AliasPath, BaseModel, ConfigDict, Field, ValidationError

from mom_core import ConfigError, Document, read_file
from mom_kvm import ProcessStat, read_kernel_file
from mom_plugins_kubevirt.kubelet_api import quantity_kib

_AVAILABLE: Final = "memory.available"

_USUAL_HARD: Final = "100Mi"

_USUAL_FILE: Final = "var/lib/kubelet/config.yaml"
"""Configuration file that kubeadm writes."""

_MOST_BYTES: Final = 1 << 20
_MOST_FILES: Final = 64

_PROGRAMS: Final = frozenset({b"kubelet", b"hyperkube"})
"""Names of processes that contain the kubelet. k3s is missing: it runs the kubelet in its own process, without the kubelet's flags."""

_IN_POD: Final = re.compile(rb"pod[0-9a-f]{8}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}")
"""A pod's UID in a cgroup path. UIDs of static pods have no hyphens."""

_DROP_INS: Final = ("var/lib/rancher/rke2/agent/etc/kubelet.conf.d", "var/lib/rancher/k3s/agent/etc/kubelet.conf.d")
"""Folders of RKE2 (Harvester) and k3s, used if no command line specifies a folder."""

_FLAGS: Final = {
    "port": "port", "read-only-port": "readOnlyPort", "tls-cert-file": "tlsCertFile", "cert-dir": "certificates",
    "hostname-override": "node",
}  # fmt: skip
"""The kubelet's settings, keyed by command-line flag."""

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
    read_only_port: int = Field(default=0, validation_alias="readOnlyPort")
    certificate: str = Field(default="", validation_alias="tlsCertFile")
    authority: str = Field(default="", validation_alias=AliasPath("authentication", "x509", "clientCAFile"))
    certificates: str = "/var/lib/kubelet/pki"
    node: str = ""
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


class KubeletProcess(NamedTuple):
    """Process of the kubelet: the root folder that it sees, and its flags."""

    root: Path
    flags: Mapping[str, str]


def running(root: Path) -> KubeletProcess:
    """Return the kubelet's process. If there is none, return the root folder and no flags.

    The process must run as root, outside pods, in the node's process namespace.
    """
    proc = root / "proc"
    nodes = _process_ids_of(proc / "1")
    for pid in ProcessStat.ids(proc) or ():
        folder = proc / str(pid)
        if read_kernel_file(f"{folder}/comm").strip() not in _PROGRAMS or _IN_POD.search(read_kernel_file(f"{folder}/cgroup")):
            continue
        try:
            roots = folder.stat().st_uid == 0
        except OSError:
            continue
        if roots and _process_ids_of(folder) == nodes:
            return KubeletProcess(folder / "root", flags_of(read_kernel_file(f"{folder}/cmdline")))
    return KubeletProcess(root, {})


def _process_ids_of(process: Path) -> str:
    try:
        return str((process / "ns/pid").readlink())
    except OSError:
        return ""


def flags_of(command: bytes) -> dict[str, str]:
    """Return the flags of a command line in Go's syntax: `--name=value`, `--name value`."""
    words = command.decode("utf-8", "replace").split("\0")[1:]
    flags: dict[str, str] = {}
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            flags[name] = value if equals else "" if after.startswith("--") else after
    return flags


def config_of(root: Path, process: KubeletProcess, answer: Mapping[str, Any] | None = None) -> KubeletConfig:
    """Return the kubelet's configuration in force, with defaults instead of invalid values."""
    document, sources = _of_files(root, process)
    by_flags = _of_flags(process.flags)
    document |= by_flags
    if by_flags.keys() & set(_OWN):
        sources = [*sources, "its command line"]
    if answer is not None:
        document |= {name: answer.get(name) for name in _OWN} | {"evictionHard": answer.get("evictionHard") or {}}
        sources = ["the kubelet"]
    if answer is not None or "evictionHard" in by_flags:
        document["mergeDefaultEvictionSettings"] = False
    try:
        return KubeletConfig.model_validate({**document, "by": " and ".join(sources)})
    except ValidationError as error:
        for problem in error.errors():
            document.pop(str(problem["loc"][0]), None)
        return KubeletConfig.model_validate({**document, "by": " and ".join(sources)})


def _of_flags(flags: Mapping[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = {name: flags[flag] for flag, name in _FLAGS.items() if flags.get(flag)}
    if "client-ca-file" in flags:
        document["authentication"] = {"x509": {"clientCAFile": flags["client-ca-file"]}}
    for flag, name in (("eviction-hard", "evictionHard"), ("eviction-soft", "evictionSoft")):
        if flag in flags:
            pairs = (pair.partition("<") for pair in flags[flag].split(","))
            document[name] = {signal.strip(): value.strip() for signal, less, value in pairs if less}
    if "enforce-node-allocatable" in flags:
        document["enforceNodeAllocatable"] = flags["enforce-node-allocatable"].split(",")
    return document


def _of_files(root: Path, process: KubeletProcess) -> tuple[dict[str, Any], Sequence[str]]:
    # Later files win. Mappings, such as thresholds, are joined.
    within, flags = process
    files = [within / (flags.get("config") or _USUAL_FILE).lstrip("/")]
    if not files[0].exists() and not flags.get("config"):
        files = [root / _USUAL_FILE]
    folders = [within / flags["config-dir"].lstrip("/")] if flags.get("config-dir") else [root / folder for folder in _DROP_INS]
    for folder in folders:
        files += sorted(folder.glob("*.conf"))[:_MOST_FILES]
    merged: dict[str, Any] = {}
    sources: list[str] = []
    for path in files:
        if (document := _document(path)) is not None:
            joined = {name: {**merged[name], **value} for name, value in document.items() if _are_mappings(merged.get(name), value)}
            merged |= {name: value for name, value in document.items() if value is not None} | joined
            sources = sources or [str(path).removeprefix(str(within))]
    return merged, sources


def _are_mappings(*values: object) -> bool:
    return all(isinstance(value, dict) for value in values)


def _document(path: Path) -> Mapping[str, Any] | None:
    try:
        content = read_file(path, _MOST_BYTES)
        document = Document.parse(content.decode(), path.name).value if len(content) <= _MOST_BYTES else None
    except (OSError, ConfigError, ValueError):
        return None
    return document if isinstance(document, dict) else None
