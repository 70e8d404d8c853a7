"""The settings of classes in YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, create_model, field_validator, model_validator

from mom_core import GuestPatterns, GuestSettings, MomError, PluginSettings, SizeOrShare
from mom_plugins_sla.classes import READY, ClassName, ServiceClass


class SlaSettings(PluginSettings):
    """Which classes there are, and which guests are of which."""

    classes: dict[ClassName, ServiceClass] = Field(default_factory=dict)
    """Classes besides `platinum`, `gold`, `compute` and `vapor`, or instead of them, by name."""

    classes_file: Path | None = None
    """A file with more classes, below `classes` as here, which come before those here. It may change at any time, and need not be there.
    A fleet's are in `/var/lib/mom/fleet/classes.yaml`."""

    patterns: dict[str, str] = Field(default_factory=dict)
    """The classes of guests of which neither the section `guests` nor their metadata tells it: patterns, as in that section, to names of
    classes. Where several match, the last one counts."""

    default: str | None = None
    """The class of all other guests. Unset: they have none, and nothing is promised to them."""

    host_keeps: SizeOrShare | None = None
    """With less available than this, the host is short, for `fair_share`. Unset: less than `mem_watermark_hard` of the plugin balloon,
    where its policy begins to take what guests may miss; where no plugin says that, 5 % of the host's memory."""

    idle_tax: float = Field(default=0.75, ge=0, lt=1)
    """How much dearer idle memory is than memory in use, for `fair_share`: with 0.75 a guest gets a quarter of the idle memory that it
    would get of memory that it uses. 0 makes no difference between them."""

    fair_share: bool = False
    """Hold guests to their fair shares while the host is short of memory, by the policy 60_fair_share."""

    cpu: bool = False
    """Give guests their classes' CPU shares, by the policy 62_sla_cpu. It needs the plugin qos."""

    cpu_ordinary: int = Field(default=100, ge=2, le=262_144)
    """The weight of an ordinary guest, with a `cpu_share` of 100, as the host's cgroups count it: 100 with cgroups v2, 1024 with v1."""

    io: bool = False
    """Hold disks to their guests' I/O shares while disks are short, by the policy 72_sla_io. It needs the plugin qos."""

    @property
    def all_classes(self) -> dict[str, ServiceClass]:
        """Those that are ready, with the operator's in their place or beside them."""
        return {**READY, **self.classes}

    @field_validator("classes_file")
    @classmethod
    def _is_absolute(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError(f"{str(path)!r:.100} depends on where mom is started; write the whole path, from / on")
        return path

    @field_validator("patterns")
    @classmethod
    def _can_match(cls, patterns: dict[str, str]) -> dict[str, str]:
        try:
            GuestPatterns(list(patterns))
        except MomError as error:
            raise ValueError(str(error)) from error
        return patterns

    @model_validator(mode="after")
    def _names_exist(self) -> SlaSettings:
        known = self.all_classes
        if self.classes_file is not None:
            return self  # what stands there may change at any time; a class that is missing then is said of the guests that are to have it
        for pattern, name in self.patterns.items():
            if name not in known:
                raise ValueError(f"patterns: the guests {pattern!r:.50} are to be of the class {name!r:.50}; there are: {', '.join(known)}")
        if self.default is not None and self.default not in known:
            raise ValueError(f"default: there is no class {self.default!r:.50}; there are: {', '.join(known)}")
        return self


# A field called `class` cannot be written as an annotation.
_CLASS = Field(default=None, description="The guest's service class: `platinum`, `gold`, `compute`, `vapor`, or one of your own.")
_MODEL: Any = {"__base__": GuestSettings, "__module__": __name__, "__doc__": "What a guest is sold as.", "class": (str | None, _CLASS)}
SlaGuestSettings: type[GuestSettings] = create_model("SlaGuestSettings", **_MODEL)


def class_in(settings: GuestSettings) -> str | None:
    """Return the name of the class in these settings of a guest."""
    found = getattr(settings, "class", None)
    return found if isinstance(found, str) else None
