"""`mom plugin check`: the conformance kit, for one plugin or all, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from mom_core import brief, json_option, print_prose
from mom_core.plugins.discovery import AvailablePlugin, available_plugins

CHECK_SECONDS: Final = 180.0
"""How long all checks of one plugin may take. They take seconds; a plugin whose every call hangs takes deadlines in a row."""


@dataclass(slots=True)
class _Checked:
    """One plugin, what was found, and how many checks were made."""

    plugin: AvailablePlugin
    folder: Path | None
    findings: list[Mapping[str, str]] = field(default_factory=list)
    checks: int = 0

    def count(self, severity: str) -> int:
        return sum(finding["severity"] == severity for finding in self.findings)


@click.command("check")
@click.argument("target", metavar="[NAME|PATH]", required=False)
@click.option(
    "--settings", "settings_text", metavar="YAML", default="{}", help="The plugin's settings, such as '{uri: \"test:///default\"}'."
)
@click.option(
    "--host", metavar="DIR", type=click.Path(exists=True, file_okay=False), help="A folder with the files of /proc and /sys that it needs."
)
@click.option("--may-touch", is_flag=True, help="The guests of its own hypervisor are a test's, and may be changed.")
@json_option
def check_command(target: str | None, settings_text: str, host: str | None, may_touch: bool, as_json: bool) -> None:
    """Check whether a plugin does what mom relies on: an installed one by name, one in a project's folder, or all installed ones.

    Each check runs the plugin with the real engine on a copy of this host's usual files in /proc and /sys, with guests that exist in
    memory only. Nothing real is changed. Exit 1 when something must be put right.
    """
    _read(settings_text)
    results = [_check(plugin, folder, settings_text, host, may_touch=may_touch) for plugin, folder in _wanted(target)]
    if as_json:
        click.echo(json.dumps([_as_json(result) for result in results], indent=2))
    else:
        for result in results:
            _show(result)
    if any(result.count("error") for result in results):
        raise SystemExit(1)


def _read(text: str) -> None:
    """Refuse what is no YAML at all before any plugin is asked what it makes of it."""
    from mom_core import ConfigError, parse_document

    document = parse_document(text, "--settings")
    if document.problems:
        raise ConfigError(document.problems)
    if document.value is not None and not isinstance(document.value, Mapping):
        raise click.BadParameter("must be a mapping, such as '{size: 64MiB}'", param_hint="--settings")


def _wanted(target: str | None) -> list[tuple[AvailablePlugin, Path | None]]:
    installed = available_plugins()
    if target is None:
        return [(plugin, None) for plugins in installed.values() for plugin in plugins]
    if target in installed:
        return [(plugin, None) for plugin in installed[target]]
    folder = Path(target)
    if folder.is_dir():
        from mom_devkit.projects import projects_in

        folder = folder.absolute()
        return [
            (AvailablePlugin(entry.name, project.name, project.version, entry.value), folder)
            for project in projects_in(folder)
            for entry in project.entries
        ]
    hint = "`mom plugin list` shows what is installed; a project is named by its folder, such as ./mom-acme"
    raise click.BadParameter(f"{target!r} is neither an installed plugin nor a folder ({hint})", param_hint="NAME|PATH")


def _check(plugin: AvailablePlugin, folder: Path | None, settings: str, host: str | None, *, may_touch: bool) -> _Checked:
    """Have a process of its own check it; that this process ends or hangs is a finding like any other."""
    result = _Checked(plugin, folder)
    request = {
        "name": plugin.name,
        "folder": None if folder is None else str(folder),
        "settings": settings,
        "host": host,
        "may_touch": may_touch,
    }
    read, write = os.pipe()
    with os.fdopen(read, encoding="utf-8") as answer:
        command = [sys.executable, "-m", "mom_devkit.conformance.child", str(write)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[write], text=True) as child:
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
            if "check" in step:
                current = step["check"]
                result.checks += 1
            result.findings += step.get("findings", [])
    if ended:
        last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
        message = f"{ended}" + (f": {last[:200]}" if last else "")
        cure = "a plugin never ends its process (os._exit, a crash in C code), and never waits without a limit"
        result.findings.append({"severity": "error", "check": current, "message": message, "cure": cure})
    return result


def _as_json(result: _Checked) -> dict[str, object]:
    plugin = result.plugin
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "folder": None if result.folder is None else str(result.folder),
        "passed": not result.count("error"),
        "checks": result.checks,
        "findings": list(result.findings),
    }


def _show(result: _Checked) -> None:
    from mom_core import printable

    plugin = result.plugin
    where = f" in {result.folder}" if result.folder else ""
    errors, warnings = result.count("error"), result.count("warning")
    verdict = _counted(errors, "error") if errors else "passed"
    if warnings:
        verdict += f", {_counted(warnings, 'warning')}"
    checks = _counted(result.checks, "check")
    print_prose(f"{printable(plugin.name)} ({plugin.distribution} {plugin.version}{where}): {checks}, {verdict}", 4)
    for finding in result.findings:
        print_prose(f"  {finding['severity']}: {finding['check']}: {brief(finding['message'], 500)}", 4)
        if finding["cure"]:
            print_prose(f"    {finding['cure']}", 6)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
