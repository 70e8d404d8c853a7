"""The plugin: settings, declarations, and the hooks that hand work to the hypervisor."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from mom_core import Declaration, Duration, PluginContext, Suggestion, format_duration, hookimpl
from mom_guests import PluginOfGuests
from mom_libvirt import GUEST_FIELDS, HOST_FIELDS

_SIGNS = ("var/run/kubevirt", "var/lib/kubevirt")
"""Folders that virt-handler makes on each node on which it runs."""


class KubevirtPlugin(PluginOfGuests[Any]):
    """QEMU guests of KubeVirt on this node, each under the libvirt of its own pod."""

    class Settings(PluginOfGuests.Settings):
        """How patient to be with the pods' libvirts."""

        call_timeout: Annotated[Duration, Field(gt=0, le=60)] = 1.0
        """How long to wait for one answer of a pod's libvirt. One that hangs costs the others nothing. Less than half of `deadline`."""
        readonly: bool = False
        """Change nothing of guests: mom only watches."""

        @model_validator(mode="after")
        def _calls_fit_into_the_deadline(self) -> KubevirtPlugin.Settings:
            if 2 * self.call_timeout >= self.deadline:
                raise ValueError(f"call_timeout must be less than half of deadline, which is {format_duration(self.deadline)}")
            return self

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        super().__init__(settings, context)
        self._settings = settings

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        """Fits a node on which virt-handler runs."""
        sign = next((sign for sign in _SIGNS if (root / sign).exists()), None)
        return None if sign is None else Suggestion(f"there is /{sign}: this is a node of KubeVirt", order=20)

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        """The fields of each guest and of all together, and the statistics period."""
        return (*super().mom_declare(), *GUEST_FIELDS, *HOST_FIELDS)
