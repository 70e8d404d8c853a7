from .columns import Columns as Columns
from .config import Config as Config, load_config as load_config, read_settings as read_settings
from .config.document import Document as Document
from .context import Declarations as Declarations, PluginContext as PluginContext
from .engine import Clock as Clock, Engine as Engine
from .errors import (
    ConfigError as ConfigError,
    GuestBusy as GuestBusy,
    GuestGone as GuestGone,
    HypervisorError as HypervisorError,
    MomError as MomError,
    NotSupported as NotSupported,
    PermissionDenied as PermissionDenied,
    PluginError as PluginError,
    Refused as Refused,
    StateError as StateError,
    UnitError as UnitError,
    NoChangeNeeded as NoChangeNeeded,
)
from .files import is_there as is_there, read_file as read_file, replace_file as replace_file
from .guest_patterns import GuestPattern as GuestPattern
from .hookspecs import hookimpl as hookimpl
from .hypervisor import CpuTune as CpuTune, DiskTune as DiskTune, Hypervisor as Hypervisor, NetTune as NetTune
from .model import (
    Change as Change,
    Condition as Condition,
    ControlSpec as ControlSpec,
    Decision as Decision,
    Declaration as Declaration,
    DefaultPolicy as DefaultPolicy,
    EngineState as EngineState,
    Entity as Entity,
    FieldSpec as FieldSpec,
    Finding as Finding,
    Guest as Guest,
    GuestColumn as GuestColumn,
    Host as Host,
    LedgerEntry as LedgerEntry,
    Outcome as Outcome,
    PluginReport as PluginReport,
    Problem as Problem,
    Report as Report,
    Revision as Revision,
    Scope as Scope,
    Severity as Severity,
    Snapshot as Snapshot,
    Source as Source,
    Status as Status,
    Suggestion as Suggestion,
    Target as Target,
    Verdict as Verdict,
)
from .files import read_secret as read_secret, untrusted as untrusted, user_name as user_name
from .settings import (
    Duration as Duration,
    ExistingFile as ExistingFile,
    GuestSettings as GuestSettings,
    PluginSettings as PluginSettings,
    StrictModel as StrictModel,
    Size as Size,
)
from .texts import count_of as count_of, first_names as first_names, printable as printable
from .state_files import StateFile as StateFile
from .units import (
    Portion as Portion,
    Unit as Unit,
    format_duration as format_duration,
    format_kib as format_kib,
    lasting as lasting,
    parse_duration as parse_duration,
    parse_size as parse_size,
)
from .values import Value as Value, as_items as as_items, as_number as as_number, as_whole as as_whole
from ._version import __version__ as __version__
