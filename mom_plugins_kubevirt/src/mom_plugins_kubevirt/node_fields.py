"""The fields of what the node knows beside libvirt."""

from __future__ import annotations

from typing import Final

from mom_core import FieldSpec, Scope, Unit
from mom_kvm import GuestField

PROMISE: Final = "balloon_min"
REQUEST: Final = "pod_request"
PROMISED_BY: Final = "pod_request_by"
ASKING: Final = "nobody yet: the kubelet is being asked"
"""Who promises a guest its size, from mom's start until the kubelet has answered."""
EVICTS_BELOW: Final = "mem_evicts_below"
ROOM: Final = "eviction_room"
THRESHOLD: Final = "eviction_threshold"

_G, _H, _KIB, _TEXT = Scope.GUEST, Scope.HOST, Unit.KIB, Unit.TEXT
_EVICTION: Final = "kubelet evictionHard, evictionSoft; /proc/meminfo, memory.max of kubepods"
FIELDS: Final = (
    FieldSpec(
        GuestField.VOUCHED,
        _KIB,
        _G,
        "the most memory that the node keeps for the guest: its pod's request, or its limit; what is promised above that, as a share of the"
        " size that the guest claims, shrinks before other promises; unknown: nobody says",
        "kubelet /pods, memory.min or memory.low; else memory.max, oom_score_adj",
    ),
    FieldSpec(
        PROMISE,
        _KIB,
        _G,
        "what the guest is promised: the memory request of its pod, less KubeVirt's own overhead; unknown: that is not known",
        "its pod's memory request",
    ),
    FieldSpec(REQUEST, _KIB, _G, "the memory that the container of the guest requests", "kubelet /pods, or memory.min or memory.low"),
    FieldSpec(
        PROMISED_BY,
        _TEXT,
        _G,
        "who says what the guest is promised: the kubelet, its control group, or a setting; nobody yet: it is promised its size",
        "mom",
    ),
    FieldSpec(
        EVICTS_BELOW,
        _KIB,
        _H,
        "with less available (`mem_really_available`) than this, the kubelet evicts pods; unknown: it does not, for want of memory",
        _EVICTION,
    ),
    FieldSpec(ROOM, _KIB, _H, "what can still be used until the kubelet evicts pods; negative: it evicts", _EVICTION),
    FieldSpec(THRESHOLD, _KIB, _H, "the available memory, as the kubelet counts it, at which it evicts pods", _EVICTION),
)
