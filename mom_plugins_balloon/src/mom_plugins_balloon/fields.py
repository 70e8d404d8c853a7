"""The plugin's control and fields. `memory.py` declares the fields that hold facts about one guest."""

from typing import Final

from mom_core import ControlSpec, FieldSpec, GuestColumn, Scope, Unit
from mom_plugins_balloon import names
from mom_plugins_balloon.gate import MINIMUM_KIB
from mom_plugins_balloon.memory import FACTS
from mom_plugins_balloon.names import CONTROL, KILLED, OBSTACLE, SUFFERS, UNHEALTHY
from mom_plugins_balloon.promises import HOLDS, PROMISED, SOURCES, VOUCHED, guaranteed_kib, promised_kib
from mom_plugins_balloon.sizes import TOLERANCE_KIB
from mom_plugins_balloon.sweep.sweeper import ENDED, GAVE, REACTION

_H, _G = Scope.HOST, Scope.GUEST
_KIB, _S, _TEXT, _RATIO = Unit.KIB, Unit.SECONDS, Unit.TEXT, Unit.RATIO
_OWN, _ALL = "guarantee under guests in the YAML file, or the guest's metadata", "all promises to the guest"
_MOM = "mom"

_FIELDS: Final = (
    (names.RESERVED, _KIB, _H, "memory reserved for launches and not touched yet", _MOM),
    ("balloon_min", _KIB, _G, "promise to this guest; 0 if there is none, unknown until mom has read it", _OWN),
    (HOLDS, _KIB, _G, "guarantee: the part of the guest's promise that the host can keep; from the last cycle", _ALL),
    (PROMISED, _KIB, _G, "largest promise to the guest; from the last cycle", _ALL),
    (PROMISED, _KIB, _H, "sum of the promises to all guests; from the last cycle", _ALL),
    ("mem_promisable", _KIB, _H, "memory that the host can promise to guests", "the host's memory minus host_reserve"),
    (names.STARTED, _KIB, _G, "size at the guest's start, if that was less than its maximum", _MOM),
    ("mem_watermark_high", _KIB, _H, "high watermark: with less available memory, mom takes memory from guests", _MOM),
    ("mem_watermark_hard", _KIB, _H, "hard watermark: with less available memory, mom also takes guests' headroom for bursts", _MOM),
    ("mem_watermark_low", _KIB, _H, "low watermark: with less available memory, no guest grows beyond its guarantee", _MOM),
    ("host_memory_state", _TEXT, _H, "high, soft, hard or low, according to the memory available in the previous cycle", _MOM),
    ("mem_growth_peak", _KIB, _H, "largest recent growth of all guests together within 3 s", _MOM),
    (names.AHEAD, _KIB, _H, "memory made available for the expected growth of guests", _MOM),
    (names.SUGGESTED, _KIB, _G, "size that the balloon law suggests; unknown if the guest keeps its size", _MOM),
    (names.REASON, _TEXT, _G, "code of the law's reason, such as sweep or runs-out", _MOM),
    (names.GAIN, _KIB, _G, "memory that the host gains by the suggested sweep", _MOM),
    (GAVE, _KIB, _G, "memory that the host gained by the guest's last sweep; shown for a minute", _MOM),
    (ENDED, _TEXT, _G, "reason for the end of the guest's last sweep: arrived, grew, nothing-more, at-work, late or another", _MOM),
    (REACTION, _S, _H, "time until a guest that grows during its sweep has its headroom again", _MOM),
    ("guests_set_aside", Unit.COUNT, _H, "guests whose balloons did not inflate at mom's last request", _MOM),
    (names.SET_BY, _TEXT, _G, "policy line or plugin that set the last balloon target", _MOM),
    (names.OBSTACLE, _TEXT, _G, "why mom takes no memory from the guest; unknown if mom may take memory", _MOM),
    (names.RESTS, _S, _G, "time until mom tries again to shrink a guest whose balloon did not inflate; unknown if mom need not wait", _MOM),
    (UNHEALTHY, _TEXT, _G, "why the guest is unhealthy, such as `short of memory`; empty if it is healthy", _MOM),
    (SUFFERS, _TEXT, _G, "harm to the guest: programs killed in the last 10 min, or why it is unhealthy; empty if there is none", _MOM),
    (KILLED, Unit.COUNT, _G, "OOM kills in the guest in the last 10 min", "guest_oom_kills"),
    (KILLED, Unit.COUNT, _H, "OOM kills in all guests in the last 10 min", "guest_oom_kills"),
)
_READ: Final = (
    (names.GROUP_ROOM, _KIB, _G),
    (names.GIVE_BACK, _TEXT, _G),
    (VOUCHED, _KIB, _G),
    ("offload_net", _KIB, _H),
    ("swap_usage", _KIB, _H),
    (names.STOPPED_BELOW, _KIB, _H),
    (names.RISE, _KIB, _H),
    *((name, _KIB, _G) for name in (names.EXPECTED, names.EXPECTED_SOON)),
    *((name, _S, _G) for name in ("reboot_age", names.RISES_IN)),
    (names.WEIGHT, _RATIO, _G),
    ("guest_oom_kills", Unit.COUNT, _G),
)
"""Fields of other plugins that the law uses if they are known."""

_REASONS: Final = {names.SUGGESTED: names.REASON}
FIELDS: Final = (
    *(FieldSpec(*row, reason=_REASONS.get(row[0], "")) for row in _FIELDS), *(FieldSpec.reads(*row) for row in _READ), *FACTS
)  # fmt: skip

MOVED_KIB: Final = 512
"""A guest is moving if it approached its target by this much while mom watched."""

TARGET: Final = ControlSpec(
    CONTROL, Unit.KIB, Scope.GUEST, "size of the guest's memory, set by its balloon", field="balloon_cur", minimum=MINIMUM_KIB,
    gradual=MOVED_KIB, tolerance=TOLERANCE_KIB,
)  # fmt: skip

COLUMNS: Final = (
    GuestColumn(
        "guarantee", SOURCES, Unit.KIB, "guarantee: the size below which mom never shrinks the guest", 30, 2,
        metric="mom_guest_guaranteed_bytes", made=guaranteed_kib,
    ),
    GuestColumn(
        "promise", SOURCES, Unit.KIB, "promise, including the part that the host cannot keep", 31, 4, "mom_guest_promised_bytes",
        made=promised_kib,
    ),
    GuestColumn(GuestColumn.REMARKS, (OBSTACLE,), Unit.TEXT, "why mom takes no memory from the guest"),
)  # fmt: skip
