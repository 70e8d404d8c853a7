"""mom: a memory overcommitment manager for KVM hosts, as a plugin framework.

What is named here is the contract; plugins import from here (their tests from `mom_core.testing` too), and from
nowhere else in `mom_core`. A new name is added in two places: to `_WHERE`, and to the imports that type checkers see.
Names are imported when they are first used, so that a small command does not pay for a large one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mom_core._version import __version__ as __version__

_WHERE = {
    "hookspecs": ("hookimpl",),
    "settings": ("Duration", "ExistingFile", "GuestSettings", "PluginSettings", "SecretUrl", "Size", "SizeOrShare"),
    "context": ("Declarations", "InForce", "PluginContext"),
    "model": (
        "Alert", "Change", "Considered", "ControlSpec", "Decision", "Entity", "FieldSpec", "Finding", "Guest", "HOST_ID", "Host",
        "LedgerEntry", "Metric", "OnItsWay", "Outcome", "PluginReport", "PluginState", "Problem", "Report", "Revision", "Scope",
        "Severity", "Snapshot", "Source", "StandingAlert", "Status", "Suggestion", "Target", "Verdict", "differences",
        "printable", "printable_lines",
    ),
    "overview": ("GuestColumn", "StatusPart"),
    "explanation": ("About", "ExplainedDecision", "Explainer", "ExplanationPart", "Sentence", "SentencePlace"),
    "hypervisor": (
        "AgentAccess", "BalloonControl", "CpuPinControl", "CpuTune", "CpuTuneControl", "DiskTune", "GuestEvents", "Hypervisor",
        "IoTuneControl", "KsmControl", "KsmWriter", "LifecycleControl", "MigrationControl", "NetTune", "NetTuneControl", "NodeTune",
        "NodeTuneControl", "Standing",
    ),
    "destination": ("Destination",),
    "services.running_mom": ("EngineState", "PastCycle", "PastCycles", "ReasonedCycles", "RunningMom", "StandingProblem"),
    "cli.options": ("config_argument", "config_option", "json_option"),
    "cli.prose": ("brief", "print_prose"),
    "cli.frame": ("run_program",),
    "cli.run": ("daemon_log", "run_daemon"),
    "cli.terminal": ("print_text",),
    "cli.verbs": ("Verb", "VerbGroup"),
    "enforcement": ("Enforcement", "SetValue"),
    "files": ("replace_file",),
    "plugins.bounded": ("attempt",),
    "plugins.secrets": ("MASK", "MASKED_NAMES", "Hiding", "names_secret", "without_secrets"),
    "knobs": ("Knob", "KnobPlugin", "file_knob", "read_number", "write_file"),
    "ownership": ("read_secret", "untrusted"),
    "state_files": ("StateFile",),
    "callers": ("Callers", "came_back"),
    "kernel_files": (
        "Pressure", "ProcessStat", "boot_id", "parse_meminfo", "parse_pressure", "parse_process_stat", "read_kernel_file",
        "write_kernel_file",
    ),
    "sockets": ("Address", "Listener", "OccupiedByOurselvesError", "PeerCredentials", "listen", "peer_credentials"),
    "units": (
        "Portion", "Unit", "format_duration", "format_kib", "format_size", "lasting", "parse_duration", "parse_portion", "parse_size",
    ),
    "errors": (
        "AlreadyRunning", "ConfigError", "ConfigProblem", "DeadlineExceeded", "DestinationError", "GuestBusy", "GuestGone",
        "HypervisorError", "LedgerError", "MomError", "NoSuchGuest", "NotRunning", "NotSupported",
        "PermissionDenied", "PluginError", "PluginErrors", "PolicyConflict", "PolicyProblem",
        "PolicyRefused", "Refused", "StateError", "UnitError", "Unneeded",
    ),
    "values": ("Value", "as_items", "as_number", "as_text", "as_whole", "stale_seconds"),
    "services.policies": (
        "Canary", "CanaryGroup", "CanaryPolicies", "CanaryState", "CheckedPolicies", "EvaluatedPolicies", "PolicyChange", "PolicyState",
        "PolicyText", "PolicyTexts", "ReasonedPolicies", "RunningPolicies",
    ),
    "services.admission": ("Admission", "Admissions", "Donor"),
    "services.promises": ("NO_PROMISES", "Promises"),
    "services.reservations": ("Reservation", "ReservationRefused", "ReservationState", "Reservations", "Room"),
    "config": ("Config", "load_config", "read_settings"),
    "config.document": ("Document", "dotted", "parse_document"),
    "engine": ("Clock", "Engine"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

if TYPE_CHECKING:
    from mom_core.callers import Callers as Callers
    from mom_core.callers import came_back as came_back
    from mom_core.cli.frame import run_program as run_program
    from mom_core.cli.options import config_argument as config_argument
    from mom_core.cli.options import config_option as config_option
    from mom_core.cli.options import json_option as json_option
    from mom_core.cli.prose import brief as brief
    from mom_core.cli.prose import print_prose as print_prose
    from mom_core.cli.run import daemon_log as daemon_log
    from mom_core.cli.run import run_daemon as run_daemon
    from mom_core.cli.terminal import print_text as print_text
    from mom_core.cli.verbs import Verb as Verb
    from mom_core.cli.verbs import VerbGroup as VerbGroup
    from mom_core.config import Config as Config
    from mom_core.config import load_config as load_config
    from mom_core.config import read_settings as read_settings
    from mom_core.config.document import Document as Document
    from mom_core.config.document import dotted as dotted
    from mom_core.config.document import parse_document as parse_document
    from mom_core.context import Declarations as Declarations
    from mom_core.context import InForce as InForce
    from mom_core.context import PluginContext as PluginContext
    from mom_core.destination import Destination as Destination
    from mom_core.enforcement import Enforcement as Enforcement
    from mom_core.enforcement import SetValue as SetValue
    from mom_core.engine import Clock as Clock
    from mom_core.engine import Engine as Engine
    from mom_core.errors import AlreadyRunning as AlreadyRunning
    from mom_core.errors import ConfigError as ConfigError
    from mom_core.errors import ConfigProblem as ConfigProblem
    from mom_core.errors import DeadlineExceeded as DeadlineExceeded
    from mom_core.errors import DestinationError as DestinationError
    from mom_core.errors import GuestBusy as GuestBusy
    from mom_core.errors import GuestGone as GuestGone
    from mom_core.errors import HypervisorError as HypervisorError
    from mom_core.errors import LedgerError as LedgerError
    from mom_core.errors import MomError as MomError
    from mom_core.errors import NoSuchGuest as NoSuchGuest
    from mom_core.errors import NotRunning as NotRunning
    from mom_core.errors import NotSupported as NotSupported
    from mom_core.errors import PermissionDenied as PermissionDenied
    from mom_core.errors import PluginError as PluginError
    from mom_core.errors import PluginErrors as PluginErrors
    from mom_core.errors import PolicyConflict as PolicyConflict
    from mom_core.errors import PolicyProblem as PolicyProblem
    from mom_core.errors import PolicyRefused as PolicyRefused
    from mom_core.errors import Refused as Refused
    from mom_core.errors import StateError as StateError
    from mom_core.errors import UnitError as UnitError
    from mom_core.errors import Unneeded as Unneeded
    from mom_core.explanation import About as About
    from mom_core.explanation import ExplainedDecision as ExplainedDecision
    from mom_core.explanation import Explainer as Explainer
    from mom_core.explanation import ExplanationPart as ExplanationPart
    from mom_core.explanation import Sentence as Sentence
    from mom_core.explanation import SentencePlace as SentencePlace
    from mom_core.files import replace_file as replace_file
    from mom_core.hookspecs import hookimpl as hookimpl
    from mom_core.hypervisor import AgentAccess as AgentAccess
    from mom_core.hypervisor import BalloonControl as BalloonControl
    from mom_core.hypervisor import CpuPinControl as CpuPinControl
    from mom_core.hypervisor import CpuTune as CpuTune
    from mom_core.hypervisor import CpuTuneControl as CpuTuneControl
    from mom_core.hypervisor import DiskTune as DiskTune
    from mom_core.hypervisor import GuestEvents as GuestEvents
    from mom_core.hypervisor import Hypervisor as Hypervisor
    from mom_core.hypervisor import IoTuneControl as IoTuneControl
    from mom_core.hypervisor import KsmControl as KsmControl
    from mom_core.hypervisor import KsmWriter as KsmWriter
    from mom_core.hypervisor import LifecycleControl as LifecycleControl
    from mom_core.hypervisor import MigrationControl as MigrationControl
    from mom_core.hypervisor import NetTune as NetTune
    from mom_core.hypervisor import NetTuneControl as NetTuneControl
    from mom_core.hypervisor import NodeTune as NodeTune
    from mom_core.hypervisor import NodeTuneControl as NodeTuneControl
    from mom_core.hypervisor import Standing as Standing
    from mom_core.kernel_files import Pressure as Pressure
    from mom_core.kernel_files import ProcessStat as ProcessStat
    from mom_core.kernel_files import boot_id as boot_id
    from mom_core.kernel_files import parse_meminfo as parse_meminfo
    from mom_core.kernel_files import parse_pressure as parse_pressure
    from mom_core.kernel_files import parse_process_stat as parse_process_stat
    from mom_core.kernel_files import read_kernel_file as read_kernel_file
    from mom_core.kernel_files import write_kernel_file as write_kernel_file
    from mom_core.knobs import Knob as Knob
    from mom_core.knobs import KnobPlugin as KnobPlugin
    from mom_core.knobs import file_knob as file_knob
    from mom_core.knobs import read_number as read_number
    from mom_core.knobs import write_file as write_file
    from mom_core.model import HOST_ID as HOST_ID
    from mom_core.model import Alert as Alert
    from mom_core.model import Change as Change
    from mom_core.model import Considered as Considered
    from mom_core.model import ControlSpec as ControlSpec
    from mom_core.model import Decision as Decision
    from mom_core.model import Entity as Entity
    from mom_core.model import FieldSpec as FieldSpec
    from mom_core.model import Finding as Finding
    from mom_core.model import Guest as Guest
    from mom_core.model import Host as Host
    from mom_core.model import LedgerEntry as LedgerEntry
    from mom_core.model import Metric as Metric
    from mom_core.model import OnItsWay as OnItsWay
    from mom_core.model import Outcome as Outcome
    from mom_core.model import PluginReport as PluginReport
    from mom_core.model import PluginState as PluginState
    from mom_core.model import Problem as Problem
    from mom_core.model import Report as Report
    from mom_core.model import Revision as Revision
    from mom_core.model import Scope as Scope
    from mom_core.model import Severity as Severity
    from mom_core.model import Snapshot as Snapshot
    from mom_core.model import Source as Source
    from mom_core.model import StandingAlert as StandingAlert
    from mom_core.model import Status as Status
    from mom_core.model import Suggestion as Suggestion
    from mom_core.model import Target as Target
    from mom_core.model import Verdict as Verdict
    from mom_core.model import differences as differences
    from mom_core.model import printable as printable
    from mom_core.model import printable_lines as printable_lines
    from mom_core.overview import GuestColumn as GuestColumn
    from mom_core.overview import StatusPart as StatusPart
    from mom_core.ownership import read_secret as read_secret
    from mom_core.ownership import untrusted as untrusted
    from mom_core.plugins.bounded import attempt as attempt
    from mom_core.plugins.secrets import MASK as MASK
    from mom_core.plugins.secrets import MASKED_NAMES as MASKED_NAMES
    from mom_core.plugins.secrets import Hiding as Hiding
    from mom_core.plugins.secrets import names_secret as names_secret
    from mom_core.plugins.secrets import without_secrets as without_secrets
    from mom_core.services.admission import Admission as Admission
    from mom_core.services.admission import Admissions as Admissions
    from mom_core.services.admission import Donor as Donor
    from mom_core.services.policies import Canary as Canary
    from mom_core.services.policies import CanaryGroup as CanaryGroup
    from mom_core.services.policies import CanaryPolicies as CanaryPolicies
    from mom_core.services.policies import CanaryState as CanaryState
    from mom_core.services.policies import CheckedPolicies as CheckedPolicies
    from mom_core.services.policies import EvaluatedPolicies as EvaluatedPolicies
    from mom_core.services.policies import PolicyChange as PolicyChange
    from mom_core.services.policies import PolicyState as PolicyState
    from mom_core.services.policies import PolicyText as PolicyText
    from mom_core.services.policies import PolicyTexts as PolicyTexts
    from mom_core.services.policies import ReasonedPolicies as ReasonedPolicies
    from mom_core.services.policies import RunningPolicies as RunningPolicies
    from mom_core.services.promises import NO_PROMISES as NO_PROMISES
    from mom_core.services.promises import Promises as Promises
    from mom_core.services.reservations import Reservation as Reservation
    from mom_core.services.reservations import ReservationRefused as ReservationRefused
    from mom_core.services.reservations import Reservations as Reservations
    from mom_core.services.reservations import ReservationState as ReservationState
    from mom_core.services.reservations import Room as Room
    from mom_core.services.running_mom import EngineState as EngineState
    from mom_core.services.running_mom import PastCycle as PastCycle
    from mom_core.services.running_mom import PastCycles as PastCycles
    from mom_core.services.running_mom import ReasonedCycles as ReasonedCycles
    from mom_core.services.running_mom import RunningMom as RunningMom
    from mom_core.services.running_mom import StandingProblem as StandingProblem
    from mom_core.settings import Duration as Duration
    from mom_core.settings import ExistingFile as ExistingFile
    from mom_core.settings import GuestSettings as GuestSettings
    from mom_core.settings import PluginSettings as PluginSettings
    from mom_core.settings import SecretUrl as SecretUrl
    from mom_core.settings import Size as Size
    from mom_core.settings import SizeOrShare as SizeOrShare
    from mom_core.sockets import Address as Address
    from mom_core.sockets import Listener as Listener
    from mom_core.sockets import OccupiedByOurselvesError as OccupiedByOurselvesError
    from mom_core.sockets import PeerCredentials as PeerCredentials
    from mom_core.sockets import listen as listen
    from mom_core.sockets import peer_credentials as peer_credentials
    from mom_core.state_files import StateFile as StateFile
    from mom_core.units import Portion as Portion
    from mom_core.units import Unit as Unit
    from mom_core.units import format_duration as format_duration
    from mom_core.units import format_kib as format_kib
    from mom_core.units import format_size as format_size
    from mom_core.units import lasting as lasting
    from mom_core.units import parse_duration as parse_duration
    from mom_core.units import parse_portion as parse_portion
    from mom_core.units import parse_size as parse_size
    from mom_core.values import Value as Value
    from mom_core.values import as_items as as_items
    from mom_core.values import as_number as as_number
    from mom_core.values import as_text as as_text
    from mom_core.values import as_whole as as_whole
    from mom_core.values import stale_seconds as stale_seconds


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'mom_core' has no attribute {name!r}")
    value: object = getattr(import_module(f"mom_core.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names: what is not here may change without notice."""
    return sorted({"__version__", *_MODULE_OF})
