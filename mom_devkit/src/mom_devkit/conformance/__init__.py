"""Conformance kit: checks of plugins, with the real engine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from mom_core import ConfigError, Finding, MomError, Severity
from mom_core.plugins.bounded import located
from mom_devkit.conformance import behaviour, statements
from mom_devkit.conformance.subject import ExaminedPlugin
from mom_devkit.conformance.undo import undo
from mom_devkit.hosts import host_of, mirror_host

Check: TypeAlias = Callable[[ExaminedPlugin], Iterator[Finding]]

CHECKS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "packaging": statements.packaging,
        "declarations": statements.declarations,
        "results": behaviour.results,
        "changing_guests": behaviour.changing_guests,
        "observing": behaviour.observing,
        "undo": undo,
        "reload": behaviour.reload,
        "hypervisor": behaviour.hypervisor,
        "traces": behaviour.traces,
    }
)
"""All checks, keyed by name. Later checks build on earlier ones. The first line of a check's docstring states the requirement."""


def check_plugin(plugin_class: type, *, checks: Sequence[str] = (), **options: Any) -> list[Finding]:
    """Check a plugin, and return errors and warnings. The real host does not change.

    :param checks: names of the checks to run; empty for all
    :param options: `name`, `settings`, `host`, `hypervisor`, `values` and `may_touch`, as in `ConformanceTests`
    """
    with examined(plugin_class, **options) as subject:
        try:
            subject.read_settings()
        except ConfigError as error:
            cure = "`mom plugin info` lists the settings of the plugin"
            return [Finding(Severity.ERROR, "settings", str(problem), "" if problem.hint else cure) for problem in error.problems]
        return [finding for check in checks or CHECKS for finding in run_check(subject, check)]


@contextmanager
def examined(
    plugin_class: type, *, name: str = "", host: Mapping[str, str] | Path | None = None, **options: Any
) -> Iterator[ExaminedPlugin]:
    """Yield the plugin with a temporary test host."""
    with tempfile.TemporaryDirectory(prefix="mom-check-") as folder:
        root = Path(folder, "host")
        if isinstance(host, Path):
            if host.resolve() == Path("/"):
                raise MomError(
                    "a check never uses / itself as the test host", hint="omit `host`: the check then copies this host's usual files"
                )
            root = host
        elif host is None:
            mirror_host(root)
        else:
            host_of(root, host)
        yield ExaminedPlugin(plugin_class, name or statements.entry_name(plugin_class), root, Path(folder), **options)


def run_check(subject: ExaminedPlugin, check: str) -> list[Finding]:
    """Run one check. Return its findings, or its failure as a finding."""
    findings: list[Finding] = []
    state = behaviour.process_state()
    try:
        findings += CHECKS[check](subject)
    except MomError as error:
        findings.append(subject.fault(error.message, error.hint))
    except Exception as error:  # noqa: BLE001  # the plugin's code may raise anything
        findings.append(subject.fault(f"it raises {located(error)}"))
    for name in behaviour.changes_since(state):  # compare after each check: otherwise a change by a later check could go unnoticed
        findings.append(subject.fault(f"it changes {name}", "do not change state of the whole process"))
    return [replace(finding, subject=check) for finding in findings]
