"""JSON Schema of the configuration file."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from mom_core import GuestPattern
from mom_core.config.configuration import CoreSettings, JsonObject
from mom_core.plugins.discovery import LoadedPlugin


def json_schema(plugins: Iterable[LoadedPlugin]) -> JsonObject:
    """Return the JSON Schema (2020-12) for these plugins."""
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
            "description": "The enabled plugins, keyed by name, with their settings. The order is the order of precedence.",
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": enabled,
        },
        "guests": {
            "description": "Settings of single guests, by pattern of the guest's name (`*`, `?`, `[abc]`), or of a property that the "
            "platform gives the guest (`flavor=m1.*`). All matching patterns apply; later patterns override earlier ones.",
            "type": ["object", "null"],
            "propertyNames": {"pattern": GuestPattern.FORM},
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
    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def _schema_of(model: type[BaseModel], owner: str, definitions: JsonObject) -> JsonObject:
    template = f"#/$defs/{owner}.{{model}}"
    schema: JsonObject = model.model_json_schema(ref_template=template, schema_generator=_WithoutTitles, mode="serialization")
    inner = schema.pop("$defs", {})
    if isinstance(inner, dict):
        definitions.update({f"{owner}.{name}": definition for name, definition in inner.items()})
    return schema


def _properties(schema: JsonObject) -> JsonObject:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}
