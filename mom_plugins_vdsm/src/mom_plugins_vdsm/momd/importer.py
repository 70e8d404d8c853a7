"""The old daemon's INI file: its sections, options, collectors and controllers, and the plugins that took their place."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mom_cli import Imported, Importer
from mom_core import ConfigError, printable
from mom_plugins_vdsm.momd.ini import Ini, IniOption, read_ini

VDSM: Final = "vdsm"
SYSTEM_URI: Final = "qemu:///system"

HYPERVISORS: Final[Mapping[str, str]] = {
    "libvirt": "libvirt",
    **dict.fromkeys(("vdsm", "vdsmxmlrpc", "vdsmxmlrpcbulk", "vdsmjsonrpc", "vdsmjsonrpcbulk", "vdsmrpc", "vdsmjsonrpcclient"), VDSM),
}
"""Values of hypervisor-interface. The old ones for vdsm differed in how they asked; there is one way now."""

HOST_COLLECTORS: Final[Mapping[str, str]] = {"HostMemory": "host", "HostCpu": "host", "HostTime": "host", "HostKSM": "ksm"}

HYPERVISOR: Final = "(hypervisor)"
"""Stands for whichever plugin the guests come from."""

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
"""What a controller acted on. Without the controller, a policy that set these did nothing."""

LEVELS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("5", "debug"), "debug"),
    **dict.fromkeys(("4", "info"), "info"),
    **dict.fromkeys(("3", "warn", "warning"), "warning"),
    **dict.fromkeys(("2", "error"), "error"),
    **dict.fromkeys(("1", "critical"), "error"),
}

DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = {
    "main": {
        "main-loop-interval": "5",
        "host-monitor-interval": "5",
        "guest-manager-interval": "5",
        "guest-monitor-interval": "5",
        "policy-engine-interval": "10",
        "sample-history-length": "10",
        "hypervisor-interface": "libvirt",
        "libvirt-hypervisor-uri": "",
        "controllers": "Balloon",
        "plot-dir": "",
        "rpc-port": "-1",
        "policy": "",
        "policy-dir": "",
        "guest-manager-multi-thread": "true",
    },
    "logging": {"log": "stdio", "verbosity": "info", "max-bytes": "2097152", "backup-count": "5"},
    "host": {"collectors": "HostMemory"},
    "guest": {"collectors": "GuestQemuProc, GuestLibvirt"},
}
"""What the old daemon takes for options that are not given."""

_ANSWER_SHARE: Final = 0.8
"""The share of its deadline that the plugin vdsm waits for an answer at most."""

_FLAGS: Final = {"true", "false", "yes", "no", "on", "off", "1", "0"}


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Where the old daemon's log goes: a file (empty: standard error) of at most so many bytes, with so many older ones kept."""

    file: str = ""
    max_bytes: int = 2 << 20
    backups: int = 5


@dataclass(slots=True)
class Momd:
    """An old configuration that was understood: mom's, and where to log."""

    imported: Imported
    log: LogTarget = field(default_factory=LogTarget)

    def for_mom_run(self) -> Imported:
        """The same for `mom run`, which does not log into files."""
        if self.log.file:
            self.imported.notes.append(
                f"log: {self.log.file}, max-bytes, backup-count: `mom run` writes to standard error, which systemd keeps in its journal; "
                "`momd` writes to that file, and rotates it, as before"
            )
        return self.imported


@dataclass(slots=True)
class _Reader:
    """The options of one file, with the command line on top and the defaults below."""

    ini: Ini
    overrides: Mapping[tuple[str, str], str]

    def option(self, section: str, name: str) -> IniOption:
        """An option as it counts."""
        if (section, name) in self.overrides:
            return IniOption(self.overrides[section, name])
        found = self.ini.sections.get(section, {}).get(name)
        return found if found is not None else IniOption(DEFAULTS[section][name])

    def given(self, section: str, name: str) -> bool:
        """Whether it is said at all."""
        return (section, name) in self.overrides or name in self.ini.sections.get(section, {})

    def number(self, section: str, name: str, *, whole: bool, least: float) -> float:
        """A number. What is wrong is noted, and the default taken."""
        option = self.option(section, name)
        try:
            value = float(int(option.text)) if whole else float(option.text)
            if not math.isfinite(value) or value < least:
                raise ValueError
        except (ValueError, OverflowError):  # OverflowError: hundreds of digits
            kind = "whole number" if whole else "number"
            self.ini.complain(option, f"{name}: {printable(option.text or 'nothing', 40)} is no {kind} of at least {least:g}")
            return float(DEFAULTS[section][name])
        return value

    def names(self, section: str, name: str) -> list[tuple[str, IniOption]]:
        """A list of names, separated by commas."""
        option = self.option(section, name)
        return [(part.strip(), option) for part in option.text.replace("\n", ",").split(",") if part.strip()]


def import_momd(text: str, file: str, overrides: Mapping[tuple[str, str], str] | None = None) -> Momd:
    """Turn an old configuration into mom's.

    :param overrides: what the command line says, by section and option; it comes before the file
    :raises ConfigError: with everything that is wrong, each with its line
    """
    reader = _Reader(read_ini(text, file), overrides or {})
    imported = Imported(
        f"Made by `mom config import` from {file}, a configuration of MOM's old daemon. Each setting says what it was; "
        "at the end stands what was not taken over, and why."
    )
    hypervisor = _hypervisor(reader, imported)
    _intervals(reader, imported)
    log = _logging(reader, imported)
    imported.plugin("host")
    _add_hypervisor(reader, imported, hypervisor)
    _collectors(reader, imported, hypervisor)
    missing = _controllers(reader, imported)
    _policies(reader, imported, hypervisor, missing)
    _rpc(reader, imported)
    _what_no_longer_matters(reader, imported)
    if reader.ini.problems:
        raise ConfigError(sorted(reader.ini.problems))
    return Momd(imported, log)


def _hypervisor(reader: _Reader, imported: Imported) -> str:
    option = reader.option("main", "hypervisor-interface")
    name = option.text.lower()
    if not name:
        return "libvirt"
    known = HYPERVISORS.get(name)
    if known is None and name.isidentifier():
        imported.plugin(name, "none of MOM's own, so a plugin of that name")
        return name
    if known is None:
        reader.ini.complain(option, f"hypervisor-interface: {printable(option.text, 40)} is no name", f"there are {', '.join(HYPERVISORS)}")
    return known or "libvirt"


def _intervals(reader: _Reader, imported: Imported) -> None:
    evaluated = reader.number("main", "policy-engine-interval", whole=False, least=0.01)
    others = {
        name: reader.number("main", name, whole=False, least=0.01)
        for name in ("main-loop-interval", "host-monitor-interval", "guest-manager-interval", "guest-monitor-interval")
    }
    imported.top.set("interval", _seconds(evaluated), f"policy-engine-interval: {evaluated:g}")
    samples = int(reader.number("main", "sample-history-length", whole=True, least=1))
    imported.top.set("history", samples, f"sample-history-length: {samples}")
    differing = [f"{name}: {value:g}" for name, value in others.items() if value != evaluated and reader.given("main", name)]
    if differing:
        imported.notes.append(
            f"{', '.join(differing)}: host and guests are read in the cycle in which the policy is evaluated, every {evaluated:g} s; "
            f"averages are over {samples * evaluated:g} s now"
        )


def _seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") + "s"  # never with an exponent, which is no way to write a duration


def _logging(reader: _Reader, imported: Imported) -> LogTarget:
    option = reader.option("logging", "verbosity")
    level = LEVELS.get(option.text.lower())
    if level is None:
        reader.ini.complain(
            option, f"verbosity: {printable(option.text, 40)} is no level", "there are critical, error, warn, info, debug, or 1 to 5"
        )
    elif level != "info" or reader.given("logging", "verbosity"):
        imported.top.set("log_level", level, f"verbosity: {option.text}")
    target = reader.option("logging", "log").text
    file = "" if target.lower() in {"stdio", ""} else target
    if file and not file.startswith("/"):
        reader.ini.complain(reader.option("logging", "log"), f"log: {printable(file, 80)} is no path that begins with /")
    backups = int(reader.number("logging", "backup-count", whole=True, least=0))
    size = int(reader.number("logging", "max-bytes", whole=True, least=0))
    return LogTarget(file, size, backups)


def _add_hypervisor(reader: _Reader, imported: Imported, hypervisor: str) -> None:
    option = reader.option("main", "hypervisor-interface")
    section = imported.plugin(hypervisor, f"hypervisor-interface: {option.text or hypervisor}")
    uri = reader.option("main", "libvirt-hypervisor-uri").text
    if hypervisor == "libvirt":
        section.set("uri", uri or SYSTEM_URI, f"libvirt-hypervisor-uri: {uri}" if uri else "libvirt-hypervisor-uri was not given")
    elif uri:
        imported.notes.append(f"libvirt-hypervisor-uri: {uri}: the guests do not come from libvirt")
    if hypervisor != VDSM:
        return
    for name, setting, kind in (
        ("host", "host", str),
        ("port", "port", int),
        ("pki-dir", "pki_directory", str),
        ("key-file", "key", str),
        ("cert-file", "certificate", str),
        ("ca-cert-file", "ca", str),
    ):
        found = reader.ini.get("vdsm", name)
        if found is None:
            continue
        if kind is int and not found.text.isdecimal():
            reader.ini.complain(found, f"{name}: {printable(found.text, 40)} is no number")
        else:
            section.set(setting, kind(found.text), f"{name} in [vdsm], which the old daemon never read")
    patience = reader.ini.get("vdsm", "request-timeout")
    if patience is not None:
        try:
            seconds = float(patience.text)
            if not 0 < seconds <= 120:
                raise ValueError
        except ValueError:
            reader.ini.complain(patience, f"request-timeout: {printable(patience.text, 40)} is no number of seconds up to 120")
        else:
            section.set("answer_timeout", _seconds(seconds), "request-timeout in [vdsm], which the old daemon never read")
            section.set("deadline", _seconds(math.ceil(seconds / _ANSWER_SHARE)), "so that so long can be waited")


def _collectors(reader: _Reader, imported: Imported, hypervisor: str) -> None:
    for section, known in (("host", HOST_COLLECTORS), ("guest", GUEST_COLLECTORS)):
        by_plugin: dict[str, list[str]] = {}
        for name, option in reader.names(section, "collectors"):
            plugin = known.get(name)
            if plugin is None:
                imported.notes.append(_unknown(f"collector {name}", name, known, option))
            else:
                by_plugin.setdefault(hypervisor if plugin == HYPERVISOR else plugin, []).append(name)
        for plugin, names in by_plugin.items():
            imported.plugin(plugin, f"[{section}] collectors: {', '.join(names)}")
            if plugin == "guestagent":
                imported.plugins[plugin].set("guestd", "GuestNetworkDaemon" in names)
                imported.plugins[plugin].set("qemu_agent", "GuestQemuAgent" in names)


def _unknown(what: str, name: str, known: Iterable[str], option: IniOption) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    where = f" (line {option.line})" if option.line else ""
    advice = f"did you mean {close[0]}?" if close else "it is not one of MOM's own; it needs a plugin of mom's"
    return f"{what}{where}: {advice}"


def _controllers(reader: _Reader, imported: Imported) -> list[str]:
    """Enable what the controllers need; the controllers that are not enabled although their plugin is."""
    enabled = []
    for name, option in reader.names("main", "controllers"):
        plugin = CONTROLLERS.get(name)
        if plugin is None:
            imported.notes.append(_unknown(f"controller {name}", name, CONTROLLERS, option))
        else:
            enabled.append(name)
            imported.plugin(plugin, f"controllers: {name}")
    return [name for name, plugin in CONTROLLERS.items() if name not in enabled and plugin in imported.plugins]


def _policies(reader: _Reader, imported: Imported, hypervisor: str, missing: list[str]) -> None:
    section = imported.plugin("policy")
    file, folder = reader.option("main", "policy"), reader.option("main", "policy-dir")
    for option, name in ((file, "policy"), (folder, "policy-dir")):
        if option.text and not option.text.startswith("/"):
            reader.ini.complain(option, f"{name}: {printable(option.text, 80)} is no path that begins with /")
    if file.text:
        section.set("file", file.text, "policy")
        if folder.text:
            imported.notes.append(f"policy-dir: {folder.text}: there is a policy, which comes first")
    elif folder.text:
        section.set("directory", folder.text, "policy-dir")
    section.set("defaults", False, "MOM had no policies of its own; with true, mom's decide where yours have not their names")
    if hypervisor == VDSM:
        section.set("keep_changes", True, "what vdsm sets outlives a restart: it does not say it again")
    ignored = [control for name in missing for control in CONTROLS[name]]
    if ignored:
        section.set("ignore", ignored, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not among the controllers")


def _rpc(reader: _Reader, imported: Imported) -> None:
    option = reader.option("main", "rpc-port")
    if option.text.startswith("/"):
        imported.plugin("xmlrpc").set("listen", option.text, "rpc-port")
        return
    try:
        port = int(option.text or "-1")
        if port > 65535:
            raise ValueError
    except ValueError:
        reader.ini.complain(option, f"rpc-port: {printable(option.text, 80)} is neither a port nor a path that begins with /", "-1 is off")
        return
    if port > 0:
        section = imported.plugin("xmlrpc")
        section.set("listen", f"127.0.0.1:{port}", f"rpc-port: {port}")
        section.set(
            "changes_over_tcp",
            False,
            "XML-RPC has no authentication: with true, as in MOM, any account of this host can replace all policies",
        )
        imported.notes.append(
            f"rpc-port: {port}: it tells statistics and policies, and takes no changes; a path such as /run/mom/rpc.sock takes them"
        )


def _what_no_longer_matters(reader: _Reader, imported: Imported) -> None:
    plots = reader.option("main", "plot-dir").text
    if plots:
        imported.notes.append(f"plot-dir: {plots}: enable the plugin record; `mom plot RECORDING` draws what it records")
    threads = reader.option("main", "guest-manager-multi-thread")
    if threads.text.lower() not in _FLAGS:
        reader.ini.complain(threads, f"guest-manager-multi-thread: {printable(threads.text, 40)} is neither true nor false")
    elif reader.given("main", "guest-manager-multi-thread"):
        imported.notes.append(f"guest-manager-multi-thread: {threads.text}: all guests are read in one call now")
    for section, options in reader.ini.sections.items():
        known: Iterable[str] = DEFAULTS.get(section, {})
        if section == "vdsm":
            known = ("host", "port", "pki-dir", "key-file", "cert-file", "ca-cert-file", "request-timeout")
            if VDSM not in imported.plugins:
                imported.notes.append("[vdsm]: the guests do not come from vdsm")
        if section.lower().startswith("collector:"):
            told = ", ".join(f"{name}: {option.text}" for name, option in options.items()) or "nothing"
            imported.notes.append(f"[{section}] {told}: {_collector_options(section)}")
            continue
        if section not in DEFAULTS and section != "vdsm":
            close = difflib.get_close_matches(section.lower(), [*DEFAULTS, "vdsm"], 1)
            advice = f"; did you mean [{close[0]}]?" if close else ""
            imported.notes.append(f"[{section}] (line {reader.ini.lines.get(section, 0)}): there is no such section{advice}")
            continue
        for name, option in options.items():
            if name not in known:
                close = difflib.get_close_matches(name, list(known), 1)
                advice = f"; did you mean {close[0]}?" if close else ""
                imported.notes.append(f"{name} of [{section}] (line {option.line}): there is no such option{advice}")


def _collector_options(section: str) -> str:
    plugin = {**HOST_COLLECTORS, **GUEST_COLLECTORS}.get(section.partition(":")[2].strip())
    if plugin == "guestagent":
        return "mom finds agents' channels by itself; see the settings of the plugin guestagent for other places"
    return "mom's plugins need none of this" if plugin else "there is no such collector"


def _convert(texts: Mapping[str, str]) -> Imported:
    ((file, text),) = texts.items()
    return import_momd(text, file).for_mom_run()


MOMD: Final = Importer("momd", "MOM's old configuration, /etc/momd.conf or /etc/vdsm/mom.conf", _convert, assumed=True)
