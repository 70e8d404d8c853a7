from .bounded_server import BoundedServer as BoundedServer, ServerDoor as ServerDoor
from .callers import CallPatience as CallPatience, Callers as Callers
from .capabilities import NodeTune as NodeTune, Offloaded as Offloaded, GuestState as GuestState, SwapStore as SwapStore
from .cgroup_mounts import Hierarchies as Hierarchies
from .destination import Destination as Destination
from .guest_cgroup import GroupLimit as GroupLimit, kib_in as kib_in
from .freshness import seen_lately as seen_lately, stale_seconds as stale_seconds
from .health import (
    HealthLimits as HealthLimits,
    unhealthy_reasons as unhealthy_reasons,
    field_number as field_number,
    pages_kib as pages_kib,
)
from .host_gauge import AvailableGauge as AvailableGauge
from .hypervisors import (
    check_size as check_size,
    PROMISED_NOTHING as PROMISED_NOTHING,
    UNDESCRIBED as UNDESCRIBED,
    capable as capable,
    listed_guests as listed_guests,
    set_each as set_each,
    tune_named as tune_named,
)
from .kernel_files import (
    cure_by_lines as cure_by_lines,
    PAGE_KIB as PAGE_KIB,
    Pressure as Pressure,
    ProcessStat as ProcessStat,
    boot_id as boot_id,
    open_process_file as open_process_file,
    parse_number_list as parse_number_list,
    pid_of as pid_of,
    read_kernel_file as read_kernel_file,
    read_meminfo as read_meminfo,
    root_cure as root_cure,
    unwritable_finding as unwritable_finding,
    why_not_writable as why_not_writable,
    write_file as write_file,
    write_group_files as write_group_files,
)
from .look_thread import LookThread as LookThread
from .knobs import Knob as Knob, KnobPlugin as KnobPlugin, helper_declaration as helper_declaration
from .late_hooks import late_hook as late_hook
from .root_helper import GroupWrite as GroupWrite, Helper as Helper
from .run_summary import RunSummary as RunSummary
from .services.admission import Admission as Admission, Admissions as Admissions, ClassFiles as ClassFiles
from .services.eviction import (
    GuestMoves as GuestMoves,
    HostDrain as HostDrain,
    MovePreparation as MovePreparation,
    MoveProgress as MoveProgress,
    MoverAbilities as MoverAbilities,
)
from .services.launches import LaunchReader as LaunchReader, Launch as Launch, LaunchedGuest as LaunchedGuest, Launches as Launches
from .services.metrics import HostMetrics as HostMetrics
from .services.platforms import (
    GuestDescription as GuestDescription,
    GuestPlatform as GuestPlatform,
    PlatformProperties as PlatformProperties,
    platform_properties as platform_properties,
)
from .services.policies import (
    PolicyChange as PolicyChange,
    PolicyConflict as PolicyConflict,
    PolicyProblem as PolicyProblem,
    PolicyRefused as PolicyRefused,
    PolicyState as PolicyState,
    PolicyText as PolicyText,
    PolicyTexts as PolicyTexts,
)
from .services.promises import NO_PROMISES as NO_PROMISES, Promises as Promises
from .services.launches import (
    Reservation as Reservation,
    ReservationRefused as ReservationRefused,
    Reservations as Reservations,
    Room as Room,
)
from .services.past_cycles import (
    PastCycle as PastCycle,
    PastCycles as PastCycles,
    RecordedPoint as RecordedPoint,
    RecordedPoints as RecordedPoints,
)
from .simulation import SimulationSetup as SimulationSetup, quiet as quiet
from .sockets import Address as Address, Listener as Listener, PeerCredentials as PeerCredentials, connect_to_guest as connect_to_guest
from .doctor import Cures as Cures
from .fields import GuestField as GuestField, QEMU_GUEST_FIELDS as QEMU_GUEST_FIELDS
from .host_side import HostSide as HostSide
from .plugin_of_guests import PluginOfGuests as PluginOfGuests
from .seen_guests import GuestRemark as GuestRemark, SeenGuest as SeenGuest, SeenGuests as SeenGuests
from .statistics import StatisticsRecord as StatisticsRecord
from .watch import TAKEN_KIB as TAKEN_KIB, WatchedMemory as WatchedMemory
from .doctor import named_guests as named_guests
