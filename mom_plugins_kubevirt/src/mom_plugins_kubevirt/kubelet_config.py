"""Reader of the kubelet's configuration.

mom prefers the kubelet's own answer, then its command line, then its files (kubelet-config.v1beta1, pkg/kubelet/eviction/helpers.go).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from mom_core import ConfigError, Document, read_file
from mom_kvm import ProcessStat, read_kernel_file
from mom_plugins_kubevirt.kubelet_api import member, quantity_kib

_AVAILABLE: Final = "memory.available"

_USUAL_HARD: Final = "100Mi"

_USUAL_PORT: Final = 10250

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


class Threshold(NamedTuple):
    """Threshold of available memory, in KiB or as a share of all memory."""

    kib: float = 0.0
    share: float = 0.0

    def of(self, whole_kib: float) -> float:
        """Return the threshold of a node in KiB."""
        return self.kib + self.share * whole_kib

    @classmethod
    def parse(cls, text: object) -> Threshold | None:
        """Parse a threshold such as `100Mi` or `5%`; None if invalid, or switched off by 0 or 100 %."""
        if isinstance(text, str) and text.strip().endswith("%"):
            try:
                percent = float(text.strip()[:-1][:20])
            except ValueError:
                return None
            return cls(share=percent / 100) if 0 < percent < 100 else None
        kib = quantity_kib(text)
        return cls(kib=kib) if kib else None


@dataclass(frozen=True, slots=True)
class KubeletConfig:
    """The part of the kubelet's configuration that mom needs. `by` says where it comes from.

    Below `hard`, the kubelet evicts pods immediately; below `soft`, after a grace period; None: never. If `holds_pods`, it also checks all
    pods together. `certificate` is a path on the node; empty if the kubelet signs its own. `authority` signs its clients.
    """

    hard: Threshold | None = field(default_factory=lambda: Threshold.parse(_USUAL_HARD))
    soft: Threshold | None = None
    holds_pods: bool = True
    port: int = _USUAL_PORT
    read_only_port: int = 0
    certificate: str = ""
    authority: str = ""
    certificates: str = "/var/lib/kubelet/pki"
    node: str = ""
    by: str = ""


class KubeletProcess(NamedTuple):
    """Process of the kubelet: the root folder that it sees, and its flags."""

    root: Path
    flags: Mapping[str, str]


def running(root: Path) -> KubeletProcess:
    """Find the kubelet's process; without one, return the root folder and no flags.

    It must run as root, in no pod, in the node's process namespace.

    :param root: folder that contains /proc
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
    for place, word in enumerate(words):
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        if not equals:
            after = words[place + 1] if place + 1 < len(words) else ""
            value = "" if after.startswith("--") else after
        flags[name] = value
    return flags


def config_of(root: Path, process: KubeletProcess, answer: Mapping[str, Any] | None = None) -> KubeletConfig:
    """Return the kubelet's configuration in force.

    :param root: folder of the node's files
    :param answer: the kubelet's own answer (`/configz`)
    """
    flags, (documents, by) = process.flags, _documents(root, process)
    port = _port(flags.get("port"), *(document.get("port") for document in reversed(documents)), usual=_USUAL_PORT)
    read_only = _port(flags.get("read-only-port"), *(document.get("readOnlyPort") for document in reversed(documents)), usual=0)
    certificate = flags.get("tls-cert-file") or _text(documents, "tlsCertFile")
    authority = flags.get("client-ca-file") or _text(documents, "authentication", "x509", "clientCAFile")
    own = member(answer, "kubeletconfig")
    if isinstance(own, Mapping):
        hard, soft, by = own.get("evictionHard") or {}, own.get("evictionSoft"), "the kubelet"  # empty values count as absent
        holds = own.get("enforceNodeAllocatable")
    else:
        hard = _flag(flags, "eviction-hard") if "eviction-hard" in flags else _last(documents, "evictionHard")
        soft = _flag(flags, "eviction-soft") if "eviction-soft" in flags else _last(documents, "evictionSoft")
        enforced = flags.get("enforce-node-allocatable")
        holds = _last(documents, "enforceNodeAllocatable") if enforced is None else enforced.split(",")
        by_flags = "its command line" if {"eviction-hard", "eviction-soft"} & flags.keys() else ""
        by = " and ".join(filter(None, (by, by_flags)))
        if _last(documents, "mergeDefaultEvictionSettings") is True and "eviction-hard" not in flags:
            hard = {_AVAILABLE: _USUAL_HARD, **(hard if isinstance(hard, Mapping) else {})}
        hard = {_AVAILABLE: _USUAL_HARD} if hard is None else hard
    return KubeletConfig(
        Threshold.parse(hard.get(_AVAILABLE)) if isinstance(hard, Mapping) else None,
        Threshold.parse(soft.get(_AVAILABLE)) if isinstance(soft, Mapping) else None,
        "pods" in holds if isinstance(holds, list) else True,
        port,
        read_only,
        certificate,
        authority,
        flags.get("cert-dir") or "/var/lib/kubelet/pki",
        flags.get("hostname-override", ""),
        by,
    )


def _flag(flags: Mapping[str, str], name: str) -> dict[str, str]:
    pairs = (pair.partition("<") for pair in flags[name].split(","))
    return {signal.strip(): value.strip() for signal, less, value in pairs if less}


def _documents(root: Path, process: KubeletProcess) -> tuple[Sequence[Mapping[str, Any]], str]:
    within, flags = process
    files = [within / (flags.get("config") or _USUAL_FILE).lstrip("/")]
    if not files[0].exists() and not flags.get("config"):
        files = [root / _USUAL_FILE]
    folders = [within / flags["config-dir"].lstrip("/")] if flags.get("config-dir") else [root / folder for folder in _DROP_INS]
    for folder in folders:
        files += sorted(_drop_ins(folder))[:_MOST_FILES]
    read = [(path, document) for path in files if (document := _document(path)) is not None]
    return [document for _, document in read], str(read[0][0]).removeprefix(str(within)) if read else ""


def _drop_ins(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from folder.glob("*.conf")


def _document(path: Path) -> Mapping[str, Any] | None:
    try:
        content = read_file(path, _MOST_BYTES)
        document = Document.parse(content.decode(), path.name).value if len(content) <= _MOST_BYTES else None
    except (OSError, ConfigError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _last(documents: Sequence[Mapping[str, Any]], name: str) -> object:
    # Thresholds of all documents are joined, as in the kubelet.
    latest: object = None
    for document in documents:
        value = document.get(name)
        if value is None:
            continue
        latest = {**latest, **value} if isinstance(latest, dict) and isinstance(value, dict) else value
    return latest


def _text(documents: Sequence[Mapping[str, Any]], *names: str) -> str:
    texts = [value for document in documents if isinstance(value := member(document, *names), str)]
    return texts[-1] if texts else ""


def _port(*candidates: object, usual: int) -> int:
    for candidate in candidates:
        port = (
            int(candidate)
            if isinstance(candidate, str) and candidate.isascii() and candidate.isdigit() and len(candidate) < 6
            else candidate
        )
        if isinstance(port, int) and not isinstance(port, bool) and 0 <= port < 65_536:
            return port
    return usual
