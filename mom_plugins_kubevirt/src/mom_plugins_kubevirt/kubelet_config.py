"""How the kubelet of this node is configured: by its command line, its files, and what it says itself, the newest word last.

By kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1 and pkg/kubelet/eviction/helpers.go: what the command line says counts
before the files, a drop-in before the file that it goes with, and a hard threshold is that of 100 MiB only where the operator named none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from mom_core import ConfigError, parse_document, read_file
from mom_kvm import ProcessStat, read_kernel_file
from mom_plugins_kubevirt.kubelet_api import member
from mom_plugins_kubevirt.quantities import quantity_kib

AVAILABLE: Final = "memory.available"

USUAL_HARD: Final = "100Mi"
"""The threshold of a kubelet that was told none."""

USUAL_PORT: Final = 10250

USUAL_FILE: Final = "var/lib/kubelet/config.yaml"
"""Where kubeadm puts the file."""

_MOST_BYTES: Final = 1 << 20
_MOST_FILES: Final = 64

_PROGRAMS: Final = frozenset({b"kubelet", b"hyperkube"})
"""Names of the program. k3s has the kubelet in a process of its own with everything else: there it is asked, or its drop-ins are read."""

_IN_POD: Final = re.compile(rb"pod[0-9a-f]{8}[-_]?[0-9a-f]{4}[-_]?[0-9a-f]{4}")
"""In the path of a control group: a pod's uid, which of those that a node makes of files has no hyphens. From within a container, it is all
that a path has of another pod."""

_DROP_INS: Final = ("var/lib/rancher/rke2/agent/etc/kubelet.conf.d", "var/lib/rancher/k3s/agent/etc/kubelet.conf.d")
"""Folders of drop-ins of RKE2 (Harvester) and k3s, where no command line names one."""


class Threshold(NamedTuple):
    """Memory that must be available, as it was written: KiB, or a share of what there is."""

    kib: float = 0.0
    share: float = 0.0

    def of(self, whole_kib: float) -> float:
        """The KiB that it is of so much."""
        return self.kib + self.share * whole_kib

    @classmethod
    def parse(cls, text: object) -> Threshold | None:
        """As the kubelet reads it: `100Mi`, `5%`. None for what is none, and for 0 and all of it, which switch it off."""
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
    """What matters here of the kubelet's configuration.

    `hard` and `soft`: with less memory available, pods are evicted, at once and after a while; None: not for want of memory. `holds_pods`:
    the memory of all pods together counts, too, against what is allocatable. `read_only_port` is 0 where that is closed. `certificate` is
    what it shows, as a path on the node; empty: one that it made itself, in the folder `certificates`. `authority` is the certificate of
    who signs those that it lets in, and often its own. `node` is the node's name, where the command line says it.
    `by` says where this is from; empty: from nothing, and these are the kubelet's own defaults.
    """

    hard: Threshold | None = field(default_factory=lambda: Threshold.parse(USUAL_HARD))
    soft: Threshold | None = None
    holds_pods: bool = True
    port: int = USUAL_PORT
    read_only_port: int = 0
    certificate: str = ""
    authority: str = ""
    certificates: str = "/var/lib/kubelet/pki"
    node: str = ""
    by: str = ""


class KubeletProcess(NamedTuple):
    """The kubelet that runs on this node: where its files are seen as it sees them, and the flags of its command line; where none is seen,
    the node's own root, and no flags."""

    root: Path
    flags: Mapping[str, str]


def running(root: Path) -> KubeletProcess:
    """The kubelet's process. Any process may call itself so: it is root's, in no pod, and has the process ids of the node itself, as no
    container has.

    :param root: where /proc is found
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
    """The namespace of a process's ids; empty where it may not be looked at."""
    try:
        return str((process / "ns/pid").readlink())
    except OSError:
        return ""


def flags_of(command: bytes) -> dict[str, str]:
    """The flags of a command line, as Go's reads them: `--name=value`, `--name value`."""
    words = command.decode("utf-8", "replace").split("\0")[1:]
    found: dict[str, str] = {}
    for place, word in enumerate(words):
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        if not equals:
            after = words[place + 1] if place + 1 < len(words) else ""
            value = "" if after.startswith("--") else after
        found[name] = value
    return found


def config_of(root: Path, process: KubeletProcess, said: Mapping[str, Any] | None = None) -> KubeletConfig:
    """The configuration in force.

    :param root: of the node's files
    :param said: the kubelet's own answer (`/configz`), which has all of it; None: it was not asked, or does not say
    """
    flags, (documents, by) = process.flags, _documents(root, process)
    port = _port(flags.get("port"), *(one.get("port") for one in reversed(documents)), usual=USUAL_PORT)
    read_only = _port(flags.get("read-only-port"), *(one.get("readOnlyPort") for one in reversed(documents)), usual=0)
    certificate = flags.get("tls-cert-file") or _text(documents, "tlsCertFile")
    authority = flags.get("client-ca-file") or _text(documents, "authentication", "x509", "clientCAFile")
    own = member(said, "kubeletconfig")
    if isinstance(own, Mapping):
        hard, soft, by = own.get("evictionHard") or {}, own.get("evictionSoft"), "the kubelet"  # it leaves out what is empty
        holds = own.get("enforceNodeAllocatable")
    else:
        hard = _flag(flags, "eviction-hard") if "eviction-hard" in flags else _last(documents, "evictionHard")
        soft = _flag(flags, "eviction-soft") if "eviction-soft" in flags else _last(documents, "evictionSoft")
        enforced = flags.get("enforce-node-allocatable")
        holds = _last(documents, "enforceNodeAllocatable") if enforced is None else enforced.split(",")
        by = " and ".join(one for one in (by, "its command line" if {"eviction-hard", "eviction-soft"} & flags.keys() else "") if one)
        if _last(documents, "mergeDefaultEvictionSettings") is True and "eviction-hard" not in flags:
            hard = {AVAILABLE: USUAL_HARD, **(hard if isinstance(hard, Mapping) else {})}
        hard = {AVAILABLE: USUAL_HARD} if hard is None else hard
    return KubeletConfig(
        Threshold.parse(hard.get(AVAILABLE)) if isinstance(hard, Mapping) else None,
        Threshold.parse(soft.get(AVAILABLE)) if isinstance(soft, Mapping) else None,
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
    """The thresholds of a flag, `memory.available<100Mi,nodefs.available<10%`."""
    pairs = (one.partition("<") for one in flags[name].split(","))
    return {signal.strip(): value.strip() for signal, less, value in pairs if less}


def _documents(root: Path, process: KubeletProcess) -> tuple[Sequence[Mapping[str, Any]], str]:
    """The files of the configuration, in their order, and the name of the first."""
    within, flags = process
    files = [within / (flags.get("config") or USUAL_FILE).lstrip("/")]
    if not files[0].exists() and not flags.get("config"):
        files = [root / USUAL_FILE]
    folders = [within / flags["config-dir"].lstrip("/")] if flags.get("config-dir") else [root / one for one in _DROP_INS]
    for folder in folders:
        files += sorted(_drop_ins(folder))[:_MOST_FILES]
    read = [(path, document) for path in files if (document := _document(path)) is not None]
    return [document for _, document in read], str(read[0][0]).removeprefix(str(within)) if read else ""


def _drop_ins(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from folder.glob("*.conf")


def _document(path: Path) -> Mapping[str, Any] | None:
    """The content of one file; None where it is none, or too large."""
    try:
        content = read_file(path, _MOST_BYTES)
        found = parse_document(content.decode(), path.name).value if len(content) <= _MOST_BYTES else None
    except (OSError, ConfigError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _last(documents: Sequence[Mapping[str, Any]], name: str) -> object:
    """The value of the last file that has one. Thresholds of several files are joined, as the kubelet does it."""
    found: object = None
    for one in documents:
        value = one.get(name)
        if value is None:
            continue
        found = {**found, **value} if isinstance(found, dict) and isinstance(value, dict) else value
    return found


def _text(documents: Sequence[Mapping[str, Any]], *names: str) -> str:
    found = [value for one in documents if isinstance(value := member(one, *names), str)]
    return found[-1] if found else ""


def _port(*said: object, usual: int) -> int:
    for one in said:
        port = int(one) if isinstance(one, str) and one.isascii() and one.isdigit() and len(one) < 6 else one
        if isinstance(port, int) and not isinstance(port, bool) and 0 <= port < 65_536:
            return port
    return usual
