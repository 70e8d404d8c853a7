"""Checks one plugin in a process of its own, so that a plugin that ends, blocks or changes its process does not harm who asked.

`python -m mom_devkit.conformance.child DESCRIPTOR` reads one JSON request from standard input, and writes a JSON line to the
descriptor for each step: `{"check": …}` when one begins, `{"findings": […]}` when it is done.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypedDict

from mom_core import ConfigError, Finding, MomError, PluginError, Severity, parse_document
from mom_core.config.loader import plugin_settings
from mom_core.plugins.discovery import LoadedPlugin, load_plugins
from mom_devkit.conformance import CHECKS, run_check, subject_of
from mom_devkit.conformance.process_state import ProcessState
from mom_devkit.projects import Project, load_project, projects_in

LOADING: Final = "loading"
"""The name of the first step, which is no check of the kit: there, the class is given."""

SLOW_IMPORT_SECONDS: Final = 10.0
"""An import that takes longer does something that belongs into mom_setup: a cold one on a busy machine takes seconds."""


class ChildRequest(TypedDict):
    """What is to be checked: an installed plugin by name, or one in a folder; the settings are YAML, the rest is as
    `check_plugin` takes it."""

    name: str
    folder: str | None
    settings: str
    host: str | None
    may_touch: bool


class ChildStep(TypedDict, total=False):
    """One line of the answer."""

    check: str
    findings: Sequence[Mapping[str, str]]


def main() -> None:
    """Do what standard input asks for."""
    request: ChildRequest = json.load(sys.stdin)
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)  # what a plugin prints is not the answer
        for step in steps(request):
            answer.write(json.dumps(step) + "\n")
            answer.flush()


def steps(request: ChildRequest) -> Iterator[ChildStep]:
    """All steps, each before it is begun and after it is done."""
    yield {"check": LOADING}
    project = None
    if request["folder"]:
        project = next(p for p in projects_in(Path(request["folder"])) if any(e.name == request["name"] for e in p.entries))
    plugin, findings = _loaded(request["name"], project)
    yield {"findings": _plain(findings)}
    if plugin is None:
        return
    document = parse_document(request["settings"], "--settings")
    try:
        plugin_settings(document, plugin.name, plugin.settings_class)
    except ConfigError as error:
        yield {"findings": _plain([Finding(Severity.ERROR, "settings", str(problem)) for problem in error.problems])}
        return
    settings = document.value if isinstance(document.value, Mapping) else {}
    with tempfile.TemporaryDirectory(prefix="mom-check-") as folder:
        host = Path(request["host"]) if request["host"] else None
        subject = subject_of(
            plugin.plugin_class, Path(folder), plugin.name, settings, host, may_touch=request["may_touch"], project=project
        )
        for check in CHECKS:
            yield {"check": check}
            yield {"findings": _plain(run_check(subject, check))}


def _loaded(name: str, project: Project | None) -> tuple[LoadedPlugin | None, list[Finding]]:
    """The plugin's class, and what its import did that it should not do."""
    state, threads, began = ProcessState.now(), set(threading.enumerate()), time.monotonic()
    loaded: Mapping[str, LoadedPlugin] = {}
    errors: list[PluginError] = []
    try:
        if project is None:
            loaded, errors = load_plugins([name])
        else:
            loaded = {name: load_project(project, name)}
    except PluginError as error:
        errors = [error]
    seconds = time.monotonic() - began
    findings = [Finding(Severity.ERROR, LOADING, error.message, error.hint) for error in errors]
    if seconds > SLOW_IMPORT_SECONDS and not errors:
        findings.append(Finding(Severity.WARNING, LOADING, f"its import takes {seconds:.1f} s", "do what takes time in mom_setup"))
    started = [thread.name for thread in threading.enumerate() if thread not in threads and not thread.name.startswith("importing ")]
    if started:
        text = f"its import starts threads: {', '.join(started)}"
        findings.append(Finding(Severity.ERROR, LOADING, text, "start them in mom_setup, and join them in mom_teardown"))
    findings += [
        Finding(Severity.ERROR, LOADING, f"its import changes {what}", "these belong to the whole process: leave them alone")
        for what in state.put_back()
    ]
    return loaded.get(name), findings


def _plain(findings: Sequence[Finding]) -> list[dict[str, str]]:
    return [{"severity": f.severity, "check": f.subject, "message": f.message, "cure": f.cure} for f in findings]


if __name__ == "__main__":
    try:
        main()
    except MomError as refused:
        sys.exit(str(refused))
