"""Fields that the plugin collects from the node."""

from __future__ import annotations

from typing import Final

from mom_core import FieldSpec, Scope, Unit
from mom_kvm import GuestField

PROMISE: Final = "balloon_min"
REQUEST: Final = "pod_request"
PROMISED_BY: Final = "pod_request_by"
ASKING: Final = "nobody yet: the kubelet is being asked"
"""Source of a guarantee until the kubelet's first answer."""
EVICTS_BELOW: Final = "mem_evicts_below"
ROOM: Final = "eviction_room"
THRESHOLD: Final = "eviction_threshold"

_G, _H, _KIB, _TEXT = Scope.GUEST, Scope.HOST, Unit.KIB, Unit.TEXT
_EVICTION: Final = "kubelet evictionHard, evictionSoft; /proc/meminfo, memory.max of kubepods"
FIELDS: Final = (
    FieldSpec(GuestField.VOUCHED, _KIB, _G, "memory that the node keeps for the guest: its pod's request or limit; if mom cannot keep all"
              " guarantees, guarantees above this value shrink first",
              "kubelet /pods, memory.min or memory.low; else memory.max, oom_score_adj"),
    FieldSpec(PROMISE, _KIB, _G, "the guest's guarantee: its pod's memory request, without KubeVirt's own overhead",
              "its pod's memory request"),
    FieldSpec(REQUEST, _KIB, _G, "memory request of the guest's container", "kubelet /pods, or memory.min or memory.low"),
    FieldSpec(PROMISED_BY, _TEXT, _G, "source of the guest's guarantee: the kubelet, the guest's control group, or a setting; until the"
              " kubelet's first answer, all of the guest's size is guaranteed", "mom"),
    FieldSpec(EVICTS_BELOW, _KIB, _H, "available memory (`mem_really_available`) below which the kubelet evicts pods; unknown if it never"
              " evicts pods for lack of memory", _EVICTION),
    FieldSpec(ROOM, _KIB, _H, "memory left until the kubelet evicts pods; negative if it is evicting", _EVICTION),
    FieldSpec(THRESHOLD, _KIB, _H, "available memory, as the kubelet calculates it, below which the kubelet evicts pods", _EVICTION),
)  # fmt: skip
