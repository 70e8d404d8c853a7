"""Thread that reads pods' requests from this node's kubelet."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from mom_core import MomError, PluginContext, StrictModel
from mom_kvm import read_kernel_file
from mom_plugins_kubevirt.kubelet_api import (
    Configz,
    KubeletConfig,
    KubeletDoor,
    KubeletError,
    PodList,
    PodRequest,
    config_of,
    first_answer,
    requests_in,
)
from mom_plugins_kubevirt.pods import NODE_ROOTS

_ANSWER_SECONDS: Final = 5.0
"""Timeout of one answer. A late answer delays nothing else in mom."""

_PAUSE_SECONDS: Final = 30.0
"""Pause between queries, unless new pods start."""

_SOONEST_SECONDS: Final = 5.0
"""Shortest pause between two queries."""

_ACCOUNT: Final = "var/run/secrets/kubernetes.io/serviceaccount"
"""Folder with the credentials of a container's service account."""

_CLIENT_CERTIFICATE: Final = "var/lib/kubelet/pki/kubelet-client-current.pem"
"""The node's own certificate with its key. mom uses it if there is no token, or if the kubelet refuses the token."""

_OWN_CERTIFICATES: Final = ("var/lib/kubelet/pki/kubelet-server-current.pem", "var/lib/kubelet/pki/kubelet.crt")
"""The kubelet's own certificates: one signed by the cluster (`serverTLSBootstrap`), and one that the kubelet signs itself."""


class KubeletSettings(StrictModel):
    """Access to the node's kubelet, for pods' requests and eviction thresholds."""

    address: str = ""
    """The kubelet's address. Unset: the variable HOST_IP, or else this machine (127.0.0.1)."""
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """The kubelet's TLS port. Unset: the port in its configuration, or else 10250."""
    node: str = ""
    """The node's name in the kubelet's certificate. Unset: the variable NODE_NAME, or else the host's name."""
    ca: Path | None = None
    """Certificate of the authority (CA) that signs node certificates. mom verifies the kubelet's certificate before it sends anything.
    Unset: mom expects the certificate that the kubelet has on this node, or if that is unreadable, one signed by the cluster's CA."""


@dataclass(frozen=True, slots=True)
class KubeletState:
    """Last answers of the kubelet. `door` describes the address and login that worked. `error` is empty if the last query succeeded."""

    pods: Mapping[str, PodRequest] = field(default_factory=dict)
    config: KubeletConfig = field(default_factory=KubeletConfig)
    door: str = ""
    error: str = ""
    hint: str = ""
    asked: bool = False
    asked_for: Set[str] = frozenset()
    """UIDs of the pods that were on the node before the last query. If that query failed, also UIDs of pods that started during it."""


class KubeletWatch:
    """Thread that queries the kubelet, and starts a cycle when an answer matters for guests. Any thread may read `state`.

    :param seconds: timeout of one answer
    """

    def __init__(self, context: PluginContext, settings: KubeletSettings, seconds: float = _ANSWER_SECONDS) -> None:
        self._context, self._settings, self._seconds = context, settings, seconds
        self._log = context.log.getChild("kubelet")
        self.state = KubeletState()
        self._config_answer: Mapping[str, Any] | None = None
        self._expected: frozenset[str] = frozenset()
        self._soon, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._thread.start()

    def awaits(self, uid: str) -> bool:
        """Return whether mom still waits for the kubelet's first answer since this pod started."""
        return self._thread is not None and uid not in self.state.asked_for

    def stop(self) -> None:
        """Stop the thread. If it is waiting for an answer, leave it running."""
        self._stopping.set()
        self._soon.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(0.1)

    def expect(self, uids: Collection[str]) -> None:
        """Record which pods are on the node. If a pod is new, query the kubelet soon."""
        self._expected = frozenset(uids)
        if not self._expected <= self.state.asked_for:
            self._soon.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.ask()
            except Exception as error:  # noqa: BLE001  # no answer must end the thread
                self._log.exception("querying the kubelet failed")
                self.state = replace(self.state, error=f"querying the kubelet failed: {error}", asked=True, asked_for=self._expected)
            self._soon.clear()
            if not self._stopping.wait(_SOONEST_SECONDS):
                self._soon.wait(_PAUSE_SECONDS - _SOONEST_SECONDS)

    def ask(self) -> None:
        """Query the kubelet once. For a pod that the answer lacks, keep the earlier answer."""
        before, asked_for = self.state, self._expected
        doors = list(doors_of(self._context.root, self._settings, config_of(self._context.root)))
        try:
            door, answer = first_answer(doors, "/pods", PodList, self._seconds)
            pods = {uid: pod for uid, pod in before.pods.items() if uid in self._expected} | requests_in(answer.items or ())
            name, error, hint = str(door), "", ""
            self._ask_config(door)
        except MomError as failure:
            pods, name, error, hint = dict(before.pods), "", failure.message, failure.hint
            self._log.debug("the kubelet: %s", error)
            asked_for = self._expected
        config = config_of(self._context.root, self._config_answer)
        self.state = KubeletState(pods, config, name, error, hint, asked=True, asked_for=asked_for)
        if any(pod.leaves and not (before.pods.get(uid) or pod._replace(leaves=False)).leaves for uid, pod in pods.items()):
            self._context.wake("a guest is about to be migrated")
        elif pods.keys() - before.pods.keys():
            self._context.wake("the kubelet has reported the requests of new pods")

    def _ask_config(self, door: KubeletDoor) -> None:
        try:
            self._config_answer = door.get("/configz", Configz, self._seconds).kubeletconfig
        except KubeletError as error:  # the kubelet's file has nearly the same content
            self._log.debug("the kubelet: %s", error)


def doors_of(root: Path, settings: KubeletSettings, config: KubeletConfig) -> Iterator[KubeletDoor]:
    """Yield the doors to the kubelet: with its own certificate or that of its authority, with the token or the node's certificate."""
    host = settings.address or os.environ.get("HOST_IP", "") or "127.0.0.1"
    port = settings.port or config.port
    token, certificate = _first(root, [f"{_ACCOUNT}/token"], [""]), _first(root, [_CLIENT_CERTIFICATE], [""])
    for trusted, name in _trusted(root, settings, config):
        if token is not None:
            yield KubeletDoor(host, port, trusted, name, token=token)
        if certificate is not None:
            yield KubeletDoor(host, port, trusted, name, certificate=certificate)


def _trusted(root: Path, settings: KubeletSettings, config: KubeletConfig) -> Iterator[tuple[Path, str]]:
    name = settings.node or os.environ.get("NODE_NAME", "") or _host_name(root)
    if settings.ca is not None:
        yield root / str(settings.ca).lstrip("/"), name
        return
    own = _first(root, [config.certificate] if config.certificate else _OWN_CERTIFICATES)
    if own is not None:
        yield own, ""
    authority = _first(root, [f"{_ACCOUNT}/ca.crt", "etc/kubernetes/pki/ca.crt", config.authority])
    if authority is not None and name:
        yield authority, name


def _host_name(root: Path) -> str:
    names = (read_kernel_file(root / node / "etc/hostname").decode("ascii", "replace").strip().lower() for node in NODE_ROOTS)
    return next(filter(None, names), "")


def _first(root: Path, paths: Sequence[str], nodes: Sequence[str] = NODE_ROOTS) -> Path | None:
    return next(filter(None, (_readable(root / node, path) for path in paths for node in nodes)), None)


def _readable(root: Path, path: str) -> Path | None:
    # Follow an absolute link within the root folder.
    file = root / path.lstrip("/")
    try:
        if file.is_symlink():
            file = root / str(file.parent / file.readlink()).removeprefix(str(root)).lstrip("/")
        return file if file.is_file() and os.access(file, os.R_OK) else None
    except OSError:
        return None
