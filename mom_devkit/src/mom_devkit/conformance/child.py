"""Checks of one installed plugin in a child process, which the plugin may end or block."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from mom_core import ConfigError, Finding, Severity
from mom_core.plugins.discovery import LoadedPlugin, load_plugins
from mom_devkit.conformance import CHECKS, examined, run_check
from mom_devkit.conformance.behaviour import changes_since, process_state
from mom_devkit.runs import plugin_settings

LOADING: Final = "loading"


def steps(name: str, settings: Mapping[str, object], host: str | None, may_touch: bool) -> Iterator[tuple[str, Sequence[Finding] | None]]:
    """Run all checks. Before each check, yield its name and None; afterwards, its name and findings."""
    yield LOADING, None
    plugin, findings = _loaded(name)
    if plugin is not None:
        try:
            plugin_settings(settings, plugin.name, plugin.settings_class)
        except ConfigError as error:
            findings += [Finding(Severity.ERROR, LOADING, str(problem)) for problem in error.problems]
            plugin = None
    yield LOADING, findings
    if plugin is not None:
        options: dict[str, Any] = {"name": name, "settings": settings, "host": Path(host) if host else None, "may_touch": may_touch}
        with examined(plugin.plugin_class, **options) as subject:
            for check in CHECKS:
                yield check, None
                yield check, run_check(subject, check)


def _loaded(name: str) -> tuple[LoadedPlugin | None, list[Finding]]:
    state, threads = process_state(), set(threading.enumerate())
    loaded, errors = load_plugins([name])
    findings = [Finding(Severity.ERROR, LOADING, error.message, error.hint) for error in errors]
    started = [thread.name for thread in threading.enumerate() if thread not in threads]
    if started:
        text = f"its import starts threads: {', '.join(started)}"
        findings.append(Finding(Severity.ERROR, LOADING, text, "start them in mom_setup, and join them in mom_teardown"))
    cure = "do not change state of the whole process"
    findings += [Finding(Severity.ERROR, LOADING, f"its import changes {name}", cure) for name in changes_since(state)]
    return loaded.get(name), findings


def check_in_child(answer: Connection, request: dict[str, Any]) -> None:
    """Run the requested checks, and send the items of `steps` to the parent process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the plugin's prints
    for step in steps(**request):
        answer.send(step)
