"""Apache CloudStack: detection, promises in a new configuration, and `mom doctor`. Sources: docs/cloudstack.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from mom_core import (
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    Severity,
    Value,
    count_of,
    first_names,
    format_kib,
    is_there,
    printable,
    read_file,
)
from mom_plugins_balloon.promises import AT_START, Guarantees
from mom_plugins_balloon.sizes import SAME_SIZE_KIB
from mom_plugins_balloon.started_sizes import StartedSizes

AGENT: Final = "etc/cloudstack/agent/agent.properties"

SUBJECT: Final = "CloudStack"

INSTANCES: Final = "i-*-VM"
SYSTEM_VMS: Final = "[rsv]-*-VM"
"""`i-ACCOUNT-ID-VM` is an instance; `r-`, `s-` and `v-` are virtual routers, secondary storage and consoles."""

FOR_GUESTS: Final[Mapping[str, Mapping[str, Value]]] = {INSTANCES: {"guarantee": AT_START}, SYSTEM_VMS: {"guarantee": "100%"}}

WHY: Final = (
    "Apache CloudStack's agent is on this host. mom does not shrink its instances below their size at the start, nor its system VMs."
    " If CloudStack starts instances with all their memory, mom takes nothing from them: guarantee a share instead, such as 50% where"
    " mem.overprovisioning.factor is 2. See docs/cloudstack.md."
)

_INSTANCE: Final = re.compile(r"i-\d+-\d+-.+")
_SYSTEM_VM: Final = re.compile(r"[rsv]-\d+-.+")
_WITHOUT_BALLOON: Final = re.compile(r"^[ \t]*vm\.memballoon\.disable[ \t]*[=:][ \t]*true[ \t\r]*$", re.MULTILINE | re.IGNORECASE)
_LARGEST_BYTES: Final = 1 << 18
"""mom reads only this much of the agent's configuration. The default file has 20 KB."""

_GUARANTEE_A_SHARE: Final = (
    f'to reclaim unused memory, guarantee a share; for mem.overprovisioning.factor = 2: "{INSTANCES}": {{guarantee: 50%}}'
)

_START_WHOLE: Final = "if the cluster is over-provisioned, have CloudStack start instances with all their memory: see docs/cloudstack.md"


@runtime_checkable
class GuestFields(Protocol):
    """Hypervisor that provides fields of its last listed guests."""

    def fields(self, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        """Return guests' fields keyed by guest ID."""


def is_here(root: Path) -> bool:
    """Return whether CloudStack's agent is configured on this host."""
    try:
        return is_there(root / AGENT)
    except PermissionError:  # its directory exists, so the agent is installed
        return True


def findings(root: Path, hypervisor: Hypervisor | None, guarantees: Guarantees, started: StartedSizes) -> Iterable[Finding]:
    """Yield findings on a CloudStack host."""
    if hypervisor is None or not isinstance(hypervisor, GuestFields) or not is_here(root):
        return
    try:
        listed = hypervisor.guests()
        fields = hypervisor.fields(listed)
    except HypervisorError:  # the findings on memory balloons report this error
        return
    guests = [replace(guest, fields=fields.get(guest.id, {})) for guest in listed]
    instances = [guest for guest in guests if _INSTANCE.fullmatch(guest.name)]
    system_vms = sum(_SYSTEM_VM.fullmatch(guest.name) is not None for guest in guests)
    active = f"{count_of(len(instances), 'instance')} and {count_of(system_vms, 'system VM')} active"
    yield Finding(Severity.OK, SUBJECT, f"its agent is on this host (/{AGENT}); {active}")
    if _without_balloons(root):
        cure = "set it to false, restart cloudstack-agent, and stop and start the instances"
        yield Finding(Severity.WARNING, SUBJECT, f"vm.memballoon.disable=true in /{AGENT}: instances start without a balloon", cure)
    yield from _sizes(instances, guarantees, started)


def _sizes(instances: Sequence[Guest], guarantees: Guarantees, started: StartedSizes) -> Iterator[Finding]:
    promised = guarantees.written(instances)
    below, unpromised, whole, partial = list[str](), list[str](), list[str](), list[str]()
    for guest in instances:
        at_start, promises = started.of(guest), promised.get(guest.id, ())
        maximum, limit = guest.number("balloon_max"), guest.number("mem_plug_limit")
        size = guest.number("balloon_cur") if at_start is None else float(at_start.size)
        if maximum is not None and limit is not None and maximum < limit - SAME_SIZE_KIB:
            partial.append(f"{printable(guest.name, 40)} {format_kib(maximum)} of {format_kib(limit)}")
        if size is None or maximum is None:
            continue
        if size < maximum - SAME_SIZE_KIB:
            below.append(f"{printable(guest.name, 40)} {format_kib(size)} of {format_kib(maximum)}")
            unpromised += [] if promises or guarantees.by_class else [guest.name]
        elif AT_START in promises:
            whole.append(guest.name)
    kinds = (
        (below, "started with less than the maximum (mom lets such guests grow on demand)", ""),
        (
            unpromised,
            "without a guarantee of the size at the start",
            f'write under `guests:` in mom.yaml: "{INSTANCES}": {{guarantee: start}}',
        ),
        (whole, "started with all memory, and all of it is guaranteed (mom takes nothing from them)", _GUARANTEE_A_SHARE),
        (partial, "with only a part of their memory (CloudStack plugs in the rest when it scales them)", _START_WHOLE),
    )
    for names, kind, cure in kinds:
        if names:
            severity = Severity.WARNING if names is unpromised else Severity.OK
            yield Finding(severity, SUBJECT, f"{count_of(len(names), 'instance')} {kind}: {first_names(names, 3)}", cure)


def _without_balloons(root: Path) -> bool:
    with suppress(OSError):
        return _WITHOUT_BALLOON.search(read_file(root / AGENT, _LARGEST_BYTES).decode(errors="replace")) is not None
    return False
