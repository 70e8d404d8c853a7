"""Group policies and classes, applied here and stored for a start without servers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from mom_core import MomError, PluginContext, StateError, printable, replace_file
from mom_kvm import ClassFiles, PolicyTexts
from mom_plugins_fleet.records import CLASSES, FLEET_POLICY, Group, GroupName, shown

if TYPE_CHECKING:
    from mom_plugins_fleet.signatures import Opened

_LOSS = "the group's policies are not in force until the fleet's servers answer"


@dataclass(frozen=True, slots=True)
class GroupInForce:
    """File with a group's signed record."""

    group: GroupName
    signed: str


class GroupPolicies:
    """The group's record on this host.

    :param operators: public keys that may sign the record
    """

    def __init__(self, context: PluginContext, operators: Collection[str]) -> None:
        self._context, self._operators = context, operators
        self._file = context.state_file("group.json", "the file of the group's policies", TypeAdapter(GroupInForce), loss=_LOSS)
        self._classes = self._file.path.with_name(CLASSES)
        self._written: GroupInForce | None = None

    def apply(self, group: str, opened: Opened[Group], data: bytes | None) -> None:
        """Apply a record; store its signed data, if any. Raise `MomError` on failure."""
        policies = self._context.service(PolicyTexts)
        if policies is None:
            raise MomError("no plugin on this host accepts policies", hint="enable the policy plugin")
        record, path = opened.record, self._classes
        current = {name: text.text for name, text in policies.state().texts.items() if FLEET_POLICY.match(name)}
        changes = policy_changes(record, current)
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

        If the record's key is no longer trusted, the record is empty, so its policies end.
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


def policy_changes(record: Group, current: Mapping[str, str]) -> Mapping[str, str | None]:
    """Return a record's changes for `PolicyTexts.change`."""
    target = {name: text for name, text in record.policies.items() if name != CLASSES}
    changed = {name: text for name, text in target.items() if current.get(name) != text}
    return {**changed, **dict.fromkeys(current.keys() - target.keys() - {CLASSES})}
