"""One pod's libvirt: the connection to it, what it lists, and how far it can be relied on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from mom_core import Guest, GuestBusy, HypervisorError, PermissionDenied, PluginContext, Value, printable
from mom_kvm import Callers
from mom_plugins_kubevirt.launcher_pod import LauncherPod
from mom_plugins_kubevirt.pod_socket import reached
from mom_plugins_kubevirt.pods import LAUNCHER
from mom_plugins_kubevirt.relay import Relay
from mom_plugins_libvirt import (
    CallPatience,
    Connection,
    ConnectionSettings,
    EventLoop,
    ImpossibleAnswer,
    LibvirtHypervisor,
    SamplingSettings,
)

_LONGEST_RETRY_SECONDS: Final = 1.0
"""Between two attempts to reach a pod's libvirt: while a pod starts, its daemon does not listen yet, and its guest is to be seen within 2 s
of when it does. An attempt that fails costs a tenth of a millisecond."""

_MOST_OPEN_CALLS: Final = 2
_MOST_OPENING: Final = 1
"""A pod that hangs keeps so many threads of mom."""

_LONGEST_NAME: Final = 63 + 1 + 253
"""NAMESPACE_NAME: Kubernetes' bounds for both."""

_WHOLE_NAME: Final = 30
_CUT_NAME: Final = 16
"""Characters of a guest's name that stand in its pod's name whole, and that stand there of a longer one at least: Kubernetes keeps names of
pods to 63 characters, with virt-launcher- and five at random, or a hash."""

_FIRST_REST_SECONDS: Final = 1.0
_LAST_REST_SECONDS: Final = 60.0
"""How long one that answers nonsense is not asked again: doubled from the first to the last, which is also how long it must answer sense
until that begins anew."""

_MOST_EVENTS: Final = 500
"""Between two looks. A guest that is resized all the time has five each second."""

_MOST_TOLD: Final = 5
_TOLD_SECONDS: Final = 10.0
"""So many cycles a pod may ask for in so many seconds: a start brings three."""


@dataclass(frozen=True, slots=True)
class Means:
    """What all pods' connections share: the event loop, threads, the patience; and how patient to be with one call (s).

    :param module: libvirt's binding
    """

    context: PluginContext
    module: Any
    loop: EventLoop | None
    call_timeout: float
    readonly: bool
    stale_after: float | None
    callers: Callers = field(default_factory=lambda: Callers("kubevirt-call"))
    patience: CallPatience = field(default_factory=CallPatience)
    relay: Relay = field(default_factory=Relay)


class PodLibvirt:
    """The libvirt in one pod; made, it connects nowhere yet. `look` is called by one thread at a time; the rest belongs to the thread of
    the round."""

    def __init__(self, pod: LauncherPod, means: Means) -> None:
        settings = ConnectionSettings(
            uri=f"qemu+unix:///session?socket=/proc/{pod.pid}/root/{pod.socket}",
            readonly=means.readonly,
            call_timeout=means.call_timeout,
            way=partial(reached, means.context.root / "proc", pod, means.relay, self._refuse),
            longest_retry=_LONGEST_RETRY_SECONDS,
            most_open_calls=_MOST_OPEN_CALLS,
            most_opening=_MOST_OPENING,
            most_events=_MOST_EVENTS,
            lost_level=logging.DEBUG,
        )
        self.pod = pod
        self.connection = Connection(settings, means.context.log, means.module, callers=means.callers, patience=means.patience)
        self.connection.on_open = self._opened
        if means.loop is not None:
            self.connection.join(means.loop)
        sampling = SamplingSettings(means.stale_after, most_guests=1, counts_vcpus=False)
        self.hypervisor = LibvirtHypervisor(self.connection, sampling, means.context)
        self.hypervisor.tell = self._tell
        self.listed: Sequence[Guest] = ()
        """By its last answer."""
        self.open_call: Future[Sequence[Guest]] | None = None
        """A question that has not been answered yet."""
        self.trouble = ""
        """Why its last answer cannot be used, or did not come; empty: it can."""
        self.asked_at = float("-inf")
        """When it was asked last (monotonic seconds)."""
        self.hangs = False
        self.lies = False
        """Its last answer was none that a pod's libvirt gives."""
        self._disbelieved = self._refused = ""
        self._rest_until, self._rest = float("-inf"), _FIRST_REST_SECONDS
        self._wake = means.context.wake
        self._told: list[float] = []
        """When it asked for cycles lately."""
        self._lock = threading.Lock()

    def _tell(self, what: str) -> None:
        """From any thread. A pod that would keep mom busy with cycles is heard in those that come anyway."""
        now = time.monotonic()
        with self._lock:
            self._told = [told for told in self._told if now - told < _TOLD_SECONDS]
            if len(self._told) >= _MOST_TOLD:
                return
            self._told.append(now)
        self._wake(what)

    def _refuse(self, why: str) -> None:
        """The relay has ended the connection."""
        self._refused = why

    def _opened(self) -> None:
        self.hangs = False  # it has just answered
        self._tell(f"the libvirt of pod {self.pod.name} answers")

    @property
    def may_be_asked(self) -> bool:
        """It does not owe an answer, and does not rest."""
        if self.open_call is not None:
            if not self.open_call.done():
                return False
            self.hangs = self.open_call.exception() is not None  # one that has answered late is waited for again
            self.open_call = None
        return time.monotonic() >= self._rest_until

    def look(self) -> Sequence[Guest]:
        """Its guests now. Raises `HypervisorError`, also for an answer that no libvirt of a pod gives."""
        self.asked_at = time.monotonic()
        self._refused = ""
        try:
            guests = self.hypervisor.guests()
        except HypervisorError as error:
            raise ImpossibleAnswer(self._refused) if self._refused else error from error
        for guest in guests:
            if len(guest.name) > _LONGEST_NAME or not guest.name.isprintable():
                raise ImpossibleAnswer("its guest's name is none that KubeVirt gives")
            if not _is_of(self.pod, guest.name):
                said = printable(guest.name, 80)
                raise ImpossibleAnswer(f"its guest is called {said}, which is not that of a pod {self.pod.namespace}/{self.pod.name}")
        return guests

    def take(self, answer: Sequence[Guest] | HypervisorError) -> None:
        """It has answered."""
        self.open_call, self.hangs = None, isinstance(answer, GuestBusy)
        if isinstance(answer, HypervisorError):
            self.unanswered(f"{answer.message}; {answer.hint}" if isinstance(answer, PermissionDenied) else answer.message)
            self.lies = isinstance(answer, ImpossibleAnswer)
            if self.lies:
                self.listed = ()
                self._rest_until = time.monotonic() + self._rest
                self._rest = min(2 * self._rest, _LAST_REST_SECONDS)
        else:
            self.listed, self.trouble, self.lies = answer, "", False
            if time.monotonic() > self._rest_until + _LAST_REST_SECONDS:
                self._rest = _FIRST_REST_SECONDS

    def judge(self, why: str) -> None:
        """Use nothing of what it says for this reason, until it is judged again; empty: it may be true."""
        self._disbelieved = why
        self.trouble = why or self.trouble

    def hung(self, call: Future[Sequence[Guest]] | None) -> None:
        """It has not answered in time."""
        self.open_call, self.hangs = call, True
        self.unanswered("its libvirt does not answer")
        if call is not None and not self.listed:
            call.add_done_callback(self._answered_late)

    def _answered_late(self, call: Future[Sequence[Guest]]) -> None:
        """A daemon is slow to answer while it starts its guest, and that is waited for."""
        if call.exception() is None and call.result():
            self._tell(f"the libvirt of pod {self.pod.name} has answered")

    def unanswered(self, why: str = "") -> None:
        """Nothing new was heard of it: what is known grows older."""
        self.trouble = why or self.trouble or "its libvirt does not answer"
        self.hypervisor.unanswered()

    def not_asked(self) -> None:
        """Its turn did not come: what is known grows older, which is not its fault."""
        if self.asked_at == float("-inf"):  # an earlier mom may have changed its guest
            self.trouble = "there was no time yet to ask its libvirt"
        self.hypervisor.unanswered()

    def fields(self, guest: Guest) -> Mapping[str, Value]:
        """Those of its guest, by its own word; none where that cannot be true."""
        return {} if self._disbelieved else self._claims(guest)

    def claimed_kib(self, guest: Guest) -> int:
        """Return the most memory that it says its guest has."""
        sizes = [self._claims(guest).get(name) for name in ("balloon_max", "balloon_cur")]
        return max((size for size in sizes if isinstance(size, int)), default=0)

    def _claims(self, guest: Guest) -> Mapping[str, Value]:
        return self.hypervisor.fields([guest]).get(guest.id, {})


def _is_of(pod: LauncherPod, domain: str) -> bool:
    """Whether a domain of this name is that of the pod: NAMESPACE_NAME, in a pod virt-launcher-NAME-…, which cuts a long NAME."""
    namespace, underscore, name = domain.partition("_")
    launcher = f"{LAUNCHER}{name}-" if len(name) <= _WHOLE_NAME else f"{LAUNCHER}{name[:_CUT_NAME]}"
    return bool(underscore and name) and namespace == pod.namespace and pod.name.startswith(launcher)
