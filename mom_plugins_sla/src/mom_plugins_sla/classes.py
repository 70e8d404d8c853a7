"""Service classes: guarantees, priorities, and permitted steps on a full host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from mom_core import ConfigError, Duration, Portion, SizeOrShare, StrictModel, printable, read_settings
from mom_plugins_sla.eviction.steps import TERMS, EvictionField

NOTHING: Final = Portion(size=0)
ORDINARY: Final = 100

ALLOWED: Final[Mapping[str, str]] = {terms.allowed_by: terms.participle for terms in TERMS.values()}
"""Participles of steps for messages, keyed by the field that permits the step. These fields are off by default."""


class ServiceClass(StrictModel):
    """Service class. The defaults describe an ordinary guest without a guarantee."""

    guarantee: SizeOrShare = NOTHING
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
