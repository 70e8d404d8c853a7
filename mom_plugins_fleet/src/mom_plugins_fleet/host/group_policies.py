"""Group policies and classes, applied here and stored for a start without servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter

from mom_core import MomError, PluginContext, StateError, printable, replace_file
from mom_kvm import ClassFiles, PolicyTexts
from mom_plugins_fleet.records import CLASSES, FLEET_POLICY, Group, GroupStatus, Name, shown

if TYPE_CHECKING:
    from mom_plugins_fleet.link import Store
    from mom_plugins_fleet.signatures import Opened, SeenRevisions

READY_ATTEMPTS: Final = 50
"""Number of attempts to apply the stored record, because plugins may need 10 s to start."""

_POLL_SECONDS: Final = 0.2

_LOSS = "the group's policies are not in force until the fleet's servers answer"


@dataclass(frozen=True, slots=True)
class GroupInForce:
    """Group's signed record, as stored in a file."""

    group: Name
    signed: str


class GroupPolicies:
    """Record of the group on this host. The agent calls `resume`, `follow` and `reported` in its thread."""

    def __init__(self, context: PluginContext, operators: Collection[str]) -> None:
        self._context, self._operators = context, operators
        self._file = context.state_file("group.json", "the file of the group's policies", TypeAdapter(GroupInForce), loss=_LOSS)
        self._classes = self._file.path.with_name(CLASSES)
        self._written: GroupInForce | None = None
        self._in_force: tuple[str, Opened[Group]] | None = None
        self.refused = ""
        """Why the newest record is not in force; empty if it is."""

    async def resume(self, say: Callable[[str], None]) -> None:
        """Apply the record that the previous run stored.

        :param say: called with why the record cannot be applied, or "" once it is
        """
        last = self.remembered()
        if last is None:
            return
        for _ in range(READY_ATTEMPTS):
            try:
                self.apply(*last, None)
            except Exception as error:  # noqa: BLE001  # another plugin's code may fail; the host stays in its fleet
                say(shown(error))
                await asyncio.sleep(_POLL_SECONDS)
                continue
            self._in_force = last
            say("")
            return

    async def follow(self, store: Store, group: str, revisions: SeenRevisions) -> None:
        """Apply the group's newest record."""
        data = (await store.read(Group.bucket, group)).data
        if data is None:
            return  # no record: keep the current policies
        before = self._in_force, self.refused
        try:
            opened = revisions.open(Group, group, data, self._operators)
            revisions.save()
            self.apply(group, opened, data)  # even if unchanged: someone may have edited policies here
            self._in_force, self.refused = (group, opened), ""
        except Exception as error:  # noqa: BLE001  # another plugin's code may fail; retried: the host's own policies may be the cause
            self.refused = shown(error)
        if (self._in_force, self.refused) == before:
            return
        if self.refused:
            text = "the policies of the group %s are refused: %s; the previous policies stay in force"
            self._context.log.error(text, group, self.refused)
        elif self._in_force is not None:
            self._context.log.info("the policies of the group %s are in force, revision %d", group, self._in_force[1].revision)

    def reported(self) -> GroupStatus:
        """Return the status of the group's record."""
        if self.refused or self._in_force is None:
            return GroupStatus(refused=self.refused)
        opened = self._in_force[1]
        return GroupStatus(revision=opened.revision, classes_unused=self.why_classes_unused(opened.record))

    def apply(self, group: str, opened: Opened[Group], data: bytes | None) -> None:
        """Apply a record, and store its signed data, if any."""
        policies = self._context.service(PolicyTexts)
        if policies is None:
            raise MomError("no plugin on this host accepts policies", hint="enable the policy plugin")
        record, path = opened.record, self._classes
        current = {name: text.text for name, text in policies.state().texts.items() if FLEET_POLICY.match(name)}
        target = {name: text for name, text in record.policies.items() if name != CLASSES}
        changed: dict[str, str | None] = {name: text for name, text in target.items() if current.get(name) != text}
        changes = {**changed, **dict.fromkeys(current.keys() - target.keys())}
        new = path.with_suffix(".new")
        try:
            differ = record.classes.encode() != (path.read_bytes() if path.exists() else b"")
            if record.classes and differ:  # written first: a full disk then leaves the policies unchanged
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
                replace_file(new, record.classes, durable=False)
            if changes:
                policies.change(changes, who=f"the fleet, group {group}, revision {opened.revision}, signed by {opened.by}")
            if not record.classes:
                path.unlink(missing_ok=True)
            elif differ:
                new.replace(path)
        except OSError as error:
            raise MomError(f"cannot store the group's classes: {path}: {error.strerror}", hint="check mom's state directory") from None
        if data is not None:
            self.remember(group, data)

    def why_classes_unused(self, record: Group) -> str:
        """Return why the group's classes are unused; empty if they are used."""
        if not record.classes:
            return ""
        readers = self._context.services(ClassFiles)
        reasons = [reader.why_unused(self._classes) for reader in readers]
        reasons = reasons or [f"no plugin reads them: enable the sla plugin, with `classes_file: {self._classes}`"]
        return "" if "" in reasons else reasons[0][:400]

    def remember(self, group: str, data: bytes) -> None:
        """Store a record for the next start."""
        content = GroupInForce(group, data.decode())
        if content != self._written:
            with suppress(StateError):  # mom reports the file
                self._file.write(asdict(content))
                self._written = content

    def remembered(self) -> tuple[str, Opened[Group]] | None:
        """Return the previous group and record; None without a readable file.

        If the key that signed the record is no longer trusted, return an empty record, so that its policies end.
        """
        from mom_plugins_fleet.signatures import Opened, opened

        content = self._file.read()
        if content is None:
            return None
        try:
            return content.group, opened(Group, content.group, content.signed.encode(), self._operators)
        except MomError as error:
            self._context.log.warning("the policies of the group %s are no longer in force: %s", printable(content.group), shown(error))
            return content.group, Opened(Group(), 0, "no operator")
