"""Settings of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, create_model, field_validator, model_validator

from mom_core import GuestSettings, PluginSettings
from mom_plugins_sla.classes import READY, ClassName, ServiceClass


class SlaSettings(PluginSettings):
    """Classes, and their assignment to guests."""

    classes: dict[ClassName, ServiceClass] = Field(default_factory=dict)
    """Classes keyed by name. They extend or replace `platinum`, `gold`, `compute` and `vapor`."""

    classes_file: Path | None = None
    """A file with more classes under its key `classes`. These take precedence over the classes of this section. The file may change at any
    time, and may be missing. A fleet's file is `/var/lib/mom/fleet/classes.yaml`."""

    default: str | None = None
    """The class of all other guests. Unset: no class and no guarantee."""

    cpu: bool = False
    """Set the CPU shares of guests from their classes, with the policy 62_sla_cpu. It needs the `qos` plugin."""

    io: bool = False
    """Limit disks to the I/O shares of their guests while disks are overloaded, with the policy 72_sla_io. It needs the `qos` plugin."""

    @property
    def all_classes(self) -> dict[str, ServiceClass]:
        """Built-in classes, replaced and extended by the operator's."""
        return {**READY, **self.classes}

    @field_validator("classes_file")
    @classmethod
    def _is_absolute(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError(f"{str(path)!r:.100} is a relative path; write an absolute one")
        return path

    @model_validator(mode="after")
    def _default_exists(self) -> SlaSettings:
        classes = self.all_classes
        if self.classes_file is not None:
            return self  # the file may define the name later; mom reports guests of missing classes
        if self.default is not None and self.default not in classes:
            raise ValueError(f"default: there is no class {self.default!r:.50}; known classes: {', '.join(classes)}")
        return self


# `class` is a keyword, so it cannot be an annotated attribute.
_CLASS = Field(default=None, description="The guest's service class: `platinum`, `gold`, `compute`, `vapor`, or one of your own.")
_MODEL: Any = {"__base__": GuestSettings, "__module__": __name__, "__doc__": "Service class of a guest.", "class": (str | None, _CLASS)}
SlaGuestSettings: type[GuestSettings] = create_model("SlaGuestSettings", **_MODEL)


def class_in(settings: GuestSettings) -> str | None:
    """Return the class in a guest's settings; None if unset."""
    name = getattr(settings, "class", None)
    return name if isinstance(name, str) else None
