"""Checks of packaging and declarations."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, TypeAlias

from mom_core import ControlSpec, DefaultPolicy, FieldSpec, Finding, GuestColumn, MomError, PluginContext, PluginSettings, Scope, Unit
from mom_core.config.wording import is_secret
from mom_core.plugins.bounded import attempt, describe
from mom_core.plugins.discovery import GROUP, on_core, pip_install
from mom_core.plugins.registry import hook_manager, register
from mom_core.settings import descriptions
from mom_daemon.plugins.declared import registered
from mom_devkit.conformance.subject import ExaminedPlugin

SECRET_NAMES: Final = re.compile(r"password|passwd|passphrase|secret|token|credential|api_?key|private_?key")

PRIVATE_IMPORT: Final = re.compile(r"^[ \t]*(?:from|import) (mom_devkit\b|mom_(?:core|kvm)\.(?!testing\b)[\w.]+)", re.MULTILINE)


# --- packaging -----------------------------------------------------------------------------------------------------------------


def packaging(subject: ExaminedPlugin) -> Iterator[Finding]:
    """For packaging, the distribution has an entry point and a description, and requires mom-core. The code imports only public names."""
    entry = entry_of(subject.plugin_class)
    if entry is None or entry.dist is None:
        yield subject.remark(
            "no installed distribution provides it, so its metadata was not checked", f"`{pip_install()} -e .` in its project"
        )
    else:
        if not entry.dist.metadata["Summary"]:
            yield subject.fault("its distribution has no description", "`mom plugin list` shows it: add `description` in pyproject.toml")
        if not on_core(entry.dist.requires or ()):
            yield subject.fault("its distribution does not require mom-core", 'add "mom-core" to `dependencies`')
    package = sys.modules[subject.plugin_class.__module__.partition(".")[0]]
    for folder in map(Path, getattr(package, "__path__", ())):
        for path in sorted(folder.rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            for private in PRIVATE_IMPORT.finditer(text):
                where = f"{path.relative_to(folder.parent)}:{text.count(chr(10), 0, private.start()) + 1}"
                cure = "import public names of mom_core, mom_core.testing or mom_kvm; import mom_devkit in tests only"
                yield subject.fault(f"{where} imports {private[1]}, which is private, or not installed where mom runs", cure)


@cache
def entry_of(plugin_class: type) -> EntryPoint | None:
    """Return a plugin class's entry point, if any."""
    for entry in entry_points(group=GROUP):
        module, _, name = entry.value.partition(":")
        if getattr(sys.modules.get(module.strip()), name.strip(), None) is plugin_class:
            return entry
    return None


def entry_name(plugin_class: type) -> str:
    """Return the name of a plugin's entry point, or one derived from the class."""
    entry = entry_of(plugin_class)
    words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", plugin_class.__name__.removesuffix("Plugin"))
    return entry.name if entry else "_".join(words).lower() or "plugin"


# --- declarations ----------------------------------------------------------------------------------------------------------


def declarations(subject: ExaminedPlugin) -> Iterator[Finding]:
    """Without a host, the constructor works. Hooks, settings, fields, controls and default policies are valid and described."""
    faults = list(_settings(subject))
    yield from faults
    instance = None if faults else (yield from _constructed(subject))
    if instance is None:
        return
    try:
        hooks = register(hook_manager(), instance, subject.name)
        registered(subject.plugin_class, subject.name)
    except MomError as error:
        yield subject.fault(error.message, error.hint)
        return
    if not hooks:
        yield subject.fault("it implements no hook", "mark methods with @hookimpl; see docs/hooks.md")
    if not (subject.plugin_class.__doc__ or "").strip():
        yield subject.fault("its class has no docstring", "`mom plugin info` shows it: say in one sentence what the plugin does")
    useless = [found for spec in subject.constructed.declared if (found := fault_of(spec))]
    useless += [(f"mom_services: {why}", "") for kind, offer in subject.constructed.services.items() if (why := missing_of(kind, offer))]
    if useless:
        yield from (subject.fault(*found) for found in useless)
        return
    if "mom_source" in hooks and not isinstance(vars(subject.plugin_class).get("mom_source"), staticmethod):
        yield subject.fault("mom_source is no static method", "put @staticmethod above @hookimpl: mom calls it on the class")
    units = {(spec.scope, spec.name): spec.unit for spec in subject.declared_as(FieldSpec) if spec.collected}
    for control in subject.declared_as(ControlSpec):
        if units.get((control.scope, control.field), control.unit) is not control.unit:
            yield subject.fault(f"the control {control.name} has another unit than its field {control.field}", "give both the same unit")


def _constructed(subject: ExaminedPlugin) -> Generator[Finding, None, Any]:
    folder = subject.new_folder("empty")
    context = PluginContext(name=subject.name, root=folder, state_directory=folder / "state", run_directory=folder / "run")
    settings = subject.read_settings()
    result = attempt(lambda: subject.plugin_class(settings, context))
    if result.error is not None:
        cure = "open files and connections in mom_setup: mom also constructs plugins to check a configuration, without a host"
        yield subject.fault(f"it cannot be constructed on an empty host: {describe(result.error)}", cure)
    if any(folder.rglob("*")):
        yield subject.fault("its constructor writes files", "write them in mom_setup")
    return result.value


def _settings(subject: ExaminedPlugin) -> Iterator[Finding]:
    for model in (subject.settings_class, getattr(subject.plugin_class, "GuestSettings", PluginSettings)):
        texts = descriptions(model)
        for name, field in model.model_fields.items():
            if not texts[name].strip():
                yield subject.fault(f"the setting {name} is not described", "write a docstring below it: `mom plugin info` shows it")
            if SECRET_NAMES.search(name) and field.annotation is str and not is_secret(field.annotation):
                yield subject.fault(f"the setting {name} sounds like a secret and is plain text", "make it a pydantic.SecretStr")
        try:
            model.model_json_schema()
        except Exception as error:  # noqa: BLE001  # a type without a schema may raise anything
            yield subject.fault(f"{model.__name__} has no JSON Schema: {describe(error)}", "`mom config schema` needs one for each type")


# --- rules for declarations and services, which a running mom does not check -------------------------------------------------

FIELD_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")

POLICY_NAME: Final = re.compile(r"[1-9]0_[a-z0-9_]+")

METRIC: Final = re.compile(r"(?!mom_(?!guest_))[a-zA-Z_:][a-zA-Z0-9_:]*")
"""Matches a Prometheus metric name that cannot collide with mom's own metrics."""

Rule: TypeAlias = "tuple[Callable[[Any], object], str, str]"
"""Test for a fault of a declaration, text of the fault, and fix."""


def _bounds(control: ControlSpec) -> list[float]:
    return [bound for bound in (control.minimum, control.maximum) if bound is not None]


def _is_bad_name(spec: FieldSpec | ControlSpec) -> bool:
    return not FIELD_NAME.fullmatch(str(spec.name)) or keyword.iskeyword(spec.name)


_NAMED: Final[Sequence[Rule]] = (
    (_is_bad_name, "has a name that policies cannot use", "use lower case words joined by _"),
    (lambda spec: not (isinstance(spec.unit, Unit) and isinstance(spec.scope, Scope)), "needs a Unit and a Scope", ""),
    (lambda spec: not spec.description.strip(), "is not described", "add a description: `mom fields` shows it"),
)

RULES: Final[Mapping[type, Sequence[Rule]]] = {
    FieldSpec: _NAMED,
    ControlSpec: (
        *_NAMED,
        (lambda spec: not str(spec.field).isidentifier(), "needs the name of the field that holds its present value", ""),
        (lambda spec: not spec.unit.is_number and _bounds(spec), "has bounds or choices, but is no number", "remove them"),
        (lambda spec: _bounds(spec) != sorted(_bounds(spec)), "has a minimum above its maximum", "exchange them"),
    ),
    DefaultPolicy: (
        (lambda spec: not POLICY_NAME.fullmatch(spec.name), "has a name without a number", "name it 10_… to 90_…, to define the order"),
    ),
    GuestColumn: (
        (lambda spec: not spec.name or not spec.fields, "needs a name and the names of fields", ""),
        (
            lambda spec: spec.metric and not METRIC.fullmatch(spec.metric),
            "needs a valid Prometheus metric name that mom does not use",
            "a name with mom_ must begin with mom_guest_",
        ),
    ),
}


def fault_of(spec: object) -> tuple[str, str] | None:
    """Return the first fault of a declaration and its fix; None without fault."""
    if type(spec) not in RULES:
        return f"{spec!r:.80} is no FieldSpec, ControlSpec, DefaultPolicy or GuestColumn", ""
    faults = ((fault, cure) for is_broken, fault, cure in RULES[type(spec)] if is_broken(spec))
    return next(((f"{type(spec).__name__} {getattr(spec, 'name', '')!r:.60} {fault}", cure) for fault, cure in faults), None)


def missing_of(kind: object, offer: object) -> str:
    """Return why a service does not implement its protocol or base class; empty if it does."""
    if not isinstance(kind, type) or kind.__module__ == "builtins":
        return f"{kind!r:.80} is no protocol"
    methods = [name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))]
    missing = [name for name in methods if not hasattr(offer, name)]
    return f"the {type(offer).__name__} that it offers is not a {kind.__name__}: it lacks {', '.join(missing)}" if missing else ""
