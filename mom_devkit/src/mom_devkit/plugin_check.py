"""`mom plugin check`: the conformance kit, for one plugin or all, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click

from mom_core import ConfigError, MomError, brief, json_option, parse_document, print_prose, printable
from mom_core.plugins.discovery import GROUP, AvailablePlugin, available_plugins

CHECK_SECONDS: Final = 180.0
"""How long all checks of one plugin may take. They take seconds; a plugin whose every call hangs takes deadlines in a row."""


@dataclass(slots=True)
class _Checked:
    """One plugin, what was found, and how many checks were made."""

    plugin: AvailablePlugin
    findings: list[Mapping[str, str]] = field(default_factory=list)
    checks: int = 0

    def count(self, severity: str) -> int:
        return sum(finding["severity"] == severity for finding in self.findings)


@click.command("check")
@click.argument("target", metavar="[NAME|PATH]", required=False)
@click.option("--settings", metavar="YAML", default="{}", help="The plugin's settings, such as '{uri: \"test:///default\"}'.")
@click.option(
    "--host", metavar="DIR", type=click.Path(exists=True, file_okay=False), help="A folder with the files of /proc and /sys that it needs."
)
@click.option("--may-touch", is_flag=True, help="The guests of its own hypervisor are a test's, and may be changed.")
@json_option
def check_command(target: str | None, settings: str, host: str | None, may_touch: bool, as_json: bool) -> None:
    """Check whether a plugin does what mom relies on: an installed one by name, one in a project's folder, or all installed ones.

    Each check runs the plugin with the real engine on a copy of this host's usual files in /proc and /sys, with guests that exist in
    memory only. Nothing real is changed. Exit 1 when something must be put right.
    """
    document = parse_document(settings, "--settings")
    if document.problems:
        raise ConfigError(document.problems)
    if document.value is not None and not isinstance(document.value, Mapping):
        raise click.BadParameter("must be a mapping, such as '{size: 64MiB}'", param_hint="--settings")
    with _wanted(target) as (plugins, path):
        results = [_check({"name": one.name, "settings": settings, "host": host, "may_touch": may_touch}, one, path) for one in plugins]
    if as_json:
        click.echo(json.dumps([_as_json(result) for result in results], indent=2))
    else:
        for result in results:
            _show(result)
    if any(result.count("error") for result in results):
        raise SystemExit(1)


@contextmanager
def _wanted(target: str | None) -> Iterator[tuple[list[AvailablePlugin], list[str]]]:
    """The plugins that are meant, and folders from which they are imported besides."""
    installed = available_plugins()
    if target is None or target in installed:
        yield [plugin for name, plugins in installed.items() for plugin in plugins if target in {None, name}], []
    elif not Path(target).is_dir():
        hint = "`mom plugin list` shows what is installed; a project is named by its folder, such as ./mom-acme"
        raise click.BadParameter(f"{target!r} is neither an installed plugin nor a folder ({hint})", param_hint="NAME|PATH")
    else:
        folder = Path(target).absolute()
        project = _project(folder)
        entries: Mapping[str, str] = project["entry-points"][GROUP]
        name, version = str(project.get("name", folder.name)), str(project.get("version", "0"))
        with tempfile.TemporaryDirectory(prefix="mom-check-") as site:
            about = Path(site, f"{name.replace('-', '_')}-{version}.dist-info")  # as an installation of the folder would have it
            about.mkdir()
            needs = "".join(f"Requires-Dist: {one}\n" for one in project.get("dependencies", ()))
            summary = project.get("description", "")
            (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n{needs}")
            (about / "entry_points.txt").write_text(f"[{GROUP}]\n" + "".join(f"{one} = {to}\n" for one, to in entries.items()))
            source = folder / "src" if (folder / "src").is_dir() else folder
            yield [AvailablePlugin(one, name, version, to) for one, to in entries.items()], [site, str(source)]


def _project(folder: Path) -> Mapping[str, Any]:
    """The table `project` of a folder's pyproject.toml. Raises `MomError` where it names no plugin."""
    path = folder / "pyproject.toml"
    try:
        project: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        if project["entry-points"][GROUP]:
            return project
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MomError(f"{path} names no plugin: {error}", hint="compare it with one that `mom plugin new` writes") from error
    raise MomError(f"{path} names no plugin", hint=f'add a line `name = "module:Class"` to [project.entry-points."{GROUP}"]')


def _check(request: Mapping[str, object], plugin: AvailablePlugin, path: list[str]) -> _Checked:
    """Have a process of its own check it; that this process ends or hangs is a finding like any other."""
    result = _Checked(plugin)
    read, write = os.pipe()
    with os.fdopen(read, encoding="utf-8") as answer:
        command = [sys.executable, "-m", "mom_devkit.conformance.child", str(write)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, *filter(None, [os.environ.get("PYTHONPATH")])])}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[write], text=True, env=environment
        ) as child:
            os.close(write)
            try:
                _, said = child.communicate(json.dumps(request), timeout=CHECK_SECONDS)
                ended = "" if child.returncode == 0 else f"its process ended with {child.returncode}"
            except subprocess.TimeoutExpired:
                child.kill()
                _, said = child.communicate()
                ended = f"it was not done within {CHECK_SECONDS:g} s"
        current = ""
        for line in answer:
            step = json.loads(line)
            current = step["check"]
            result.checks += "findings" not in step
            result.findings += step.get("findings", [])
    if ended:
        last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
        cure = "a plugin never ends its process (os._exit, a crash in C code), and never waits without a limit"
        message = f"{ended}: {last[:200]}" if last else ended
        result.findings.append({"severity": "error", "subject": current, "message": message, "cure": cure})
    return result


def _as_json(result: _Checked) -> dict[str, object]:
    plugin = result.plugin
    about = {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version}
    return {**about, "passed": not result.count("error"), "checks": result.checks, "findings": result.findings}


def _show(result: _Checked) -> None:
    plugin, errors, warnings = result.plugin, result.count("error"), result.count("warning")
    verdict = f"errors: {errors}" if errors else "passed"
    verdict += f", warnings: {warnings}" if warnings else ""
    print_prose(f"{printable(plugin.name)} ({plugin.distribution} {plugin.version}): {result.checks} checks, {verdict}", 4)
    for finding in result.findings:
        print_prose(f"  {finding['severity']}: {finding['subject']}: {brief(finding['message'], 500)}", 4)
        if finding["cure"]:
            print_prose(f"    {finding['cure']}", 6)
