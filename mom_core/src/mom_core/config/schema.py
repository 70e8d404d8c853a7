"""mom's own settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, Field

from mom_core.files import RUN_DIRECTORY, STATE_DIRECTORY
from mom_core.settings import Duration, StrictModel

JsonObject: TypeAlias = "dict[str, JsonValue]"
JsonValue: TypeAlias = "None | bool | int | float | str | list[JsonValue] | JsonObject"


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError("must be a path that begins with /")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class CoreSettings(StrictModel):
    """mom's own settings: all top-level keys except `plugins` and `guests`."""

    interval: Annotated[Duration, Field(ge=0.01, le=3600)] = 5.0
    """Time between two cycles."""

    mode: Literal["enforce", "observe"] = "observe"
    """`observe`: decide and report, but change nothing. `enforce`: apply decisions."""

    history: Annotated[int, Field(ge=1, le=1000)] = 10
    """Number of earlier samples that policies can use."""

    root: AbsolutePath = Path("/")
    """Folder that contains /proc and /sys."""

    state_directory: AbsolutePath = STATE_DIRECTORY
    """Folder for files that must survive a reboot, such as the ledger."""

    run_directory: AbsolutePath = RUN_DIRECTORY
    """Folder for the lock, the status and sockets. It need not survive a reboot."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest severity that is logged."""

    stop_timeout: Annotated[Duration, Field(ge=0.5, le=600)] = 2.0
    """Time limit for stopping mom, including the restore. `mom restore` undoes any remaining changes."""

    on_stop: Literal["restore", "keep"] = "restore"
    """On SIGTERM, `restore` undoes all changes; `keep` leaves them for the next start of mom. SIGUSR2 always keeps them."""


SECTIONS = ("plugins", "guests")


Model = TypeVar("Model", bound=BaseModel)


def setting_names(model: type[BaseModel]) -> list[str]:
    """Return the setting names as in YAML."""
    return [field.alias or name for name, field in model.model_fields.items()]


def validated(model: type[Model], settings: Mapping[str, object]) -> Model:
    """Validate settings in pydantic's JSON mode. A plugin's validator may raise anything."""
    return model.model_validate_json(json.dumps(settings, default=dict))


def written(settings: BaseModel) -> dict[str, JsonValue]:
    """Return the settings as in the YAML file, with masked secrets."""
    try:
        return settings.model_dump(mode="json", warnings=False)
    except Exception:  # noqa: BLE001  # a plugin's own type may not serialize
        return {name: str(value) for name, value in settings}
