from .doctor import Cures as Cures, count_of as count_of, examined as examined, told as told
from .disk_limits import tune_named as tune_named, wanted_limits as wanted_limits
from .fields import (
    AUTODEFLATE as AUTODEFLATE,
    BALLOON as BALLOON,
    GIVE_BACK as GIVE_BACK,
    LEAST as LEAST,
    LIMIT_ROOM as LIMIT_ROOM,
    PERIOD as PERIOD,
    REPORTING as REPORTING,
    VOUCHED as VOUCHED,
    guest_fields as guest_fields,
    host_fields as host_fields,
)
from .guest_cgroup import Cgroups as Cgroups, CpuCounters as CpuCounters, cgroups_of as cgroups_of, pressure_in as pressure_in
from .host_side import HostSide as HostSide
from .plugin_of_guests import PluginOfGuests as PluginOfGuests
from .qemu_process import (
    held_memory as held_memory,
    HeldMemory as HeldMemory,
    Merged as Merged,
    huge_kib as huge_kib,
    largest_kib as largest_kib,
    MergedPages as MergedPages,
    swapped_kib as swapped_kib,
    times_of as times_of,
)
from .reporting_hypervisor import ReportingHypervisor as ReportingHypervisor
from .resizes import Resizes as Resizes
from .seen_guests import SeenGuest as SeenGuest, SeenGuests as SeenGuests
from .statistics import Reading as Reading, Record as Record, convert as convert, possible_maximum as possible_maximum
from .watch import (
    BalloonStatistics as BalloonStatistics,
    GuestWatch as GuestWatch,
    WatchedMemory as WatchedMemory,
    Statistics as Statistics,
    TAKEN_KIB as TAKEN_KIB,
    usable_soon as usable_soon,
    why_wake as why_wake,
)
