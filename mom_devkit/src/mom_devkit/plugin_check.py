"""`mom plugin check`: runs the conformance kit on plugins, each in its own process."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any, Final

import click

from mom_core import ConfigError, Document, Finding, Severity, printable
from mom_core.plugins.discovery import AvailablePlugin, available_plugins, load_plugins, pip_install
from mom_daemon import as_caller, brief, json_option, print_prose
from mom_devkit.conformance import CHECKS, check_plugin

CHECK_SECONDS: Final = 180.0
"""Time limit for all checks of a plugin."""


@click.command("check")
@click.argument("name", required=False)
@click.option("--settings", metavar="YAML", default="{}", help="The plugin's settings, such as '{uri: \"test:///default\"}'.")
@click.option("--may-touch", is_flag=True, help="Allow changes of the guests of the plugin's own hypervisor.")
@json_option
@as_caller
def check_command(name: str | None, settings: str, may_touch: bool, as_json: bool) -> None:
    """Check whether the plugin NAME fulfils mom's requirements for plugins. Without NAME, check all installed plugins.

    The checks run the plugin in mom's real engine, with fake guests, on a copy of this host's files in /proc and /sys that
    plugins usually read. They change nothing on this host. Exit code 1: a plugin has errors.
    """
    document = Document.parse(settings, "--settings")
    if document.problems:
        raise ConfigError(document.problems)
    if document.value is not None and not isinstance(document.value, Mapping):
        raise click.BadParameter("must be a mapping, such as '{size: 64MiB}'", param_hint="--settings")
    installed = available_plugins()
    if name is not None and name not in installed:
        hint = f"`mom plugin list` shows the installed plugins; `{pip_install()} -e .` in a project's folder installs its plugin"
        raise click.BadParameter(f"{name!r} is not installed ({hint})", param_hint="NAME")
    request = {"settings": document.value or {}, "may_touch": may_touch}
    plugins = [plugin for same_name in installed.values() for plugin in same_name if name in {None, plugin.name}]
    results = [_check({"name": plugin.name, **request}, plugin) for plugin in plugins]
    if as_json:
        click.echo(json.dumps(results, indent=2))
    else:
        for result in results:
            _show(result)
    if not all(result["passed"] for result in results):
        raise SystemExit(1)


def _check(request: dict[str, Any], plugin: AvailablePlugin) -> dict[str, Any]:
    # The plugin may end its process, or hang.
    findings: list[Finding] = []
    checks, current, until = 0, "", time.monotonic() + CHECK_SECONDS
    processes = multiprocessing.get_context("spawn")
    answer, child_answer = processes.Pipe(duplex=False)
    child = processes.Process(target=_check_in_child, args=(child_answer, request), daemon=True)
    child.start()
    child_answer.close()
    ended = f"the check did not end within {CHECK_SECONDS:g} s"
    try:
        while answer.poll(max(0.0, until - time.monotonic())):
            current, found = answer.recv()
            checks += found is None
            findings += found or ()
    except EOFError:
        child.join()
        ended = f"its process exited with code {child.exitcode}" if child.exitcode else ""
    child.kill()
    if ended:
        cure = "a plugin must not end its process (os._exit, a crash in C code) or wait without a limit"
        findings.append(Finding(Severity.ERROR, current, ended, cure))
    about = {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version}
    passed = not any(finding.severity is Severity.ERROR for finding in findings)
    return {**about, "passed": passed, "checks": checks, "findings": [dataclasses.asdict(finding) for finding in findings]}


def _check_in_child(answer: Connection, request: dict[str, Any]) -> None:
    # Send the name of each check and None, then its name and findings.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the plugin's prints
    answer.send(("loading", None))
    loaded, errors = load_plugins([request["name"]])
    answer.send(("loading", [Finding(Severity.ERROR, "loading", error.message, error.hint) for error in errors]))
    for check in CHECKS if loaded else ():
        answer.send((check, None))
        findings = check_plugin(loaded[request["name"]].plugin_class, checks=[check], **request)
        answer.send((check, findings))
        if any(finding.subject == "settings" for finding in findings):  # invalid for all checks
            return


def _show(result: Mapping[str, Any]) -> None:
    count = Counter(finding["severity"] for finding in result["findings"])
    verdict = "passed" if result["passed"] else f"errors: {count['error']}"
    verdict += f", warnings: {count['warning']}" if count["warning"] else ""
    print_prose(f"{printable(result['name'])} ({result['distribution']} {result['version']}): {result['checks']} checks, {verdict}", 4)
    for finding in result["findings"]:
        print_prose(f"  {finding['severity']}: {finding['subject']}: {brief(finding['message'], 500)}", 4)
        if finding["cure"]:
            print_prose(f"    {finding['cure']}", 6)
