"""Importer that converts the INI file of MOM's old daemon."""

from __future__ import annotations

import configparser
import math
from collections.abc import Mapping, Sequence
from typing import Final

from mom_core import ConfigError, printable
from mom_plugins_vdsm.momd.imported import Imported, LogTarget

VDSM: Final = "vdsm"
_SYSTEM_URI: Final = "qemu:///system"

HYPERVISORS: Final[Mapping[str, str]] = {
    "libvirt": "libvirt",
    **dict.fromkeys(("vdsm", "vdsmxmlrpc", "vdsmxmlrpcbulk", "vdsmjsonrpc", "vdsmjsonrpcbulk", "vdsmrpc", "vdsmjsonrpcclient"), VDSM),
}
"""Plugin for each value of hypervisor-interface."""

HOST_COLLECTORS: Final[Mapping[str, str]] = {"HostMemory": "host", "HostCpu": "host", "HostTime": "host", "HostKSM": "ksm"}

HYPERVISOR: Final = "(hypervisor)"
"""Placeholder for the plugin that manages the guests."""

GUEST_COLLECTORS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("GuestMemory", "GuestMemoryOptional", "GuestQemuProc", "GuestLibvirt"), HYPERVISOR),
    **dict.fromkeys(("GuestBalloon", "GuestBalloonOptional"), "balloon"),
    **dict.fromkeys(("GuestCpuTune", "GuestCpuTuneOptional", "GuestIoTune", "GuestIoTuneOptional"), "qos"),
    **dict.fromkeys(("GuestNetworkDaemon", "GuestQemuAgent"), "guestagent"),
}

CONTROLLERS: Final[Mapping[str, str]] = {"Balloon": "balloon", "KSM": "ksm", "CpuTune": "qos", "IoTune": "qos"}

CONTROLS: Final[Mapping[str, tuple[str, ...]]] = {
    "Balloon": ("balloon_target",),
    "KSM": ("ksm_run", "ksm_pages_to_scan", "ksm_sleep_millisecs", "ksm_merge_across_nodes"),
    "CpuTune": ("vcpu_quota", "vcpu_period"),
    "IoTune": ("io_tune",),
}
"""Controls of each controller. If a controller was not configured, policies that set its controls had no effect."""

LEVELS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("5", "debug"), "debug"),
    **dict.fromkeys(("4", "info"), "info"),
    **dict.fromkeys(("3", "warn", "warning"), "warning"),
    **dict.fromkeys(("2", "error"), "error"),
    **dict.fromkeys(("1", "critical"), "error"),
}

_VDSM_SETTINGS: Final = {"host": "host", "port": "port", "pki-dir": "pki_directory"}
"""Settings of the vdsm plugin, keyed by options of [vdsm]."""

DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = {
    "main": {
        **dict.fromkeys(("main-loop-interval", "host-monitor-interval", "guest-manager-interval", "guest-monitor-interval"), "5"),
        **dict.fromkeys(("policy-engine-interval", "sample-history-length"), "10"),
        "hypervisor-interface": "libvirt",
        "controllers": "Balloon",
        "rpc-port": "-1",
        **dict.fromkeys(("libvirt-hypervisor-uri", "plot-dir", "policy", "policy-dir"), ""),
    },
    "logging": {"log": "stdio", "verbosity": "info", "max-bytes": "2097152", "backup-count": "5"},
    "host": {"collectors": "HostMemory"},
    "guest": {"collectors": "GuestQemuProc, GuestLibvirt"},
    VDSM: dict.fromkeys(_VDSM_SETTINGS, ""),
}
"""Defaults of the old daemon. It never read the section [vdsm], whose defaults are therefore empty."""


class _Reader:
    def __init__(self, text: str, file: str, overrides: Mapping[tuple[str, str], str], imported: Imported) -> None:
        self.parser = configparser.RawConfigParser()
        self.overrides, self.imported, self._file = overrides, imported, file
        self.problems: list[ConfigError.Problem] = []
        try:
            self.parser.read_string(text.removeprefix("\ufeff"), file)
        except configparser.Error as error:
            raise ConfigError([ConfigError.Problem(file, 0, 0, printable(" ".join(str(error).split()), 400))]) from error

    def option(self, name: str, section: str = "main") -> str:
        text = self.overrides.get((section, name), self.parser.get(section, name, fallback=None))
        return DEFAULTS[section][name] if text is None else text.strip()

    def has(self, name: str, section: str = "main") -> bool:
        return (section, name) in self.overrides or self.parser.has_option(section, name)

    def wrong(self, name: str, section: str, must: str, hint: str = "") -> None:
        message = f"{name} of [{section}]: {printable(self.option(name, section) or 'nothing', 80)} is {must}"
        self.problems.append(ConfigError.Problem(self._file, 0, 0, message, hint))

    def number(self, name: str, section: str = "main", *, whole: bool = False, least: float = 0.01, most: float = math.inf) -> float | None:
        # Report an invalid number as a problem.
        text = self.option(name, section)
        try:
            value = float(int(text)) if whole else float(text)
        except (ValueError, OverflowError):  # OverflowError: too many digits
            value = math.nan
        if math.isfinite(value) and least <= value <= most:
            return value
        kind = "whole number" if whole else "number"
        self.wrong(name, section, f"not a {kind} of at least {least:g}" + (f" and at most {most:g}" if most < math.inf else ""))
        return None

    def path(self, name: str, section: str = "main") -> str:
        # Report a relative path as a problem.
        text = self.option(name, section)
        if text and not text.startswith("/"):
            self.wrong(name, section, "not a path that begins with /")
        return text

    def names(self, name: str, section: str, valid: Mapping[str, str], kind: str) -> list[str]:
        names = [part.strip() for part in self.option(name, section).replace("\n", ",").split(",") if part.strip()]
        for unknown in (part for part in names if part not in valid):
            self.note(f"{kind} {unknown}: MOM did not contain it; only a plugin can provide it")
        return [part for part in names if part in valid]

    def note(self, text: str) -> None:
        self.imported.notes.append(text)


def import_momd(text: str, file: str, overrides: Mapping[tuple[str, str], str] | None = None) -> Imported:
    """Convert an old configuration to mom's.

    :param overrides: values from the command line, keyed by section and option
    :raises ConfigError: with all errors, or only the first if the file is not in INI syntax
    """
    imported = Imported(
        f"Made by `mom config import` from {file}, a configuration of MOM's old daemon. Comments show the old options. "
        "Notes at the end list what was not converted, and why."
    )
    reader = _Reader(text, file, overrides or {}, imported)
    hypervisor = _hypervisor(reader)
    _intervals(reader)
    imported.log = _logging(reader)
    why = "a policy makes one step per interval, as in MOM; without this setting, memory pressure on the host starts the next step earlier"
    imported.plugin("host").set("watch", "0s", why)
    _guests(reader, hypervisor)
    _collectors(reader, hypervisor)
    controllers = reader.names("controllers", "main", CONTROLLERS, "controller")
    _policies(reader, hypervisor, _idle_controllers(reader, controllers))
    _rpc(reader)
    _mode(reader, controllers)
    _other_options(reader)
    if reader.problems:
        raise ConfigError(sorted(reader.problems))
    return imported


def _hypervisor(reader: _Reader) -> str:
    name = reader.option("hypervisor-interface").lower() or "libvirt"
    if name in HYPERVISORS:
        return HYPERVISORS[name]
    if name.isidentifier():
        reader.imported.plugin(name, "MOM did not contain this hypervisor, so mom uses the plugin of that name")
        return name
    reader.wrong("hypervisor-interface", "main", "not a name of a hypervisor", f"use one of {', '.join(HYPERVISORS)}")
    return "libvirt"


def _intervals(reader: _Reader) -> None:
    every = reader.number("policy-engine-interval")
    intervals = ("main-loop-interval", "host-monitor-interval", "guest-manager-interval", "guest-monitor-interval")
    differing = [f"{name}: {value:g}" for name in intervals if (value := reader.number(name)) != every and value and reader.has(name)]
    samples = reader.number("sample-history-length", whole=True, least=1)
    if every is None or samples is None:
        return
    reader.imported.top.set("interval", _seconds(every), f"policy-engine-interval: {every:g}")
    reader.imported.top.set("history", int(samples), f"sample-history-length: {samples:.0f}")
    if differing:
        reader.note(
            f"{', '.join(differing)}: mom reads host and guests in the cycle in which it evaluates the policy, every {every:g} s; "
            f"averages now cover {samples * every:g} s"
        )


def _seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") + "s"  # without an exponent, which durations do not allow


def _logging(reader: _Reader) -> LogTarget:
    verbosity = reader.option("verbosity", "logging")
    level = LEVELS.get(verbosity.lower())
    if level is None:
        reader.wrong("verbosity", "logging", "not a log level", "use critical, error, warn, info, debug, or 1 to 5")
    elif level != "info" or reader.has("verbosity", "logging"):
        reader.imported.top.set("log_level", level, f"verbosity: {verbosity}")
    file = "" if reader.option("log", "logging").lower() in {"stdio", ""} else reader.path("log", "logging")
    size, backups = (reader.number(name, "logging", whole=True, least=0) or 0 for name in ("max-bytes", "backup-count"))
    return LogTarget(file, int(size), int(backups))


def _guests(reader: _Reader, hypervisor: str) -> None:
    section = reader.imported.plugin(hypervisor, f"hypervisor-interface: {reader.option('hypervisor-interface') or hypervisor}")
    uri = reader.option("libvirt-hypervisor-uri")
    if hypervisor == "libvirt":
        section.set("uri", uri or _SYSTEM_URI, f"libvirt-hypervisor-uri: {uri}" if uri else "libvirt-hypervisor-uri was not set")
    elif uri:
        reader.note(f"libvirt-hypervisor-uri: {uri}: not used, because the guests do not come from libvirt")
    if hypervisor != VDSM:
        return
    for name, setting in _VDSM_SETTINGS.items():
        if text := reader.option(name, VDSM):
            value = int(reader.number(name, VDSM, whole=True, least=1, most=65535) or 0) if name == "port" else text
            section.set(setting, value, f"{name} in [vdsm], which the old daemon never read")


def _collectors(reader: _Reader, hypervisor: str) -> None:
    for section, plugins in (("host", HOST_COLLECTORS), ("guest", GUEST_COLLECTORS)):
        by_plugin: dict[str, list[str]] = {}
        for name in reader.names("collectors", section, plugins, "collector"):
            by_plugin.setdefault(hypervisor if plugins[name] == HYPERVISOR else plugins[name], []).append(name)
        for plugin, names in by_plugin.items():
            enabled = reader.imported.plugin(plugin, f"[{section}] collectors: {', '.join(names)}")
            if plugin == "guestagent":
                enabled.set("qemu_agent", "GuestQemuAgent" in names)


def _idle_controllers(reader: _Reader, enabled: Sequence[str]) -> list[str]:
    for name in enabled:
        reader.imported.plugin(CONTROLLERS[name], f"controllers: {name}")
    return [name for name, plugin in CONTROLLERS.items() if name not in enabled and plugin in reader.imported.plugins]


def _policies(reader: _Reader, hypervisor: str, idle: list[str]) -> None:
    section = reader.imported.plugin("policy")
    file, folder = reader.path("policy"), reader.path("policy-dir")
    if file:
        section.set("file", file, "policy")
        if folder:
            reader.note(f"policy-dir: {folder}: not used, because `policy` takes precedence")
    elif folder:
        section.set("directory", folder, "policy-dir")
    section.set("defaults", False, "MOM had no default policies; with true, mom's also apply, unless a policy of yours has the same name")
    if hypervisor == VDSM:
        section.set("keep_changes", True, "keep vdsm's policies over a restart of mom, because vdsm does not send them again")
    if idle:
        ignored = [control for name in idle for control in CONTROLS[name]]
        section.set("ignore", ignored, f"{', '.join(idle)} {'is' if len(idle) == 1 else 'are'} not among the controllers")


def _rpc(reader: _Reader) -> None:
    text = reader.option("rpc-port")
    if text.startswith("/"):
        reader.imported.plugin("xmlrpc").set("listen", text, "rpc-port")
        return
    try:
        port = int(text or "-1")
    except ValueError:
        port = 1 << 16
    if port > 65535:
        reader.wrong("rpc-port", "main", "neither a port nor a path that begins with /", "-1 switches the server off")
    elif port > 0:
        section = reader.imported.plugin("xmlrpc")
        section.set("listen", f"127.0.0.1:{port}", f"rpc-port: {port}")
        why = "XML-RPC has no authentication: with true, as in MOM, any account of this host can replace all policies"
        section.set("changes_over_tcp", False, why)
        without = "clients can read statistics and policies, but change nothing; to allow changes, use a path such as /run/mom/rpc.sock"
        reader.note(f"rpc-port: {port}: {without}")


def _mode(reader: _Reader, controllers: Sequence[str]) -> None:
    # MOM acts only with a controller, and with a policy or a client that may set one.
    has_clients = "xmlrpc" in reader.imported.plugins
    policy = {"file", "directory"} & reader.imported.plugins["policy"].settings.keys()
    acts = bool(controllers) and bool(policy or has_clients)
    reader.imported.top.set(
        "mode", "enforce" if acts else "observe", "MOM changed settings with this file" if acts else "MOM changed nothing with this file"
    )
    if not policy:
        until = "until a client sets a policy by XML-RPC, no policy decides" if has_clients else "no policy decides, so mom changes nothing"
        cure = "set `file` or `directory` of the policy plugin for your own policies, or `defaults: true` for mom's"
        reader.note(f"policy and policy-dir are empty: {until}; {cure}")


def _other_options(reader: _Reader) -> None:
    if plots := reader.option("plot-dir"):
        reader.note(f"plot-dir: {plots}: enable the record plugin; `mom report --html FILE` then draws plots")
    for section in reader.parser.sections():
        if section not in DEFAULTS or (section == VDSM and VDSM not in reader.imported.plugins):
            reader.note(f"[{section}]: not used")
            continue
        for name in reader.parser[section]:
            if name not in DEFAULTS[section]:
                reader.note(f"{name} of [{section}]: not used")
