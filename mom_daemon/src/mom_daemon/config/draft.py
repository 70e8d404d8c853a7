"""Draft of a configuration for this host, with comments."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel

from mom_core import Config, GuestSettings, MomError, Suggestion, printable
from mom_core.config.configuration import ConfiguredPlugin, CoreSettings, validated
from mom_core.config.wording import is_secret
from mom_core.plugins.bounded import describe
from mom_core.plugins.discovery import LoadedPlugin, available_plugins, load_plugins
from mom_core.settings import descriptions
from mom_daemon.config.setting_texts import default_texts, type_name, yaml_value
from mom_daemon.plugins.declared import check_plugins, mistake, offered

HOW_TO_ACT: Final = "`mom status` shows what mom would do. To make mom act, write enforce here, then: systemctl reload mom"

SCHEMA_FILE: Final = "mom.schema.json"


@dataclass(slots=True)
class Draft:
    """Configuration for a host: its text, and the installed plugins, enabled or not.

    :param enabled: suggestions of the enabled plugins, in order
    :param left_out: why plugins failed or were dropped, keyed by plugin name
    """

    plugins: Mapping[str, LoadedPlugin]
    enabled: dict[str, Suggestion] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    text: str = ""


def draft_config(root: Path, *, observe: bool = True) -> Draft:
    """Return a configuration with all installed plugins' suggestions."""
    draft = _fitting(root)
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        "# The configuration of mom, the memory overcommitment manager.",
        "# Written by `mom config init` for this host. Settings that are commented out show the defaults.",
        "#   mom config check   is it right?          mom config show   what is in force?",
        "#   mom doctor         will it work here?    mom run --observe   decide and report, touch nothing",
        "",
        *_core_lines(root, observe=observe),
        "# The enabled plugins. The order is the order of precedence. Each may have a `deadline`: the time limit of a call (usually 5s).",
        "plugins:",
        *(line for name, suggestion in draft.enabled.items() for line in _plugin_lines(draft.plugins[name], suggestion)),
        *_other_lines(draft),
        *_guest_lines(draft),
    ]
    draft.text = "\n".join(lines).rstrip() + "\n"
    return draft


def fitting(config: Config) -> dict[str, str]:
    """Return why plugins that are not enabled fit this host, keyed by plugin name."""
    return {name: suggestion.reason for name, suggestion in _fitting(config.root, config.plugins).enabled.items()}


def _fitting(root: Path, configured: Mapping[str, ConfiguredPlugin] = MappingProxyType({})) -> Draft:
    draft = _ask(root)
    draft.enabled = {name: suggestion for name, suggestion in draft.enabled.items() if name not in configured}
    classes = {name: plugin.loaded.plugin_class for name, plugin in configured.items()}
    classes |= {name: draft.plugins[name].plugin_class for name in draft.enabled}
    # Take the first of several hypervisors: on a vdsm host, libvirt has the same guests but belongs to vdsm.
    hypervisors = [name for name, plugin_class in classes.items() if hasattr(plugin_class, "mom_hypervisor")]
    for name in hypervisors[1:]:
        draft.enabled.pop(name, None)
        draft.left_out[name] = f"{hypervisors[0]} already lists the guests of this host"
    _drop_what_does_not_go_together(draft, root, configured)
    return draft


def _ask(root: Path) -> Draft:
    plugins, errors = load_plugins(sorted(available_plugins()))
    draft = Draft(plugins, left_out={error.plugin: str(error) for error in errors})
    for name, plugin in plugins.items():
        try:
            suggestion = suggested_by(plugin, root)
        except MomError as error:
            draft.left_out[name] = str(error)
        else:
            if suggestion is not None:
                draft.enabled[name] = suggestion
    draft.enabled = dict(sorted(draft.enabled.items(), key=lambda item: (item[1].order, item[0])))
    return draft


def suggested_by(plugin: LoadedPlugin, root: Path) -> Suggestion | None:
    """Return a plugin's suggestion. Raise `MomError` if the plugin fails."""
    suggestions: list[Suggestion] = offered(plugin, "mom_suggest", each=Suggestion, root=root)
    if not suggestions:
        return None
    suggestion = suggestions[0]
    try:
        validated(plugin.settings_class, suggestion.settings)
        for settings in suggestion.guests.values():
            validated(plugin.guest_settings_class or GuestSettings, settings)
    except Exception as problem:  # a plugin's own validators may raise anything
        raise mistake(plugin, f"mom_suggest returned settings that the plugin rejects: {describe(problem)}") from problem
    return suggestion


def _drop_what_does_not_go_together(draft: Draft, root: Path, configured: Mapping[str, ConfiguredPlugin]) -> None:
    while draft.enabled:
        plugins = {
            name: ConfiguredPlugin(name, draft.plugins[name], validated(draft.plugins[name].settings_class, suggestion.settings))
            for name, suggestion in draft.enabled.items()
        }
        errors = check_plugins(Config(root=root, plugins={**configured, **plugins})).errors
        if not any(error.plugin in draft.enabled for error in errors):
            return
        for error in errors:
            draft.enabled.pop(error.plugin, None)
            message = error.message.partition(": ")[2] or error.message  # without the plugin's name, which the draft shows already
            draft.left_out[error.plugin] = f"{message} ({error.hint})" if error.hint else message


# --- the text ------------------------------------------------------------------------------------------------------------------


def _comment(text: str, indent: str = "") -> Iterator[str]:
    return iter(textwrap.wrap(" ".join(text.split()), 110, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "))


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(text.split()), maxsplit=1)[0].rstrip(".")


def _settings(model: type[BaseModel], indent: str, values: Mapping[str, object], skip: Iterable[str] = ()) -> Iterator[str]:
    defaults, texts = default_texts(model), descriptions(model)
    for name, setting in model.model_fields.items():
        if name in values:
            yield from _comment(_first_sentence(texts[name]), indent)
            yield f"{indent}{name}: {yaml_value(values[name])}"
        elif name not in skip and not is_secret(setting.annotation):
            kind = type_name(setting.annotation, setting.metadata)
            default = defaults.get(name, "null")
            # `null` is no useful example of a size.
            example = next((text for word, text in _EXAMPLES.items() if default == "null" and kind.startswith(word)), default)
            without = "; not set by default" if example != default else ""
            if isinstance(setting.annotation, type) and issubclass(setting.annotation, BaseModel):
                example, without = "{}", f"; docs/settings.md lists its {len(setting.annotation.model_fields)} settings"
            meaning = (_first_sentence(texts[name]) or kind) + without
            yield f"{indent}{f'# {name}: {example}':<32} # {meaning}"


_EXAMPLES: Final = {"size": "1GiB", "duration": "30s"}


def _core_lines(root: Path, *, observe: bool) -> Iterator[str]:
    values: dict[str, object] = {"interval": "5s", "mode": "observe" if observe else "enforce"}
    if root != Path("/"):
        values["root"] = str(root)
    for line in _settings(CoreSettings, "", values):
        if line == "mode: observe":
            yield from _comment(HOW_TO_ACT)
        yield line
        if not line.startswith("#"):
            yield ""
    yield ""


def _plugin_lines(plugin: LoadedPlugin, suggestion: Suggestion) -> Iterator[str]:
    yield from _comment(f"{plugin.name}: {suggestion.reason}", "  ")
    lines = list(_settings(plugin.settings_class, "    ", suggestion.settings, skip=("deadline",)))
    yield f"  {yaml_value(plugin.name)}:" if lines else f"  {yaml_value(plugin.name)}: {{}}"
    yield from lines
    yield ""


def _other_lines(draft: Draft) -> Iterator[str]:
    left_out = {name: reason for name, reason in draft.left_out.items() if name in draft.plugins}
    for name, reason in left_out.items():
        yield f"  # {yaml_value(name) + ': {}':<20} # installed: {printable(reason, 200)}"
    if left_out:
        yield ""


def _guest_lines(draft: Draft) -> Iterator[str]:
    yield "# Settings of guests. A pattern matches guests' names, or a property from their platform (flavor=m1.*)."
    yield "# All patterns that match a guest apply to it; later patterns override earlier ones."
    patterns: dict[str, dict[str, object]] = {}
    for suggestion in draft.enabled.values():
        for pattern, settings in suggestion.guests.items():
            patterns.setdefault(pattern, {}).update(settings)
        yield from _comment(suggestion.guests_reason if suggestion.guests else "")
    models = [draft.plugins[name].guest_settings_class for name in draft.enabled]
    lines = [line for model in models if model is not None for line in _settings(model, "#     ", {})]
    if patterns or lines:
        yield "guests:" if patterns else "# guests:"
    for pattern, values in patterns.items():
        yield f"  {json.dumps(pattern)}: {{{', '.join(f'{name}: {yaml_value(value)}' for name, value in values.items())}}}"
    if lines:
        yield '#   "db-*":'
        yield from (line.replace("#     # ", "#     ", 1) for line in lines)
    else:
        yield "# None of the plugins above has settings of guests."
