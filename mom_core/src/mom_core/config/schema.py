"""What a configuration may say besides what plugins do: the settings of mom itself."""

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
    """The settings of mom itself: the keys at the top of the file, except `plugins` and `guests`."""

    interval: Annotated[Duration, Field(ge=0.01, le=3600)] = 5.0
    """How often mom reads the host and its guests, and acts."""

    mode: Literal["enforce", "observe"] = "observe"
    """`observe`: decide and report, but touch nothing. `enforce`: act."""

    history: Annotated[int, Field(ge=1, le=1000)] = 10
    """How many older samples policies can look back at."""

    root: AbsolutePath = Path("/")
    """Where /proc and /sys are found."""

    state_directory: AbsolutePath = STATE_DIRECTORY
    """What must survive a reboot: the ledger of all that mom has changed."""

    run_directory: AbsolutePath = RUN_DIRECTORY
    """What need not: the lock, the status, sockets."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much mom says."""

    log_format: Literal["text", "json"] = "text"
    """How: lines of text, or a line of JSON for each record, with its fields."""

    stop_timeout: Annotated[Duration, Field(ge=0.5, le=600)] = 2.0
    """How long a stop may take, with putting everything back. What is not back by then is left to `mom restore`."""

    on_stop: Literal["restore", "keep"] = "restore"
    """What SIGTERM does: put everything back; or keep it for the next mom. SIGUSR2 always keeps."""


SECTIONS = ("plugins", "guests")
"""The keys at the top of the file that hold mappings of their own."""


Model = TypeVar("Model", bound=BaseModel)


def setting_names(model: type[BaseModel]) -> list[str]:
    """The settings as they are written in YAML."""
    return [field.alias or name for name, field in model.model_fields.items()]


def validated(model: type[Model], settings: Mapping[str, object]) -> Model:
    """The settings as the model has them.

    Through JSON, because YAML has JSON's types: strict validation of Python objects would refuse a text for a path, a list for a tuple.

    :raises ValidationError: with all that is wrong; a plugin's own validators may raise anything else
    """
    return model.model_validate_json(json.dumps(settings, default=_plain_mapping))


def _plain_mapping(value: object) -> dict[object, object]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a setting cannot be a {type(value).__name__}")


def written(settings: BaseModel) -> dict[str, JsonValue]:
    """Settings as they are written in YAML; secrets are masked by their type."""
    try:
        return settings.model_dump(mode="json", warnings=False)
    except Exception:  # noqa: BLE001  # a plugin's own types may not know how to be shown; the other settings are to be seen
        return {name: str(value) for name, value in settings}
