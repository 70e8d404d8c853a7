"""The libvirt plugin: settings, declarations and hooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, Field, model_validator

from mom_core import Declaration, Duration, Finding, PluginContext, Severity, Suggestion, format_duration, hookimpl
from mom_kvm import Cures, LaunchedGuest, LaunchReader, PlatformProperties, PluginOfGuests, read_kernel_file
from mom_plugins_libvirt.api import checked_uri
from mom_plugins_libvirt.domain_xml import GUEST_FIELDS, memory_of, parsed

if TYPE_CHECKING:
    import logging
    from xml.etree.ElementTree import Element

    from mom_plugins_libvirt import Connection, LibvirtHypervisor

_PATIENT_SHARE = 0.45
"""Timeout of one call in commands, such as `mom doctor`, as a fraction of `deadline`."""

_DESCRIBE_SECONDS = 0.5
"""Time in a cycle for reading descriptions."""

_SOCKETS = ("run/libvirt/libvirt-sock", "run/libvirt/virtqemud-sock")


_SWITCHING = "virt-xml GUEST --edit --memballoon {0}=on, or {0}='on' in <memballoon> (virsh edit)"

_CURES = Cures(
    plugin="libvirt",
    balloon="add <memballoon model='virtio'/> to their devices (virsh edit), then stop and start them",
    statistics="virsh dommemstat GUEST --period {} --live",
    reporting=_SWITCHING.format("freePageReporting"),
    autodeflate=_SWITCHING.format("autodeflate"),
)

_LONGEST_NAME: Final = 1000

_PID_FILE_BYTES: Final = 32
_COMMAND_BYTES: Final = 256 << 10

_AS_IN_XML: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"})
"""XML escapes in the names of pid files. The standard library's `escape` is slow to import."""


class LibvirtLaunches:
    """Guests about to start.

    While libvirtd runs a guest's hook, it holds the guest's lock. Bulk calls that include the guest then wait.
    """

    def __init__(self) -> None:
        self._blocked: list[str] = []

    def blocked_in_start_hook(self) -> Set[str]:
        """Return the IDs of the guests whose start a hook delays now."""
        return frozenset(self._blocked)

    def read(self, description: str, identity: str) -> LaunchedGuest | None:
        """Return the guest that a hook's domain XML describes; None if invalid."""
        domain = parsed(description)
        if domain is None:
            return None
        memory, name = memory_of(domain), (domain.findtext("name") or "")[:_LONGEST_NAME]
        if not memory or not name:
            return None
        return LaunchedGuest(name, memory, _uuid(domain), _why_none(domain))

    def launches(self, guest: LaunchedGuest) -> None:
        """Record that a hook delays the guest's start."""
        self._blocked.append(guest.id)

    def launched(self, guest: LaunchedGuest) -> None:
        """Record that the hook no longer delays the guest's start."""
        self._blocked.remove(guest.id)


class LibvirtPlugin(PluginOfGuests["LibvirtHypervisor"]):
    """Manager of QEMU guests under libvirt: lists them, reads statistics, sets balloons."""

    class Settings(PluginOfGuests.Settings):
        """Connection to libvirt, and timeouts."""

        uri: Annotated[str, AfterValidator(checked_uri)] = "qemu:///system"
        """libvirt's URI. For another host: `qemu+ssh://root@HOST/system` or `qemu+tls://HOST/system`."""
        call_timeout: Annotated[Duration, Field(gt=0, le=60)] = 2.0
        """Timeout of one call to libvirtd. It must be less than half of `deadline`. A guest whose QEMU hangs delays one cycle by two to
        three timeouts."""
        pid_directory: str = "/run/libvirt/qemu"
        """Folder with libvirt's pid files."""

        @model_validator(mode="after")
        def _calls_fit_into_the_deadline(self) -> LibvirtPlugin.Settings:
            if 2 * self.call_timeout >= self.deadline:
                raise ValueError(f"call_timeout must be less than half of deadline (deadline: {format_duration(self.deadline)})")
            return self

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        super().__init__(settings, context)
        self._settings = settings
        self._launches = LibvirtLaunches()
        self._watching: Connection | None = None

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        socket = next((socket for socket in _SOCKETS if (root / socket).exists()), None)
        return None if socket is None else Suggestion(f"libvirt listens on /{socket}", {"uri": "qemu:///system"}, order=21)

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        return (*super().mom_declare(), *GUEST_FIELDS)

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        return {LaunchReader: self._launches}

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_setup(self) -> None:
        # The first call connects to libvirt.
        # Late import: commands that only list plugins do not need libvirt.
        from mom_plugins_libvirt import LibvirtHypervisor, SamplingSettings

        root = self._context.root
        find = partial(pid_of, root / self._settings.pid_directory.lstrip("/"), root / "proc")
        seconds = _DESCRIBE_SECONDS if self._context.serves else self._settings.deadline  # a command has no next cycle
        sampling = SamplingSettings(find, PlatformProperties(self._context), describe_seconds=seconds)
        connection = self._connection(readonly=False, log=self._context.log)
        hypervisor = LibvirtHypervisor(connection, sampling, self._context)
        hypervisor.wake = self._context.wake
        connection.start()
        self._hypervisor = hypervisor
        if self._settings.watch:
            self._watching = self._connection(readonly=True, log=self._context.log.getChild("watch"))
            self._watch_by(self._watching)

    @hookimpl
    def mom_teardown(self) -> None:
        self._stop_watching()
        for connection in (self._watching, self._hypervisor):
            if connection is not None:
                connection.close()

    def _connection(self, readonly: bool, log: logging.Logger) -> Connection:
        from mom_plugins_libvirt import Connection, ConnectionSettings, binding

        timeout = self._settings.call_timeout
        if not self._context.serves:
            timeout = max(timeout, _PATIENT_SHARE * self._settings.deadline)
        settings = ConnectionSettings(self._settings.uri, readonly, timeout)
        return Connection(settings, log, binding(), blocked_in_start_hook=self._launches.blocked_in_start_hook)

    # --- surface ---------------------------------------------------------------------------------------------------------

    def _examined(self, hypervisor: LibvirtHypervisor) -> Iterable[Finding]:
        guests = hypervisor.guests()
        yield Finding(Severity.OK, "libvirt", f"{hypervisor.uri} answers; {len(guests)} active guests")
        changes = hypervisor.examined_changes()
        yield changes
        acts = changes.severity is Severity.OK
        yield from _CURES.examine(hypervisor, guests, hypervisor.seen(), acts=acts, stats_period=self._settings.stats_period)


def _uuid(domain: Element) -> str:
    try:
        return str(UUID((domain.findtext("uuid") or "").strip()))
    except ValueError:
        return ""


def _why_none(domain: Element) -> str:
    pages = domain.findall("memoryBacking/hugepages/page")
    if domain.find("memoryBacking/hugepages") is None or (pages and all(page.get("nodeset") for page in pages)):
        return ""
    return "its memory is in huge pages, which the host reserves separately"


def pid_of(folder: Path, proc: Path, name: str, uuid: str) -> int | None:
    """Return the PID of the guest's QEMU process. Return None unless a process with the UUID in its command line is found."""
    if "/" in name:
        return None
    texts = (read_kernel_file(f"{folder}/{file}.pid", _PID_FILE_BYTES).strip() for file in (name, name.translate(_AS_IN_XML)))
    text = next(filter(bytes.isdigit, texts), b"0")
    arguments = read_kernel_file(f"{proc}/{int(text)}/cmdline", _COMMAND_BYTES).split(b"\0")
    return int(text) if b"-uuid" in arguments and uuid.encode() in arguments else None
