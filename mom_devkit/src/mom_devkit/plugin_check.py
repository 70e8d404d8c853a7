"""`mom plugin check`: the conformance kit, a process per plugin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import click

from mom_core import ConfigError, parse_document, printable
from mom_core.plugins.discovery import AvailablePlugin, available_plugins, pip_install
from mom_daemon import as_caller, brief, json_option, print_prose

CHECK_SECONDS: Final = 180.0
"""Time limit of all checks of one plugin: a plugin that always hangs takes many deadlines."""


@click.command("check")
@click.argument("name", required=False)
@click.option("--settings", metavar="YAML", default="{}", help="The plugin's settings, such as '{uri: \"test:///default\"}'.")
@click.option(
    "--host",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Folder with the files of /proc and /sys that the plugin needs.",
)
@click.option("--may-touch", is_flag=True, help="Allow changes of the guests of the plugin's own hypervisor.")
@json_option
@as_caller
def check_command(name: str | None, settings: str, host: str | None, may_touch: bool, as_json: bool) -> None:
    """Check whether an installed plugin, or each one, meets mom's contract.

    Each check runs the plugin with the real engine, on a copy of this host's usual files in /proc and /sys, with fake guests. Nothing real
    changes. Exit code 1 for errors.
    """
    document = parse_document(settings, "--settings")
    if document.problems:
        raise ConfigError(document.problems)
    if document.value is not None and not isinstance(document.value, Mapping):
        raise click.BadParameter("must be a mapping, such as '{size: 64MiB}'", param_hint="--settings")
    installed = available_plugins()
    if name is not None and name not in installed:
        hint = f"`mom plugin list` shows the installed plugins; `{pip_install()} -e .` in a project's folder installs it"
        raise click.BadParameter(f"{name!r} is not installed ({hint})", param_hint="NAME")
    request = {"settings": document.value or {}, "host": host, "may_touch": may_touch}
    plugins = [plugin for same_name in installed.values() for plugin in same_name if name in {None, plugin.name}]
    results = [_check({"name": plugin.name, **request}, plugin) for plugin in plugins]
    if as_json:
        click.echo(json.dumps(results, indent=2))
    else:
        for result in results:
            _show(result)
    if not all(result["passed"] for result in results):
        raise SystemExit(1)


def _check(request: Mapping[str, object], plugin: AvailablePlugin) -> dict[str, Any]:
    # The plugin may end its process, or hang.
    findings: list[Mapping[str, str]] = []
    checks, current = 0, ""
    read, write = os.pipe()
    with os.fdopen(read, encoding="utf-8") as answer:
        command = [sys.executable, "-m", "mom_devkit.conformance.child", str(write)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[write], text=True) as child:
            os.close(write)
            try:
                _, errors = child.communicate(json.dumps(request), timeout=CHECK_SECONDS)
                ended = "" if child.returncode == 0 else f"its process exited with code {child.returncode}"
            except subprocess.TimeoutExpired:
                child.kill()
                _, errors = child.communicate()
                ended = f"the check did not end within {CHECK_SECONDS:g} s"
        for step in map(json.loads, answer):
            current = step["check"]
            checks += "findings" not in step
            findings += step.get("findings", [])
    if ended:
        last = next((line for line in reversed(errors.splitlines()) if line.strip()), "")
        cure = "a plugin never ends its process (os._exit, a crash in C code), and never waits without a limit"
        message = f"{ended}: {last[:200]}" if last else ended
        findings.append({"severity": "error", "subject": current, "message": message, "cure": cure})
    about = {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version}
    passed = all(finding["severity"] != "error" for finding in findings)
    return {**about, "passed": passed, "checks": checks, "findings": findings}


def _show(result: Mapping[str, Any]) -> None:
    count = Counter(finding["severity"] for finding in result["findings"])
    verdict = "passed" if result["passed"] else f"errors: {count['error']}"
    verdict += f", warnings: {count['warning']}" if count["warning"] else ""
    print_prose(f"{printable(result['name'])} ({result['distribution']} {result['version']}): {result['checks']} checks, {verdict}", 4)
    for finding in result["findings"]:
        print_prose(f"  {finding['severity']}: {finding['subject']}: {brief(finding['message'], 500)}", 4)
        if finding["cure"]:
            print_prose(f"    {finding['cure']}", 6)
