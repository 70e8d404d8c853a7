"""Valid contents of all files in the state directory, for mom and its plugins on a simulated host."""

from collections.abc import Mapping
from typing import Any, Final

BOOT: Final = "01234567-89ab-cdef-0123-456789abcdef"
GUEST: Final = "00000000-0000-0000-0000-000000000001"
RESERVATION: Final = {"id": "aa", "memory_kib": 4096, "name": "web-*", "who": "me", "created": 1e9, "made": 80.0, "deadline": 400.0,
                      "guest": "", "guest_name": "", "incarnation": "", "taken_at": None}  # fmt: skip
ENTRY: Final = {"scope": "guest", "id": GUEST, "name": "vm", "control": "balloon_target", "before": 1 << 20, "applied": 1 << 19,
                "plugin": "balloon", "time": 1e9, "incarnation": "1", "earlier": None, "attempted": [],
                "found": None, "in_doubt": False}  # fmt: skip

CONTENTS: Final[Mapping[str, Any]] = {
    "ledger.json": [ENTRY, {**ENTRY, "control": "ksm_run", "scope": "host", "id": "host", "before": 0, "applied": 1, "plugin": "ksm"}],
    "balloon/balloon.json": {
        "starts": {GUEST: ["1", 262_144, 1 << 20]},
        "requests": {GUEST: ["1", 524_288, 300_000, True]},
        "reservations": {"boot": BOOT, "monotonic": 90.0, "guests": {GUEST: "1"}, "reservations": [RESERVATION]},
    },
    "policy/changes.json": {"texts": {"60_mine": {"text": "(defvar mine 1)", "origin": "x"}, "50_ksm": None}, "alone": False},
    "policy/notes.json": {"host": {"incarnation": "", "values": {"level": 3, "names": ["a", 1.5, None, True]}}},
    "cgroup/enforced.json": [[GUEST, "1", "cgroup_memory_high"]],
    "qos/enforced.json": [[GUEST, "1", "vcpu_quota"]],
    "eviction/jobs.json": [
        {"guest": GUEST, "name": "vm", "step": "save", "needs": 4096.0, "comes_back": True, "state": "done", "time": 1e9},
        {"guest": "2", "name": "vm2", "step": "migrate", "state": "lost", "mover": "cluster", "destination": "host://h2", "move": "aa",
         "seconds": 600.0, "reference": "task", "lost": "it tells nothing", "time": 1e9},
    ],
    "eviction/recent.json": [["moved", "1", 1e9], ["gone", "3", 1e9], ["save", GUEST, 1e9]],
    "ksm/unmerging.json": 1,
}  # fmt: skip
