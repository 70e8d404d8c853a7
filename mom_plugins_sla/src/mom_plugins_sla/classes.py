"""Service classes, their settings, and their assignment to guests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, NamedTuple

from pydantic import AfterValidator, Field, create_model, field_validator, model_validator

from mom_core import ConfigError, Duration, Guest, GuestSettings, PluginSettings, Portion, StrictModel, printable, read_settings
from mom_plugins_sla.eviction.steps import TERMS, EvictionField

NOTHING: Final = Portion(size=0)
ORDINARY: Final = 100

ALLOWED: Final[Mapping[str, str]] = {terms.allowed_by: terms.participle for terms in TERMS.values()}
"""Participles of steps for messages, keyed by the field that permits the step. These fields are off by default."""


class ServiceClass(StrictModel):
    """Service class. The defaults describe an ordinary guest without a guarantee."""

    guarantee: Portion = NOTHING
    """Memory below which mom never shrinks a guest: `6GiB`, or `75%` of its maximum."""

    cpu_share: Annotated[int, Field(ge=1, le=10_000)] = ORDINARY
    """CPU weight; 100 is ordinary. Applied by the policy 62_sla_cpu, if enabled."""

    io_share: Annotated[float, Field(ge=0.001, le=1)] = 1.0
    """Share of its disk limits that a guest may use while disks are overloaded. Applied by the policy 72_sla_io, if enabled."""

    priority: Annotated[int, Field(ge=0, le=100)] = 50
    """Priority of the guarantee when guarantees exceed the host's memory: guarantees with a lower priority are reduced first."""

    reclaim_cost: Annotated[float, Field(ge=0.001, le=1000)] = 1.0
    """Relative cost of reclaimed memory. mom reclaims half as much from a guest with twice the cost."""

    offload: bool = True
    """Whether cold memory may go to the host's swap, if the `offload` plugin is enabled."""

    may_pause: bool = False
    """mom may pause the guest when the host lacks memory. The guest keeps its memory but takes no more."""

    may_save: bool = False
    """mom may save the guest to disk, and restore it later."""

    may_power_off: bool = False
    """mom may shut the guest down."""

    may_migrate: bool = False
    """mom may move the guest to another host."""

    warning: Duration = 30.0
    """Time between announcement and step, so that the operator can act first."""

    comes_back: bool = True
    """Whether mom resumes, restores or starts the guest once the host has had enough memory for some time."""

    @property
    def may_leave(self) -> bool:
        """Whether the class permits any step."""
        return any(getattr(self, name) for name in ALLOWED)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> ServiceClass:
        if self.guarantee.share == 1.0 and (self.may_power_off or self.may_save or self.may_pause):
            allowed = next(name for name in ALLOWED if name != EvictionField.MAY_MIGRATE and getattr(self, name))
            raise ValueError(
                f"guarantee is 100%, but {allowed} is true: guests that keep all their memory must not stop for lack of memory."
                " Reduce the guarantee, or allow only may_migrate"
            )
        return self


READY: Final[Mapping[str, ServiceClass]] = MappingProxyType(
    {
        # Guarantees all memory. Its owner has not agreed to a migration.
        "platinum": ServiceClass(guarantee=Portion(share=1.0), cpu_share=400, priority=90, reclaim_cost=8.0),
        "gold": ServiceClass(guarantee=Portion(share=0.75), cpu_share=200, priority=70, reclaim_cost=4.0, may_migrate=True),
        # Full CPU time, little guaranteed memory: mom reclaims most from it.
        "compute": ServiceClass(guarantee=Portion(share=0.25), cpu_share=400, priority=40, reclaim_cost=0.5, may_migrate=True),
        # Cheap, and first to leave a full host.
        "vapor": ServiceClass(
            cpu_share=50,
            io_share=0.5,
            priority=10,
            may_pause=True,
            may_save=True,
            may_power_off=True,
            may_migrate=True,
            warning="60s",  # type: ignore[arg-type]  # as in YAML
        ),
    }
)
"""Built-in classes. Settings can replace them by name."""


def _class_name(name: str) -> str:
    if len(name) > 40 or not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"{name!r:.50} is not a valid class name: use at most 40 letters, digits, - and _")
    return name


ClassName = Annotated[str, AfterValidator(_class_name)]


def safest(classes: Mapping[str, ServiceClass]) -> str:
    """Return the class that permits least. mom uses this class for unknown classes."""

    def safety(name: str) -> tuple[bool, bool, float, int, float, int, str]:
        terms = classes[name]
        stays, guarantee = not (terms.may_pause or terms.may_save or terms.may_power_off), terms.guarantee
        return stays, not terms.may_migrate, guarantee.share or 0.0, guarantee.size or 0, terms.reclaim_cost, terms.priority, name

    return max(classes, key=safety)


class ClassesFile(StrictModel):
    """Content of a file with classes."""

    classes: dict[ClassName, ServiceClass] = Field(default_factory=dict)


class SharedClasses:
    """Last valid classes of a file. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, ...] | None = None
        self.classes: Mapping[str, ServiceClass] = {}
        self.wrong = ""
        """Why the current file is not applied, with the line; empty if the file is applied."""
        self.absent = True
        """Whether the file is missing. A missing file has no classes, which is valid."""

    def look(self) -> bool:
        """Read the file if it changed. Return whether classes changed."""
        before, version, self._version = self.classes, self._version, None
        try:
            status = self._path.stat()
            self._version = status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino  # a new mode or owner changes only ctime
        except FileNotFoundError:
            self.absent, self.wrong, self.classes = True, "", {}
            return bool(before)
        except OSError:
            pass  # the reader says why
        self.absent = False
        if self._version is not None and self._version == version:
            return False
        try:
            self.classes, self.wrong = read_settings(self._path, ClassesFile).classes, ""
        except ConfigError as error:
            first, more = error.problems[0], len(error.problems) - 1
            self.wrong = printable(f"{first}" + (f" (and {more} more)" if more else ""), 400)
        return before != self.classes


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


METADATA: Final = "sla_class"
"""Guest property: class from the guest's metadata or management system."""


class Assigned(NamedTuple):
    """Class and its source. `unknown` is the configured name if no such class exists."""

    name: str
    source: str
    unknown: str = ""

    @property
    def explanation(self) -> str:
        """Source of the class, and why mom replaced an unknown class."""
        return (
            f"{self.source}, which names the class {self.unknown}: that class does not exist, so mom uses the safest class"
            if self.unknown
            else self.source
        )


class ClassAssignment:
    """Rules that assign classes. The first source with a class counts: section `guests`, metadata, default."""

    def __init__(self, classes: Mapping[str, ServiceClass], default: str | None) -> None:
        self._classes, self._safest = classes, safest(classes)
        self._default = None if default is None else self._existing(default, "the default of the sla plugin")

    def of(self, guest: Guest, settings: GuestSettings) -> Assigned | None:
        """Return the guest's class, if any."""
        configured, metadata = getattr(settings, "class", None), guest.properties.get(METADATA)
        if isinstance(configured, str):
            return self._existing(configured, "the section guests of the YAML file")
        if isinstance(metadata, str):
            return self._existing(metadata, "the guest's metadata")
        return self._default

    def _existing(self, name: str, source: str) -> Assigned:
        if name in self._classes:
            return Assigned(name, source)
        return Assigned(self._safest, source, printable(name, 40) or "an empty name")
