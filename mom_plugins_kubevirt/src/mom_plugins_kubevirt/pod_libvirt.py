"""Record of one pod's libvirt and guest, whether mom trusts libvirt's answers, and queries to all libvirts at once."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from mom_core import Guest, GuestBusy, HypervisorError, PermissionDenied, PluginContext, Value, printable
from mom_kvm import Callers, CallPatience
from mom_plugins_kubevirt.pod_socket import Relay, reached
from mom_plugins_kubevirt.pods import LAUNCHER, LauncherPod
from mom_plugins_libvirt import Connection, ConnectionSettings, EventLoop, LibvirtHypervisor, SamplingSettings

T = TypeVar("T")
R = TypeVar("R")

_CALL_SECONDS: Final = 1.0
"""Timeout of one call to a pod's libvirt. A libvirt that has hung does not delay calls to others."""

_LONGEST_RETRY_SECONDS: Final = 1.0
"""Longest pause between attempts to connect: mom must see a guest within 2 s after its libvirt listens."""

_MOST_OPEN_CALLS: Final = 2
_MOST_OPENING: Final = 1
"""Maximum numbers of hanging calls to a pod's libvirt, and of hanging attempts to connect to it. Each blocks one of mom's threads."""

_LONGEST_NAME: Final = 63 + 1 + 253
"""Maximum length of a domain's name, NAMESPACE_NAME: the sum of Kubernetes' limits."""

_WHOLE_NAME: Final = 30
_CUT_NAME: Final = 16
"""A pod's name contains its guest's name, cut to fit into 63 characters. mom compares names of up to 30 characters whole, and only the
first 16 characters of longer names."""

_REST_SECONDS: Final = 10.0
"""Pause after an impossible answer."""

_MOST_EVENTS: Final = 500
"""A pod's libvirt may send at most this many events between two queries. Continuous resizing causes five events each second."""

_MOST_WAKES: Final = 5
_WAKE_SECONDS: Final = 10.0
"""Period in which a pod may start at most `_MOST_WAKES` cycles. The start of a guest needs three."""


class ImpossibleAnswer(HypervisorError):
    """Answer that a working libvirtd never sends."""


@dataclass(frozen=True, slots=True)
class Means:
    """Event loop, threads and timeouts that all pods' connections share."""

    context: PluginContext
    module: Any
    loop: EventLoop | None
    call_timeout: float = _CALL_SECONDS
    callers: Callers = field(default_factory=lambda: Callers("kubevirt-call"))
    patience: CallPatience = field(default_factory=CallPatience)
    relay: Relay = field(default_factory=Relay)


class PodLibvirt:
    """Libvirt in one pod. One thread at a time calls `look`; the round's thread calls all other methods."""

    def __init__(self, pod: LauncherPod, means: Means) -> None:
        settings = ConnectionSettings(
            uri=f"qemu+unix:///session?socket=/proc/{pod.pid}/root/{pod.socket}",
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
        sampling = SamplingSettings(counts_vcpus=False)
        self.hypervisor = LibvirtHypervisor(self.connection, sampling, means.context)
        self.hypervisor.wake = self._tell
        self.listed: Sequence[Guest] = ()
        self.open_call: Future[Sequence[Guest]] | None = None
        self.trouble = ""
        """Why the last answer is missing or unusable; empty otherwise."""
        self.asked_at = float("-inf")
        """Monotonic time of the last query."""
        self.hangs = False
        self.lies = False
        """Whether the last answer was impossible."""
        self._distrusted = self._refused = ""
        self._rest_until = float("-inf")
        self._wake = means.context.wake
        self._wakes: list[float] = []
        self._lock = threading.Lock()

    def _tell(self, what: str) -> None:
        # Any thread may call this. A pod must not start too many cycles.
        now = time.monotonic()
        with self._lock:
            self._wakes = [at for at in self._wakes if now - at < _WAKE_SECONDS]
            if len(self._wakes) >= _MOST_WAKES:
                return
            self._wakes.append(now)
        self._wake(what)

    def _refuse(self, why: str) -> None:
        self._refused = why

    def _opened(self) -> None:
        self.hangs = False  # libvirt has just answered
        self._tell(f"the libvirt of pod {self.pod.name} answers")

    @property
    def may_be_asked(self) -> bool:
        """Whether mom may query this libvirt now: no call is open, and no pause is in progress."""
        if self.open_call is not None:
            if not self.open_call.done():
                return False
            self.hangs = self.open_call.exception() is not None  # after a late answer, mom waits for it again
            self.open_call = None
        return time.monotonic() >= self._rest_until

    def look(self) -> Sequence[Guest]:
        """Query libvirt for its guests. Raise `HypervisorError` if the answer is missing or impossible."""
        self.asked_at = time.monotonic()
        self._refused = ""
        try:
            guests = self.hypervisor.guests()
        except HypervisorError as error:
            raise ImpossibleAnswer(self._refused) if self._refused else error from error
        if len(guests) > 1:
            raise ImpossibleAnswer(f"it lists {len(guests)} guests, but a pod has one")
        for guest in guests:
            if len(guest.name) > _LONGEST_NAME or not guest.name.isprintable():
                raise ImpossibleAnswer("its guest has a name that KubeVirt never uses")
            if not is_domain_of(self.pod, guest.name):
                name = printable(guest.name, 80)
                raise ImpossibleAnswer(f"its guest is called {name}, which does not match the pod {self.pod.namespace}/{self.pod.name}")
        return guests

    def take(self, answer: Sequence[Guest] | HypervisorError) -> None:
        """Store the answer of a query, or its error."""
        self.open_call, self.hangs = None, isinstance(answer, GuestBusy)
        if isinstance(answer, HypervisorError):
            self.unanswered(f"{answer.message}; {answer.hint}" if isinstance(answer, PermissionDenied) else answer.message)
            self.lies = isinstance(answer, ImpossibleAnswer)
            if self.lies:
                self.listed = ()
                self._rest_until = time.monotonic() + _REST_SECONDS
        else:
            self.listed, self.trouble, self.lies = answer, "", False

    def judge(self, why: str) -> None:
        """Distrust all statistics for the reason `why`. Trust them if `why` is empty."""
        self._distrusted = why
        self.trouble = why or self.trouble

    def hung(self, call: Future[Sequence[Guest]] | None) -> None:
        """Record that a query has timed out."""
        self.open_call, self.hangs = call, True
        self.unanswered("its libvirt does not answer")
        if call is not None and not self.listed:
            call.add_done_callback(self._answered_late)

    def _answered_late(self, call: Future[Sequence[Guest]]) -> None:
        # A daemon is slow while it starts its guest.
        if call.exception() is None and call.result():
            self._tell(f"the libvirt of pod {self.pod.name} has answered")

    def unanswered(self, why: str = "") -> None:
        """Record a query without an answer. The last statistics stay, and age."""
        self.trouble = why or self.trouble or "its libvirt does not answer"
        self.hypervisor.unanswered()

    def not_asked(self) -> None:
        """Record a round that did not query this libvirt. The last statistics stay, and age."""
        if self.asked_at == float("-inf"):  # an earlier mom may have shrunk the guest
            self.trouble = "mom had no time to query its libvirt yet"
        self.hypervisor.unanswered()

    def fields(self, guest: Guest) -> Mapping[str, Value]:
        """Return libvirt's fields of the guest; none if mom distrusts libvirt's answers."""
        return {} if self._distrusted else self._claims(guest)

    def claimed_kib(self, guest: Guest) -> int:
        """Return the largest size that libvirt reports for the guest."""
        sizes = [self._claims(guest).get(name) for name in ("balloon_max", "balloon_cur")]
        return max((size for size in sizes if isinstance(size, int)), default=0)

    def _claims(self, guest: Guest) -> Mapping[str, Value]:
        return self.hypervisor.fields([guest]).get(guest.id, {})


def is_domain_of(pod: LauncherPod, domain: str) -> bool:
    """Return whether a domain called NAMESPACE_NAME can belong to the pod, which is called virt-launcher-NAME-…. A long NAME is cut."""
    namespace, underscore, name = domain.partition("_")
    launcher = f"{LAUNCHER}{name}-" if len(name) <= _WHOLE_NAME else f"{LAUNCHER}{name[:_CUT_NAME]}"
    return bool(underscore and name) and namespace == pod.namespace and pod.name.startswith(launcher)


# --- queries to many daemons, any of which may hang ------------------------------------------------------------------------------

AT_ONCE: Final = 16
"""Maximum number of concurrent queries, not counting those older than `_SOON_SECONDS`. More would only compete for the CPUs."""

_SOON_SECONDS: Final = 0.1
"""After this time, an open query no longer keeps the next query from starting."""

_QUIET_SECONDS: Final = 0.5
"""Once all queries have started, the round ends after this time without an answer. A healthy daemon answers within some hundred
milliseconds."""


def ask_all(
    callers: Callers, daemons: Iterable[T], ask: Callable[[T], R], patience: float, unsure: Set[T] = frozenset()
) -> tuple[dict[T, R | HypervisorError], dict[T, Future[R]]]:
    """Query all daemons. Return the answers or errors, and the queries that are still open, both keyed by daemon.

    :param patience: timeout of the round in seconds
    :param unsure: daemons that hung before; the round does not wait for them at its end
    """
    answers: dict[T, R | HypervisorError] = {}
    pending: dict[T, tuple[Future[R], float]] = {}
    waiting = deque(sorted(daemons, key=lambda daemon: daemon not in unsure))  # unsure daemons first, so that they can answer meanwhile
    last = time.monotonic()
    end = last + patience
    while True:
        now = time.monotonic()
        for daemon in [daemon for daemon, (call, _) in pending.items() if call.done()]:
            answer = _answer_of(pending.pop(daemon)[0])
            answers[daemon], last = answer, now
        soon = sum(1 for _, began in pending.values() if now - began < _SOON_SECONDS)
        while waiting and soon < AT_ONCE:
            daemon = waiting.popleft()
            pending[daemon] = callers.start(partial(ask, daemon)), now
            soon += 1
            last = now
        if not waiting and all(daemon in unsure for daemon in pending):
            break
        quiet = _SOON_SECONDS if waiting else last + _QUIET_SECONDS - now
        seconds = min(quiet, end - now)
        if seconds <= 0:
            break
        wait([call for call, _ in pending.values()], seconds, FIRST_COMPLETED)
    return answers, {daemon: call for daemon, (call, _) in pending.items()}


def _answer_of(call: Future[R]) -> R | HypervisorError:
    try:
        return call.result()
    except HypervisorError as error:
        return error
    except Exception as error:  # noqa: BLE001  # one answer must not end the round
        return HypervisorError(f"its answer cannot be used: {type(error).__name__}: {printable(str(error), 300)}")
