"""Thread that reads pods' requests from this node's kubelet."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from mom_core import MomError, PluginContext
from mom_kvm import read_kernel_file
from mom_plugins_kubevirt.kubelet_api import Configz, KubeletDoor, KubeletError, PodList, first_answer
from mom_plugins_kubevirt.kubelet_config import KubeletConfig, KubeletProcess, config_of, running
from mom_plugins_kubevirt.kubelet_settings import ACCOUNT, KubeletSettings
from mom_plugins_kubevirt.requests import PodRequest, requests_in

_PODS: Final = "/pods"
CONFIG: Final = "/configz"

_CONFIG_SECONDS: Final = 600.0
"""Pause between queries for the kubelet's configuration."""

_SOONEST_SECONDS: Final = 5.0
"""Shortest pause between two queries."""

_OWN_CERTIFICATES: Final = ("kubelet-server-current.pem", "kubelet.crt")
"""The kubelet's own certificates: one signed by the cluster (`serverTLSBootstrap`), and one that the kubelet signs itself."""
_AUTHORITIES: Final = (f"{ACCOUNT}/ca.crt", "etc/kubernetes/pki/ca.crt")


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
    """Thread that queries the kubelet, and starts a cycle when an answer matters for guests. Any thread may read `state`."""

    def __init__(self, context: PluginContext, settings: KubeletSettings) -> None:
        self._context, self._settings, self._log = context, settings, context.log.getChild("kubelet")
        self.state = KubeletState()
        self._config_answer: Mapping[str, Any] | None = None
        self._config_read_at = -_CONFIG_SECONDS
        self._expected: frozenset[str] = frozenset()
        self._soon, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._thread.start()

    def awaits(self, uid: str) -> bool:
        """Return whether mom still waits for the kubelet's first answer since this pod started."""
        return bool(self._settings.every) and self._thread is not None and uid not in self.state.asked_for

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
                self._soon.wait(max(0.0, (self._settings.every or 3600.0) - _SOONEST_SECONDS))

    def ask(self) -> None:
        """Query the kubelet once. For a pod that the answer lacks, keep the earlier answer."""
        before, process, asked_for = self.state, running(self._context.root), self._expected
        config = config_of(self._context.root, process, self._config_answer)
        if not self._settings.every:
            self.state = KubeletState(config=config, asked=True, asked_for=asked_for)
            return
        doors = list(doors_of(self._context.root, self._settings, config, process))
        try:
            door, answer = first_answer(doors, _PODS, PodList, self._settings.timeout)
            pods, error, hint = requests_in(answer.items or ()), "", ""
            pods = {uid: pod for uid, pod in before.pods.items() if uid in self._expected} | pods
            self._ask_config(door)
            config = config_of(self._context.root, process, self._config_answer)
        except MomError as failure:
            door, pods, error, hint = None, dict(before.pods), failure.message, failure.hint
            self._log.debug("the kubelet: %s", error)
            asked_for = self._expected
        self.state = KubeletState(pods, config, "" if door is None else str(door), error, hint, asked=True, asked_for=asked_for)
        if any(pod.leaves and not (before.pods.get(uid) or pod._replace(leaves=False)).leaves for uid, pod in pods.items()):
            self._context.wake("a guest is about to be migrated")
        elif pods.keys() - before.pods.keys():
            self._context.wake("the kubelet has reported the requests of new pods")

    def _ask_config(self, door: KubeletDoor) -> None:
        now = self._context.monotonic()
        if now - self._config_read_at < _CONFIG_SECONDS:
            return
        self._config_read_at = now
        try:
            self._config_answer = door.get(CONFIG, Configz, self._settings.timeout).kubeletconfig
        except KubeletError as error:  # the kubelet's files have nearly the same content
            self._log.debug("the kubelet: %s", error)


def doors_of(root: Path, settings: KubeletSettings, config: KubeletConfig, process: KubeletProcess) -> Iterator[KubeletDoor]:
    """Yield the doors to the kubelet. Those that verify the kubelet's certificate come first."""
    host = settings.address or os.environ.get("HOST_IP", "") or "127.0.0.1"
    port = settings.port or config.port
    token, certificate = (_readable(root, str(path)) for path in (settings.token, settings.certificate))
    for trusted, names in _trusted(root, settings, config, process):
        if token is not None:
            yield KubeletDoor(host, port, trusted, names, token=token)
        if certificate is not None:
            yield KubeletDoor(host, port, trusted, names, certificate=certificate)
    if config.read_only_port:
        yield KubeletDoor(host, config.read_only_port)


def _trusted(root: Path, settings: KubeletSettings, config: KubeletConfig, process: KubeletProcess) -> Iterator[tuple[Path, str]]:
    name = settings.node or os.environ.get("NODE_NAME", "") or config.node or _host_name(root, process)
    if settings.ca is not None:
        yield root / str(settings.ca).lstrip("/"), name
        return
    paths = [config.certificate] if config.certificate else [f"{config.certificates}/{name}" for name in _OWN_CERTIFICATES]
    own = [_readable(place, path) for place in dict.fromkeys((process.root, root)) for path in paths]
    signed_by = [_readable(root, path) for path in _AUTHORITIES]
    if config.authority:
        signed_by.append(_readable(process.root, config.authority))
    certificate = next((path for path in own if path is not None), None)
    if certificate is not None:
        yield certificate, ""
    authority = next((path for path in signed_by if path is not None), None)
    if authority is not None and name:
        yield authority, name


def _host_name(root: Path, process: KubeletProcess) -> str:
    for place in (process.root, root):
        name = read_kernel_file(place / "etc/hostname").decode("ascii", "replace").strip().lower()
        if name:
            return name
    return ""


def _readable(root: Path, path: str) -> Path | None:
    # Follow an absolute link within the root folder.
    file = root / path.lstrip("/")
    try:
        if file.is_symlink():
            file = root / str(file.parent / file.readlink()).removeprefix(str(root)).lstrip("/")
        return file if file.is_file() and os.access(file, os.R_OK) else None
    except OSError:
        return None
