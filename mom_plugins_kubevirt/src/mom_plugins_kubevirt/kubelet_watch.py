"""Asks the kubelet of this node again and again what pods request, in a thread of its own: nothing waits for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from mom_core import MomError, PluginContext
from mom_kvm import read_kernel_file
from mom_plugins_kubevirt.kubelet_api import KubeletDoor, KubeletError, first_answer
from mom_plugins_kubevirt.kubelet_config import KubeletConfig, KubeletProcess, config_of, running
from mom_plugins_kubevirt.kubelet_settings import ACCOUNT, KubeletSettings
from mom_plugins_kubevirt.requests import PodRequest, pods_in

PODS: Final = "/pods"
CONFIG: Final = "/configz"

_CONFIG_SECONDS: Final = 600.0
"""A kubelet reads its configuration when it starts."""

_SOONEST_SECONDS: Final = 5.0
"""It is asked no more often, however many pods come: an answer has some KiB for each of all pods."""

_OWN_CERTIFICATES: Final = ("kubelet-server-current.pem", "kubelet.crt")
"""What a kubelet shows where its configuration names nothing: signed by the cluster (`serverTLSBootstrap`), or made by itself."""
_AUTHORITIES: Final = (f"{ACCOUNT}/ca.crt", "etc/kubernetes/pki/ca.crt")


@dataclass(frozen=True, slots=True)
class KubeletTold:
    """What is known by the kubelet: pods by uid, its configuration, which way it was asked (empty: none that worked), and why not now."""

    pods: Mapping[str, PodRequest] = field(default_factory=dict)
    config: KubeletConfig = field(default_factory=KubeletConfig)
    door: str = ""
    error: str = ""
    hint: str = ""
    asked: bool = False
    asked_for: Collection[str] = frozenset()
    """The pods, by uid, that were on the node when it was asked; where it did not answer, those that are there since."""


class KubeletWatch:
    """Asks the kubelet from `start` to `stop`; what it said is in `told`, for any thread. Wakes the engine for what needs a cycle."""

    def __init__(self, context: PluginContext, settings: KubeletSettings) -> None:
        self._context, self._settings, self._log = context, settings, context.log.getChild("kubelet")
        self.told = KubeletTold()
        self._said: Mapping[str, Any] | None = None
        self._said_at = -_CONFIG_SECONDS
        self._missing: set[str] = set()
        """Pods that it was asked for, and that it may not know: it is not asked for them again and again."""
        self._wanted: frozenset[str] = frozenset()
        """The pods that are on the node."""
        self._soon, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to ask."""
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)
        self._thread.start()

    def awaits(self, uid: str) -> bool:
        """It was started, and the kubelet has neither answered nor failed to since this pod was first seen on the node."""
        return bool(self._settings.every) and self._thread is not None and uid not in self.told.asked_for

    def stop(self) -> None:
        """Ask no more. A thread that waits for an answer is left behind."""
        self._stopping.set()
        self._soon.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(0.1)

    def want(self, uids: Collection[str]) -> None:
        """These pods are on the node: it is asked soon where one of them is not known yet."""
        self._wanted = frozenset(uids)
        self._missing &= self._wanted  # those that ended while the kubelet did not answer are never told
        new = {uid for uid in uids if uid not in self.told.pods} - self._missing
        if new:
            self._missing |= new
            self._soon.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._soon.clear()
            try:
                self.ask()
            except Exception as error:  # noqa: BLE001  # containment: whatever it answers, it is asked again
                self._log.exception("asking the kubelet failed")
                self.told = replace(self.told, error=f"asking it failed: {error}", asked=True, asked_for=self._wanted)
            self._stopping.wait(_SOONEST_SECONDS)
            self._soon.wait(max(0.0, (self._settings.every or 3600.0) - _SOONEST_SECONDS))

    def ask(self) -> None:
        """Ask once, and take what it says. What it said before of pods stays where it says nothing now: requests hardly change, and a
        kubelet that has just started does not know all pods of its node yet."""
        before, process, asked_for = self.told, running(self._context.root), self._wanted
        config = config_of(self._context.root, process, self._said)
        if not self._settings.every:
            self.told = KubeletTold(config=config, asked=True)
            return
        doors = list(doors_of(self._context.root, self._settings, config, process))
        try:
            door, answer = first_answer(doors, PODS, self._settings.timeout)
            pods, error, hint = pods_in(answer), "", ""
            self._missing -= pods.keys()
            pods = {uid: pod for uid, pod in before.pods.items() if uid in self._wanted} | pods
            self._ask_config(door)
            config = config_of(self._context.root, process, self._said)
        except MomError as failure:
            door, pods, error, hint = None, dict(before.pods), failure.message, failure.hint
            self._log.debug("the kubelet: %s", error)
            asked_for = self._wanted
        self.told = KubeletTold(pods, config, "" if door is None else str(door), error, hint, asked=True, asked_for=asked_for)
        if any(pod.leaves and not (before.pods.get(uid) or pod._replace(leaves=False)).leaves for uid, pod in pods.items()):
            self._context.wake("a guest is about to be migrated")
        elif pods.keys() - before.pods.keys():
            self._context.wake("the kubelet says what new pods request")

    def _ask_config(self, door: KubeletDoor) -> None:
        now = self._context.monotonic()
        if now - self._said_at < _CONFIG_SECONDS:
            return
        self._said_at = now
        try:
            self._said = door.get(CONFIG, self._settings.timeout)
        except KubeletError as error:  # its files say nearly as much
            self._log.debug("the kubelet: %s", error)


def doors_of(root: Path, settings: KubeletSettings, config: KubeletConfig, process: KubeletProcess) -> Iterator[KubeletDoor]:
    """The ways to ask it, those that are checked first."""
    host = settings.address or os.environ.get("HOST_IP", "") or "127.0.0.1"
    port = settings.port or config.port
    token, certificate = (_there(root, str(path)) for path in (settings.token, settings.certificate))
    for trusted, names in _trusted(root, settings, config, process):
        if token is not None:
            yield KubeletDoor(host, port, trusted, names, token=token)
        if certificate is not None:
            yield KubeletDoor(host, port, trusted, names, certificate=certificate)
    if config.read_only_port:
        yield KubeletDoor(host, config.read_only_port)


def _trusted(root: Path, settings: KubeletSettings, config: KubeletConfig, process: KubeletProcess) -> Iterator[tuple[Path, str]]:
    """Certificates to trust, and whose name the kubelet's must bear; empty: it is the kubelet's own."""
    name = settings.node or os.environ.get("NODE_NAME", "") or config.node or _host_name(root, process)
    if settings.ca is not None:
        yield root / str(settings.ca).lstrip("/"), name
        return
    named = [config.certificate] if config.certificate else [f"{config.certificates}/{name}" for name in _OWN_CERTIFICATES]
    own = [_there(place, path) for place in dict.fromkeys((process.root, root)) for path in named]
    signed_by = [_there(root, one) for one in _AUTHORITIES]
    if config.authority:
        signed_by.append(_there(process.root, config.authority))
    found = next((one for one in own if one is not None), None)
    if found is not None:
        yield found, ""
    authority = next((one for one in signed_by if one is not None), None)
    if authority is not None and name:
        yield authority, name


def _host_name(root: Path, process: KubeletProcess) -> str:
    for place in (process.root, root):
        name = read_kernel_file(place / "etc/hostname").decode("ascii", "replace").strip().lower()
        if name:
            return name
    return ""


def _there(root: Path, path: str) -> Path | None:
    """A file below a root, if it can be read. The kubelet's newest certificate (`kubelet-server-current.pem`) is a link to a whole path,
    which begins at that root, too."""
    found = root / path.lstrip("/")
    try:
        if found.is_symlink():
            found = root / str(found.parent / found.readlink()).removeprefix(str(root)).lstrip("/")
        return found if found.is_file() and os.access(found, os.R_OK) else None
    except OSError:
        return None
