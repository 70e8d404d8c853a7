"""The public API as plain data, to be kept, compared and judged: what the contract is made of, and which version a change needs.

    python tests/workspace/contract_snapshot.py            # what has changed since the last release, and whether the version says so
    python tests/workspace/contract_snapshot.py --release  # keep the present API as the snapshot of this version; refuses to change one

Until a version is released (its snapshot stands in contracts/), what is added needs nothing more than a version above the last release.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pydantic

import mom_cli
import mom_core
import mom_core.testing
import mom_daemon
import mom_devkit
import mom_toolkit
from mom_core import hookspecs

FOLDER = Path(__file__).parent / "contracts"

Version = tuple[int, int]
"""The first two numbers of a version: the first changes when plugins would have to, the second when something is added."""

Api = dict[str, dict[str, str]]
"""By name: its kind, and its members with their shapes, all as text."""


def api() -> Api:
    """The API of the code as it is."""
    found: Api = {}
    for name in dir(mom_core):
        if name != "__version__":
            found[name] = _described(getattr(mom_core, name))
    for module, names in ((mom_core.testing, mom_core.testing.__all__), (mom_devkit, dir(mom_devkit))):
        for name in sorted({*names} - {"__version__"}):
            found[f"testing.{name}"] = _described(getattr(module, name))
    for prefix, library in (("toolkit", mom_toolkit), ("daemon", mom_daemon), ("cli", mom_cli)):
        for name in sorted({*dir(library)} - {"__version__"}):
            found[f"{prefix}.{name}"] = _described(getattr(library, name))
    for name in sorted(vars(hookspecs)):
        if name.startswith("mom_"):
            found[name] = {"": "hook", **_parameters(getattr(hookspecs, name))}
    return found


def _described(thing: object) -> dict[str, str]:
    if isinstance(thing, type):
        return _class(thing)
    if callable(thing):
        return {"": "function", **_parameters(thing)}
    return {"": "value", "=": thing if isinstance(thing, str) else type(thing).__name__}


def _class(kind: type) -> dict[str, str]:
    bases = ", ".join(base.__name__ for base in kind.__bases__ if base is not object)
    if issubclass(kind, enum.Enum):
        return {"": f"enum({bases})", **{member.name: str(member.value) for member in kind}}
    if getattr(kind, "_is_protocol", False):
        return {"": "protocol", **_methods(kind)}
    if dataclasses.is_dataclass(kind):
        fields = {field.name: f"{field.type}{'' if _required(field) else ' = …'}" for field in dataclasses.fields(kind)}
        return {"": f"dataclass({bases})", **fields, **_methods(kind)}
    if issubclass(kind, pydantic.BaseModel):
        return {"": f"settings({bases})", **{name: str(field.annotation) for name, field in kind.model_fields.items()}}
    if issubclass(kind, tuple):
        return {"": f"tuple({bases})", **{str(name): "item" for name in getattr(kind, "_fields", ())}}
    return {"": f"class({bases})", **_flat_methods(kind)}


def _flat_methods(kind: type) -> dict[str, str]:
    """Of a class that plugins only call: each parameter by itself, as one more with a default breaks nobody."""
    members: dict[str, str] = {}
    for name, shape in _methods(kind).items():
        function = vars(kind)[name]
        members[name] = "method" if inspect.isfunction(function) else shape
        if inspect.isfunction(function):
            members.update({f"{name}({parameter})": text for parameter, text in _parameters(function).items()})
    return members


def _required(field: dataclasses.Field[object]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _methods(kind: type) -> dict[str, str]:
    members: dict[str, str] = {}
    for name, member in vars(kind).items():
        if (name.startswith("_") and name != "__init__") or (
            name == "__init__" and (dataclasses.is_dataclass(kind) or "_is_protocol" in vars(kind))
        ):
            continue
        if isinstance(member, property):
            members[name] = "property"
        elif inspect.isfunction(member):
            members[name] = str(inspect.signature(member))
    return members


def _parameters(function: Callable[..., object]) -> dict[str, str]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return {}
    empty = inspect.Parameter.empty
    found = {name: f"{_kind_of(p)} {p.annotation}{'' if p.default is empty else ' = …'}" for name, p in signature.parameters.items()}
    return {**found, "return": str(signature.return_annotation)}


def _kind_of(parameter: inspect.Parameter) -> str:
    return {"KEYWORD_ONLY": "key", "VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "any")


def compare(old: Api, new: Api) -> tuple[list[str], list[str]]:
    """What plugins may trip over, and what is merely new, in words."""
    breaking: list[str] = []
    added = [f"{name} is new" for name in new if name not in old]
    for name, members in old.items():
        if name not in new:
            breaking.append(f"{name} is gone")
            continue
        now = new[name]
        kind = members[""]
        if now[""] != kind:
            breaking.append(f"{name} was a {kind} and is a {now['']}")
            continue
        for member, shape in members.items():
            if member not in now:
                breaking.append(f"{name}: {member} is gone")
            elif now[member] != shape and not _wider(shape, now[member]) and not (kind == "hook" and _may_return(shape, now[member])):
                breaking.append(f"{name}: {member} was {shape} and is {now[member]}")
        for member in now:
            if member not in members:
                (added if _may_be_added(kind, now[member]) else breaking).append(f"{name}: {member} is new")
        breaking += _moved(name, kind, members, now)
    return breaking, added


def _wider(old: str, new: str) -> bool:
    """Whether only a default was added: everybody who gave a value still may."""
    return new == f"{old} = …"


def _may_return(old: str, new: str) -> bool:
    """Whether a hook may return all that it might before, and more: `Iterable[A]` became `Iterable[A | B]`."""
    before, after = (re.fullmatch(r"(\w+)\[(.*)\]", text) for text in (old, new))
    return bool(before and after and before[1] == after[1] and set(before[2].split(" | ")) <= set(after[2].split(" | ")))


def _may_be_added(kind: str, shape: str) -> bool:
    """A hook's implementations leave out what they do not take; callers leave out what has a default; a protocol's implementers lack it."""
    if kind == "protocol":
        return False
    if kind.startswith(("dataclass", "function")) or (kind.startswith("class") and re.match(r"(any|key) ", shape)):
        return shape.endswith(" = …") or "(" in shape or shape == "property"
    return True


def _moved(name: str, kind: str, old: dict[str, str], new: dict[str, str]) -> list[str]:
    """What callers give by position must stay where it is."""
    if not kind.startswith(("dataclass", "function", "tuple")):
        return []
    before = [member for member in old if member in new]
    after = [member for member in new if member in old]
    return [] if before == after else [f"{name}: the order of {', '.join(before[1:])} has changed"]


def parse_version(text: str) -> Version:
    """The first two numbers of a version such as `1.1.0`."""
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def released() -> dict[Version, Api]:
    """The snapshots of the versions that were released."""
    return {parse_version(path.stem): json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def judge(stated: str, code: Api, kept: dict[Version, Api]) -> tuple[str, list[str]]:
    """What is wrong with the version for the changes since the last release (nothing: empty), and the changes; none before the first."""
    version = parse_version(stated)
    if not kept:
        return "", []
    last = max(kept)
    breaking, added = compare(kept[last], code)
    changes = [*(f"breaks plugins: {text}" for text in breaking), *(f"adds: {text}" for text in added)]
    if version < last:
        return f"{stated} is older than {_text(last)}, which is released", changes
    if breaking and version[0] == last[0]:
        return f"the version must become {last[0] + 1}.0", changes
    if added and version == last:
        return f"the version must become {last[0]}.{last[1] + 1}", changes
    return "", changes


def _text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def write(version: str, code: Api, folder: Path) -> None:
    """Keep a snapshot, one line for each member, so that changes read well."""
    folder.mkdir(exist_ok=True)
    (folder / f"{_text(parse_version(version))}.json").write_text(json.dumps(code, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Tell, or release."""
    wrong, changes = judge(mom_core.__version__, api(), released())
    for change in changes:
        print(change)
    if wrong:
        print(f"refused: {wrong} (mom_core/_version.py, and docs/authors/contract.md says why)")
        return 1
    if "--release" in arguments:
        if parse_version(mom_core.__version__) in released():
            print(f"{mom_core.__version__} is released already, and stays as it is")
            return 0
        write(mom_core.__version__, api(), FOLDER)
        print(f"released {mom_core.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
