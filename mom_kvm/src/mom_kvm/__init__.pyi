from .bounded_server import BoundedServer as BoundedServer
from .threads import CallPatience as CallPatience, Callers as Callers
from .hypervisors import NodeTune as NodeTune, GuestState as GuestState, SwapStore as SwapStore
from .cgroups import Hierarchies as Hierarchies
from .destination import Destination as Destination
from .cgroups import GroupLimit as GroupLimit
from .health import seen_lately as seen_lately, stale_seconds as stale_seconds
from .health import HealthLimits as HealthLimits, pages_kib as pages_kib
from .watch import AvailableGauge as AvailableGauge
from .hypervisors import capable as capable, listed_guests as listed_guests, set_each as set_each
from .kernel_files import (
    PAGE_KIB as PAGE_KIB,
    Pressure as Pressure,
    ProcessStat as ProcessStat,
    boot_id as boot_id,
    parse_number_list as parse_number_list,
    pid_of as pid_of,
    read_kernel_file as read_kernel_file,
    read_meminfo as read_meminfo,
    root_cure as root_cure,
    unwritable_finding as unwritable_finding,
    write_file as write_file,
    write_group_files as write_group_files,
)
from .threads import LookThread as LookThread
from .knobs import Knob as Knob, KnobPlugin as KnobPlugin
from .late_hooks import late_hook as late_hook
from .root_helper import Helper as Helper
from .run_summary import RunSummary as RunSummary
from .services import Admission as Admission, Admissions as Admissions, ClassFiles as ClassFiles
from .services import GuestMoves as GuestMoves, HostDrain as HostDrain, MovePreparation as MovePreparation, MoverAbilities as MoverAbilities
from .services import LaunchReader as LaunchReader, LaunchedGuest as LaunchedGuest, Launches as Launches
from .services import HostMetrics as HostMetrics
from .services import GuestDescription as GuestDescription, GuestPlatform as GuestPlatform, PlatformProperties as PlatformProperties
from .services import PolicyProblem as PolicyProblem, PolicyState as PolicyState, PolicyTexts as PolicyTexts
from .services import Promises as Promises
from .services import Reservation as Reservation, Reservations as Reservations
from .services import PastCycle as PastCycle, PastCycles as PastCycles, RecordedPoint as RecordedPoint, RecordedPoints as RecordedPoints
from .simulation import SimulationSetup as SimulationSetup
from .sockets import Address as Address, PeerCredentials as PeerCredentials
from .fields import GuestField as GuestField
from .host_side import HostSide as HostSide
from .plugin_of_guests import Cures as Cures, PluginOfGuests as PluginOfGuests
from .seen_guests import SeenGuest as SeenGuest, SeenGuests as SeenGuests
from .statistics import StatisticsRecord as StatisticsRecord
from .watch import WatchedMemory as WatchedMemory
