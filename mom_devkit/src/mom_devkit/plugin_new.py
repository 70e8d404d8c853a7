"""`mom plugin new`: a complete distribution to start from."""

from __future__ import annotations

import keyword
import os
import re
import tomllib
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from mom_core import MomError, __version__
from mom_core.plugins.discovery import available_plugins, catalog, pip_install
from mom_daemon import as_caller, print_prose
from mom_devkit.hosts import host_of

KINDS: Final = ("collector", "controller", "evaluator", "hypervisor", "reporter")
"""Kinds of plugins, each with a folder of templates."""

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")

LONGEST_NAME: Final = 30
"""Maximum characters of a plugin's name."""

RESERVED: Final = frozenset({"core", "devkit", "guest", "guests", "mom", "momd", "plugin", "plugins", "test", "testing", "example"})
"""Names that a plugin cannot have."""


@click.command("new")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="Kind of the plugin.")
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.  [default: ./mom-NAME]")
@as_caller
def new_command(name: str, kind: str, directory: Path | None) -> None:
    """Write the project of a new plugin: a working distribution with code, settings, tests, README and checks.

    A collector reads /proc/vmstat, a controller sets and restores a kernel knob, an evaluator decides balloon sizes, a hypervisor finds
    QEMU's processes, a reporter writes cycles to a file. Existing files stay unchanged.
    """
    _refuse_bad_name(name)
    target = directory if directory is not None else Path(f"mom-{name.replace('_', '-')}")
    write_project(name, kind, target)
    print_prose(f"wrote {target}: {'an' if kind[0] in 'aeiou' else 'a'} {kind} that works unchanged", 2)
    print_prose("\nnext:")
    for line in (f"cd {target}", f"{pip_install()} -e '.[dev]'", "pytest", f"mom plugin check {name}"):
        click.echo(f"    {line}")
    print_prose(f"\nthen change src/{_package(name)}/plugin.py as you need", 6)


def _package(name: str) -> str:
    return f"mom_{name.replace('-', '_')}"


def _refuse_bad_name(name: str) -> None:
    hint = f"at most {LONGEST_NAME} lower case letters and digits, joined by single - or _, such as zswap or page-cache"
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME or keyword.iskeyword(name):
        raise click.BadParameter(f"{name!r:.60} is no name for a plugin ({hint})", param_hint="NAME")
    taken = {word.replace("-", "_") for word in (*RESERVED, *catalog(), *available_plugins())}
    if name.replace("-", "_") in taken or find_spec(_package(name)) is not None:
        raise click.BadParameter(f"{name!r} is a name of mom or of an installed plugin: use another name", param_hint="NAME")


def write_project(name: str, kind: str, target: Path) -> None:
    """Write a new distribution. Raise `MomError` if `target` exists or cannot be written."""
    if os.path.lexists(target) and not (target.is_dir() and not target.is_symlink() and not any(target.iterdir())):
        raise MomError(f"{target} exists already; mom does not overwrite it", hint="use --directory for another folder")
    try:
        host_of(target, files_of(name, kind))
    except OSError as error:
        raise MomError(f"{target} cannot be written: {error.strerror}", hint="use --directory for another folder") from error


def files_of(name: str, kind: str) -> dict[str, str]:
    """Return the files of a new distribution, keyed by path."""
    templates = resources.files("mom_devkit").joinpath("templates")
    about = tomllib.loads(templates.joinpath(kind, "about.toml").read_text(encoding="utf-8"))
    package, class_name = _package(name), f"{''.join(word.capitalize() for word in re.split('[-_]', name))}Plugin"
    major, minor = __version__.split(".")[:2]
    words = {
        "SETTINGS": about["settings"],
        "WHAT": about["what"],
        "SUMMARY": about["summary"],
        "NAME": name,
        "DISTRIBUTION": f"mom-{name.replace('_', '-')}",
        "PACKAGE": package,
        "CLASS": class_name,
        "FIELD": name.replace("-", "_"),
        # this release of mom-core, and later ones with the same major version
        "CORE": f">={major}.{minor},<{int(major) + 1}",
    }

    def fill(*path: str) -> str:
        text = templates.joinpath(*path).read_text(encoding="utf-8")
        for word, value in words.items():  # long texts first, because they contain placeholders
            text = text.replace(f"@{word}@", value.strip("\n") + "\n" if "\n" in value else value)
        return text

    common = {".gitignore": "gitignore", ".github/workflows/checks.yml": "ci.yml"}
    common |= {name: name for name in ("pyproject.toml", "README.md", "LICENSE")}
    files = {
        **{path: fill("common", f"{template}.template") for path, template in common.items()},
        f"src/{package}/__init__.py": (
            f'"""{about["summary"]}."""\n\nfrom __future__ import annotations\n\n'
            f"from {package}.plugin import {class_name} as {class_name}\n"
        ),
        f"src/{package}/py.typed": "",
    }
    for template in templates.joinpath(kind).iterdir():
        module, _, suffix = template.name.partition(".")
        if suffix == "py.template":
            files[f"tests/test_{package}.py" if module == "test" else f"src/{package}/{module}.py"] = fill(kind, template.name)
    return files
