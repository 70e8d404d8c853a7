"""What a configuration may say: the settings of mom itself, and the JSON Schema of the whole file with those of all plugins."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, Field
from pydantic.json_schema import GenerateJsonSchema

from mom_core.plugins.discovery import LoadedPlugin
from mom_core.settings import Duration, Settings

JsonObject: TypeAlias = "dict[str, JsonValue]"
JsonValue: TypeAlias = "None | bool | int | float | str | list[JsonValue] | JsonObject"


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError("must be a path that begins with /")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class CoreSettings(Settings):
    """The settings of mom itself: the keys at the top of the file, except `plugins` and `guests`."""

    interval: Annotated[Duration, Field(ge=0.01, le=3600)] = 5.0
    """How often mom reads the host and its guests, and acts."""

    mode: Literal["enforce", "observe"] = "enforce"
    """`enforce`, or `observe`: decide and report, but touch nothing."""

    history: Annotated[int, Field(ge=1, le=1000)] = 10
    """How many older samples policies can look back at."""

    root: AbsolutePath = Path("/")
    """Where /proc and /sys are found."""

    state_directory: AbsolutePath = Path("/var/lib/mom")
    """What must survive a reboot: the ledger of all that mom has changed."""

    run_directory: AbsolutePath = Path("/run/mom")
    """What need not: the lock, the status, sockets."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much mom says."""

    log_format: Literal["auto", "text", "json", "journal"] = "auto"
    """How: lines of text, JSON lines, or fields in systemd's journal; `auto` is the journal where standard error leads there, else text."""

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


def json_schema(plugins: Iterable[LoadedPlugin]) -> JsonObject:
    """The JSON Schema (2020-12) of a configuration file in which these plugins may be enabled."""
    definitions: JsonObject = {}
    core = _schema_of(CoreSettings, "mom", definitions)
    enabled: JsonObject = {}
    guest: JsonObject = {}
    for plugin in plugins:
        schema = _schema_of(plugin.settings_class, plugin.name, definitions)
        enabled[plugin.name] = schema if schema.get("required") else {**schema, "type": ["object", "null"]}
        if plugin.guest_settings_class is not None:
            for name, setting in _properties(_schema_of(plugin.guest_settings_class, f"{plugin.name}.guest", definitions)).items():
                guest.setdefault(name, setting)
    sections: JsonObject = {
        "plugins": {
            "description": "The enabled plugins by name, with their settings. The order is the order of precedence.",
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": enabled,
        },
        "guests": {
            "description": "Settings of single guests, by pattern of the guest's name (`*`, `?`, `[abc]`). "
            "All patterns that match count; later ones override earlier ones.",
            "type": ["object", "null"],
            "additionalProperties": {"type": ["object", "null"], "additionalProperties": False, "properties": guest},
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of mom",
        "type": "object",
        "additionalProperties": False,
        "required": ["plugins"],
        "properties": {**_properties(core), **sections},
        "$defs": definitions,
    }


class _WithoutTitles(GenerateJsonSchema):
    """pydantic's titles repeat the name."""

    def field_title_should_be_set(self, schema: object) -> bool:
        """Never."""
        return False


def _schema_of(model: type[BaseModel], owner: str, definitions: JsonObject) -> JsonObject:
    """A model's schema, with defaults as they are written; the inner models that it refers to go to `definitions`, under names that begin
    with `owner`."""
    template = f"#/$defs/{owner}.{{model}}"
    schema: JsonObject = model.model_json_schema(ref_template=template, schema_generator=_WithoutTitles, mode="serialization")
    inner = schema.pop("$defs", {})
    if isinstance(inner, dict):
        definitions.update({f"{owner}.{name}": definition for name, definition in inner.items()})
    return schema


def _properties(schema: JsonObject) -> JsonObject:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def written(settings: BaseModel) -> dict[str, JsonValue]:
    """Settings as they are written in YAML; secrets are masked by their type."""
    try:
        return settings.model_dump(mode="json", warnings=False)
    except Exception:  # noqa: BLE001  # a plugin's own types may not know how to be shown; the other settings are to be seen
        return {name: str(value) for name, value in settings}


def default_texts(model: type[BaseModel]) -> dict[str, str]:
    """The defaults of settings, each on one line of YAML."""
    return {name: yaml_value(value) for name, value in written(model.model_construct()).items()}


_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""What some reader of YAML takes for a flag or for nothing."""


def yaml_value(value: object) -> str:
    """A value on one line of YAML: text without quotes where it needs none, all else as JSON, which is YAML too."""
    if isinstance(value, str) and value.lower() not in _WORDS and re.fullmatch(r"[\w/](?:[\w./:@+-]*[\w/])?", value, re.ASCII):
        return value if not re.fullmatch(r"[\d.eExXoO_+-]+", value) else json.dumps(value)
    return json.dumps(value, ensure_ascii=False)
