"""Plugin `record`: writes every cycle to disk, and keeps accounts of mom's gain and cost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from mom_core import (
    Config,
    Duration,
    FieldSpec,
    Finding,
    Hypervisor,
    MomError,
    PluginContext,
    PluginSettings,
    Problem,
    Report,
    Severity,
    Size,
    Snapshot,
    Source,
    Value,
    __version__,
    count_of,
    hookimpl,
)
from mom_kvm import PastCycles, PolicyTexts, RecordedPoint, RecordedPoints
from mom_plugins_record.recording.cycles import RecordedSession
from mom_plugins_record.recording.writer import RecordingFull, RecordingLimits, RecordingWriter, files_of, lack_of_room

if TYPE_CHECKING:
    from mom_plugins_record.report.accounts_file import AccountsKeeper

FOLDER = "recording"


class RecordPlugin:
    """Flight recorder: every snapshot, decision and outcome, for inspection and replay."""

    class Settings(PluginSettings):
        """Place, age and size of the recording."""

        path: str = ""
        """Folder of the recording. Unset: `recording` in the state directory."""

        keep: Annotated[Duration, Field(ge=60)] = 30 * 86_400.0
        """Maximum age of the recording."""

        size: Annotated[Size, Field(ge=1 << 20)] = 1 << 30
        """Maximum size of the recording; mom deletes the oldest cycles first."""

        reserve: Size = 256 << 20
        """Free space to leave on the disk. With less free space, recording pauses."""

        accounts_keep: Annotated[Duration, Field(ge=86_400)] = 40 * 86_400.0
        """Maximum age of the accounts for `mom report`. mom keeps the host's accounts for 400 days."""

        price: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
        """Price of a GiB of memory for a month, for `mom report`. Unset: reports show the worth in memory and in hosts."""

        currency: Annotated[str, Field(max_length=10)] = ""
        """Currency of the price."""

        def folder(self, state_directory: Path) -> Path:
            """Return the folder of the recording."""
            return Path(self.path) if self.path else state_directory / FOLDER

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._writer: RecordingWriter | None = None
        self._in_force: tuple[object, ...] | None = None
        self._stopped = False
        self._accounts: AccountsKeeper | None = None

    @property
    def folder(self) -> Path:
        """Folder of the recording."""
        return self._settings.folder(self._context.state_directory)

    @hookimpl
    def mom_setup(self) -> None:
        """Open the recording and the accounts, but only in the running mom: a second writer would delete old files."""
        if not self._context.serves:
            return

        from mom_plugins_record.report.accounts_file import NAME, AccountsKeeper

        settings = self._settings
        self._writer = RecordingWriter(self.folder, RecordingLimits(settings.keep, settings.size, settings.reserve))
        self._writer.open()
        self._accounts = AccountsKeeper(self.folder / NAME, settings.accounts_keep, self._context.log)

    @hookimpl
    def mom_declare(self) -> Iterable[FieldSpec]:
        from mom_plugins_record.report.accounts import FIELDS

        return FIELDS

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        return {RecordedPoints: self}

    def recorded_points(
        self, since: float, until: float, most: int, *, guest: str = "", guest_fields: Sequence[str] = ()
    ) -> Sequence[RecordedPoint]:
        """Return about `most` past points of `guest` (an id) from the recording; without `guest`, of the host from the accounts."""
        from mom_plugins_record.recording.points import points_of
        from mom_plugins_record.report.accounts_file import NAME, read_minutes

        if guest:
            return points_of(self.folder, since, until, most, guest, guest_fields)
        path = self.folder / NAME
        return read_minutes(path, since, until, most) if path.exists() else []  # mom writes the file a few minutes after its start

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        if self._accounts is None:
            return {}
        from mom_plugins_record.report.accounts import values_of

        return values_of(self._accounts.given_back(), self._accounts.today())

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem]:
        accounts = self._accounts
        wrong = {} if accounts is None else {accounts.damage: "", accounts.write_error: accounts.write_hint}
        return [Problem(Source(self._context.name), text, severity=Severity.WARNING, hint=hint) for text, hint in wrong.items() if text]

    @hookimpl
    def mom_report(self, report: Report) -> None:
        """Record a cycle. Raise an error if the disk is full; mom tries again in the next cycle."""
        writer, accounts, context = self._writer, self._accounts, self._context
        if writer is None or accounts is None:  # not the running mom
            return
        accounts.add(report, time.process_time())
        texts_in_force = context.service(PolicyTexts)
        policies = None if texts_in_force is None else texts_in_force.state()
        in_force = (context.declarations, context.configuration, policies.version if policies else "")
        if in_force != self._in_force:  # fast, because equal objects are usually identical
            texts = {name: policy.text for name, policy in policies.texts.items()} if policies else context.declarations.policies
            declared = context.declarations
            fields, all_controls = tuple(declared.fields.values()), tuple(declared.controls.values())
            name, configuration = report.snapshot.host.name, context.configuration()
            writer.session(RecordedSession(__version__, name, configuration, texts, fields, all_controls))
            self._in_force = in_force
        try:
            writer.cycle(report, None if texts_in_force is None else texts_in_force.memory)
        except RecordingFull as error:
            if not self._stopped:
                context.log.warning("%s", error)  # logged once, although each cycle tries again
            self._stopped = True
            raise
        if self._stopped:
            context.log.info("recording continues")
        self._stopped = False

    @hookimpl
    def mom_teardown(self) -> None:
        if self._accounts is not None:
            self._accounts.write()
        if self._writer is not None:
            self._writer.close()

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        try:
            files = len(files_of(self.folder))
        except OSError as error:
            cure = "run `mom doctor` as the user that mom runs as" if isinstance(error, PermissionError) else "`mom run` creates it"
            return [Finding(Severity.WARNING, "recording", f"{self.folder}: {error.strerror}", cure)]
        result = [Finding(Severity.OK, "recording", f"{count_of(files, 'file')} in {self.folder}")]
        if (full := lack_of_room(self.folder, self._settings.reserve)) is not None:
            result = [Finding(Severity.ERROR, "recording", full.message, full.hint)]
        return result

    @staticmethod
    @hookimpl
    def mom_source(
        kind: type, settings: PluginSettings | None, run_directory: Path, state_directory: Path, path: Path | None
    ) -> PastCycles | None:
        """Return the recording at `path`, or without a path, the one of a mom with these settings; None for other kinds of source."""
        if kind is not PastCycles:
            return None
        from mom_plugins_record.recording.reader import Recording

        if path is None and isinstance(settings, RecordPlugin.Settings):
            path = settings.folder(state_directory)
        return None if path is None else Recording(path)


def configured_recorder(config: Config) -> RecordPlugin.Settings:
    """Return the configured settings of this plugin. Raise `MomError` if the plugin is not enabled."""
    for plugin in config.plugins.values():
        if isinstance(plugin.settings, RecordPlugin.Settings):
            return plugin.settings
    hint = "add `record: {}` to `plugins`, or give the path of a recording"
    raise MomError("the configuration does not enable the record plugin, which writes recordings and accounts", hint=hint)
