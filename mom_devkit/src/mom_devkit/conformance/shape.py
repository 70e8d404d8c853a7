"""Checks of what a plugin states: packaging, hooks, settings, fields, controls, default policies."""

from __future__ import annotations

import ast
import keyword
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from pathlib import Path
from typing import Final

from pydantic import BaseModel

import mom_core
import mom_toolkit
from mom_cli.declared import declared_by, everything_installed
from mom_core import Config, ControlSpec, FieldSpec, Finding, MomError, PluginContext, PluginSettings, Scope, Unit
from mom_core.config.complaints import is_secret
from mom_core.plugins.bounded import describe
from mom_core.plugins.discovery import GROUP
from mom_core.plugins.registry import check_hooks
from mom_devkit.conformance.subject import ExaminedPlugin
from mom_devkit.projects import Project, installed_project, project_above

PLUGIN_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
"""What is easily written in YAML and on a command line."""

FIELD_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
"""A word of the policy language, as all others are written."""

POLICY_NAME: Final = re.compile(r"[1-9]0_[a-z0-9_]+")

SECRET_NAMES: Final = re.compile(r"password|passwd|passphrase|secret|token|credential|api_?key|private_?key")


# --- packaging -----------------------------------------------------------------------------------------------------------------


def packaging(subject: ExaminedPlugin) -> Iterator[Finding]:
    """Its distribution names it, says what it is, and needs mom-core; its code imports only what is public."""
    module = subject.plugin_class.__module__
    file = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    project = subject.project or project_above(file) or installed_project(lambda target: _names(target, subject.plugin_class))
    if not PLUGIN_NAME.fullmatch(subject.name):
        yield subject.fault(
            f"its name {subject.name!r:.60} is not easily written in YAML", "lower case letters and digits, joined by _ or -"
        )
    if project is None:
        yield subject.remark("its distribution was not found, so its metadata was not looked at", "`mom plugin check` the project's folder")
    else:
        targets = {entry.name for entry in project.entries if _names(entry.value, subject.plugin_class)}
        if not targets:
            line = f'{subject.name} = "{module.partition(".")[0]}:{subject.plugin_class.__name__}"'
            yield subject.fault(
                f"no entry point of {project.name} names {subject.plugin_class.__name__}", f'below [project.entry-points."{GROUP}"]: {line}'
            )
        if not project.summary:
            yield subject.fault(
                "its distribution has no description", "`mom plugin list` and package indexes show it: add `description` in pyproject.toml"
            )
        if not project.core:
            yield subject.fault("its distribution does not require mom-core", 'add "mom-core" to `dependencies`')
        yield from _version(subject, project.name, project.version)
    package = _package_folder(file, module)
    if package is not None:
        if not (package / "py.typed").exists():
            yield subject.remark(
                "its package has no py.typed, so type checkers do not read its types", f"add an empty {package.name}/py.typed"
            )
        yield from _private_imports(subject, package)


def entry_name(plugin_class: type, project: Project | None = None) -> str:
    """The name under which a class's distribution lists it; a guess from the class's name where none is found."""
    file = Path(getattr(sys.modules.get(plugin_class.__module__), "__file__", None) or "")
    found = project or project_above(file)
    for entry in found.entries if found else ():
        if _names(entry.value, plugin_class):
            return entry.name
    for entry in entry_points(group=GROUP):
        if _names(entry.value, plugin_class):
            return entry.name
    words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", plugin_class.__name__.removesuffix("Plugin"))
    return "_".join(words).lower() or "plugin"


def _names(target: str, plugin_class: type) -> bool:
    module, _, name = target.partition(":")
    found = getattr(sys.modules.get(module.strip()), name.strip(), None)
    return found is plugin_class


def _version(subject: ExaminedPlugin, name: str, stated: str) -> Iterator[Finding]:
    package = sys.modules.get(subject.plugin_class.__module__.partition(".")[0])
    own = getattr(package, "__version__", None)
    try:
        stated = stated or distribution(name).version
    except PackageNotFoundError:
        return
    if own is not None and stated and str(own) != stated:
        yield subject.fault(f"its distribution says version {stated}, its package {own}", "state the version in one place")


def _package_folder(file: Path, module: str) -> Path | None:
    depth = module.count(".") if file.name != "__init__.py" else module.count(".") + 1
    folder = file.parents[depth - 1] if depth else None
    return folder if folder is not None and folder.is_dir() and (folder / "__init__.py").exists() else None


def _private_imports(subject: ExaminedPlugin, package: Path) -> Iterator[Finding]:
    public = {"mom_core": {*dir(mom_core), "testing"}, "mom_toolkit": {*dir(mom_toolkit)}}
    for path in sorted(package.rglob("*.py")):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError):
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names, kit = [], False
            if isinstance(node, ast.Import):
                modules = [a.name for a in node.names if a.name.partition(".")[0] in {*public, "mom_devkit"}]
                names = [module for module in modules if module not in {*public, "mom_core.testing"}]
                kit = any(module.partition(".")[0] == "mom_devkit" for module in modules)
            elif not node.level and node.module:
                library = node.module.partition(".")[0]
                kit = library == "mom_devkit"
                if node.module in public:
                    names = [f"{library}.{a.name}" for a in node.names if a.name not in public[library]]
                elif library in public and node.module != "mom_core.testing":
                    names = [node.module]
            where = f"{path.relative_to(package.parent)}:{node.lineno}"
            if kit:
                yield subject.fault(f"{where} imports mom_devkit, which is not installed where mom runs", "import it in tests only")
            for name in [] if kit else names:
                yield subject.fault(
                    f"{where} imports {name}, which is private and may change at any time",
                    "import from mom_core, mom_core.testing or mom_toolkit",
                )


# --- hooks ---------------------------------------------------------------------------------------------------------------------


def hooks(subject: ExaminedPlugin) -> Iterator[Finding]:
    """Its hooks exist, take what their specifications give, and are marked; constructing it does nothing yet."""
    settings = subject.read_settings()
    instance = subject.plugin_class(settings, PluginContext(name=subject.name, root=subject.new_folder("empty")))
    try:
        found = check_hooks(subject.plugin_class, instance, subject.name)
    except MomError as error:
        yield subject.fault(error.message, error.hint)
        return
    if not found:
        yield subject.fault("it implements no hook", "mark methods with @hookimpl; docs: hooks")
    if not (subject.plugin_class.__doc__ or "").strip():
        yield subject.fault("its class has no docstring", "`mom plugin info` shows it: say in one sentence what the plugin does")
    acts = next((hook for hook in ("mom_write", "mom_control") if hook in found), "")
    if acts and "mom_controls" not in found:
        yield subject.fault(f"it implements {acts} and declares no control", "implement mom_controls")
    if {"mom_collect_host", "mom_collect_guests"} & found.keys() and "mom_fields" not in found:
        yield subject.fault("it collects and declares no field", "implement mom_fields: what is not declared is dropped")
    for hook in ("mom_running", "mom_recording"):
        if hook in found and not isinstance(vars(subject.plugin_class).get(hook), staticmethod):
            yield subject.fault(f"{hook} is no static method", "put @staticmethod above @hookimpl: it is called on the class")


# --- settings ------------------------------------------------------------------------------------------------------------------


def settings(subject: ExaminedPlugin) -> Iterator[Finding]:
    """Every setting is described and has a schema; equal settings are equal; secrets are of a secret type."""
    own: list[type[BaseModel]] = [subject.settings_class]
    if not (isinstance(own[0], type) and issubclass(own[0], PluginSettings)):
        yield subject.fault("its inner Settings is no subclass of mom_core.PluginSettings", "derive it")
        return
    guest_settings = getattr(subject.plugin_class, "GuestSettings", None)
    if guest_settings is not None:
        own.append(guest_settings)
    for model in own:
        yield from _described(subject, model)
        try:
            model.model_json_schema()
        except Exception as error:  # noqa: BLE001  # pydantic says in many ways that a type has no schema, and a plugin's own types in more
            yield subject.fault(f"{model.__name__} has no JSON Schema: {describe(error)}", "`mom config schema` needs one for each type")
    once = subject.read_settings()
    again = subject.read_settings()
    if once != again:
        yield subject.fault(
            "the same settings read twice are not equal", "a reload would begin the plugin anew each time: compare by value"
        )


def _described(subject: ExaminedPlugin, model: type[BaseModel]) -> Iterator[Finding]:
    for name, field in model.model_fields.items():
        if not (field.description or "").strip():
            yield subject.fault(
                f"the setting {name} is not described", "write a docstring below it: `mom plugin info` and the reference show it"
            )
        if SECRET_NAMES.search(name) and field.annotation is str and not is_secret(field.annotation):
            yield subject.fault(
                f"the setting {name} sounds like a secret and is plain text", "make it a pydantic.SecretStr, which nothing prints"
            )


# --- fields and controls -------------------------------------------------------------------------------------------------------


def declarations(subject: ExaminedPlugin) -> Iterator[Finding]:
    """Fields and controls have names, units, bounds and descriptions that make sense."""
    fields, controls = subject.declared()
    for (scope, name), count in Counter((spec.scope, spec.name) for spec in fields).items():
        if count > 1:
            yield subject.fault(f"it declares the {scope} field {name} {count} times", "once is enough")
    for field in fields:
        yield from _named(subject, "field", field)
        if not field.source.strip():
            yield subject.remark(f"the field {field.name} does not say where it comes from", "give `source`, such as /proc/meminfo MemFree")
        other = _declared_by_others(subject.plugin_class.__module__.partition(".")[0]).get((field.scope, field.name))
        if other is not None and other.unit is not field.unit:
            yield subject.fault(
                f"it declares the {field.scope} field {field.name} in {field.unit}, which others have in {other.unit}: {other.description}",
                "take that unit, or another name: what reads it cannot tell which of the two it gets",
            )
    own = {(spec.scope, spec.name): spec for spec in fields}
    for control in controls:
        yield from _named(subject, "control", control)
        yield from _bounds(subject, control)
        shown = own.get((control.scope, control.field))
        if shown is not None and shown.unit is not control.unit:
            yield subject.fault(
                f"the control {control.name} is in {control.unit}, its field {control.field} in {shown.unit}",
                "what is put back is the field's value: both need one unit",
            )


@cache
def _declared_by_others(package: str) -> Mapping[tuple[Scope, str], FieldSpec]:
    """The fields of all installed plugins that are not of this package."""
    config = everything_installed()[0]
    others = {name: one for name, one in config.plugins.items() if one.loaded.plugin_class.__module__.partition(".")[0] != package}
    specs = (spec for fields, _ in declared_by(Config(plugins=others), []).values() for spec in fields if spec.collected)
    return {(spec.scope, spec.name): spec for spec in specs}


def _named(subject: ExaminedPlugin, kind: str, spec: FieldSpec | ControlSpec) -> Iterator[Finding]:
    if not FIELD_NAME.fullmatch(spec.name) or keyword.iskeyword(spec.name):
        yield subject.fault(
            f"the {kind} {spec.name!r:.60} is not named as a policy writes it", "lower case words joined by _, such as mem_free"
        )
    if not spec.description.strip():
        yield subject.fault(f"the {kind} {spec.name} is not described", "say what it is: `mom fields` shows it")


def _bounds(subject: ExaminedPlugin, control: ControlSpec) -> Iterator[Finding]:
    low, high = control.minimum, control.maximum
    if control.unit in {Unit.TEXT, Unit.LIST}:
        if low is not None or high is not None:
            yield subject.fault(f"the control {control.name} is {control.unit} and has bounds", "bounds are for numbers")
        return
    if low is None and high is None:
        yield subject.remark(f"the control {control.name} takes any number", "give it the bounds that the kernel or hypervisor has")
        return
    if low is not None and high is not None and low == high:
        yield subject.fault(f"the control {control.name} can only be {low:g}", "widen its bounds")
    if control.unit is Unit.FLAG and (low, high) != (0, 1):
        yield subject.fault(
            f"the control {control.name} is a flag from {low} to {high}", "a flag is 0 or 1; for more values take Unit.COUNT"
        )
    if control.unit is Unit.RATIO and high is not None and not math.isfinite(high):
        yield subject.fault(f"the control {control.name} has no finite bound", "leave an open bound out")


def policies(subject: ExaminedPlugin) -> Iterator[Finding]:
    """Its default policies have names that sort, and text."""
    make = getattr(subject.plugin_class, "mom_policies", None)
    if make is None:
        return
    instance = subject.plugin_class(subject.read_settings(), PluginContext(name=subject.name, root=subject.new_folder("empty")))
    for name, text in instance.mom_policies().items():
        if not POLICY_NAME.fullmatch(name):
            yield subject.fault(f"its default policy is called {name!r:.60}", "10_… to 90_…: policies are used in the order of their names")
        if not text.strip():
            yield subject.fault(f"its default policy {name} is empty", "leave it out")
