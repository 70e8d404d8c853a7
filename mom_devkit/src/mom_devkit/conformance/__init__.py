"""The conformance kit: what every plugin must be able to show, on a host of files and with the real engine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from mom_core import ConfigError, Finding, Hypervisor, MomError, Severity, Value
from mom_core.plugins.bounded import describe, place_of
from mom_devkit.conformance import capabilities, conduct, shape, traces, undo
from mom_devkit.conformance.subject import ExaminedPlugin
from mom_devkit.hosts import host_of, mirror_host
from mom_devkit.projects import Project

Check: TypeAlias = Callable[[ExaminedPlugin], Iterator[Finding]]

CHECKS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "packaging": shape.packaging,
        "construction": conduct.construction,
        "hooks": shape.hooks,
        "settings": shape.settings,
        "declarations": shape.declarations,
        "policies": shape.policies,
        "results": conduct.results,
        "empty_host": conduct.empty_host,
        "guests_that_come_and_go": conduct.guests_that_come_and_go,
        "observing": conduct.observing,
        "undo": undo.undo,
        "reload": conduct.reload,
        "hypervisor": capabilities.hypervisor,
        "secrets": traces.secrets,
        "traces": traces.traces,
    }
)
"""All checks by name, in the order in which they build on each other. The first line of each one's docstring says what must be so."""


def check_plugin(
    plugin_class: type,
    *,
    name: str = "",
    settings: Mapping[str, object] | None = None,
    host: Mapping[str, str] | Path | None = None,
    hypervisor: Callable[[], Hypervisor] | None = None,
    values: Mapping[str, Sequence[Value]] | None = None,
    may_touch: bool = False,
    checks: Sequence[str] = (),
    project: Project | None = None,
) -> list[Finding]:
    """Check a plugin, and give what was found: errors must be put right, warnings are to be thought about. Nothing real is changed.

    :param name: its name in YAML; otherwise that of its entry point
    :param settings: what YAML would say, and checked as YAML is; if they are wrong, that is what is found, and nothing else is checked
    :param host: the host's files by path (`proc/sys/vm/swappiness`), or a folder with them, which is copied; a copy of this host's usual
        files of /proc and /sys when it is left out
    :param hypervisor: makes one, for plugins that bring none; a `FakeHypervisor` with three guests when it is left out
    :param values: values to try on its controls, by control, where bounds and present value do not tell what makes sense
    :param may_touch: its own hypervisor's guests are a test's, and may be changed; and it may listen where its settings say
    :param checks: only these
    """
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="mom-check-") as folder:
        subject = subject_of(plugin_class, Path(folder), name, settings, host, hypervisor, values, may_touch=may_touch, project=project)
        findings += wrong_settings(subject)
        for check in () if findings else checks or CHECKS:
            findings += run_check(subject, check)
    return findings


def wrong_settings(subject: ExaminedPlugin) -> list[Finding]:
    """What is wrong with the settings that the plugin is to be checked with: then nothing can be said about the plugin."""
    try:
        subject.read_settings()
    except ConfigError as error:
        cure = "the settings that were given are not what YAML may say for this plugin; `mom plugin info` lists its settings"
        return [Finding(Severity.ERROR, "settings", str(problem), "" if problem.hint else cure) for problem in error.problems]
    return []


def subject_of(
    plugin_class: type,
    folder: Path,
    name: str = "",
    settings: Mapping[str, object] | None = None,
    host: Mapping[str, str] | Path | None = None,
    hypervisor: Callable[[], Hypervisor] | None = None,
    values: Mapping[str, Sequence[Value]] | None = None,
    *,
    may_touch: bool = False,
    project: Project | None = None,
) -> ExaminedPlugin:
    """What is checked, with its test host below `folder`; the parameters are those of `check_plugin`."""
    if isinstance(host, Path):
        if host.resolve() == Path("/"):
            raise MomError("a check never works on / itself", hint="leave the host out: a copy of its usual files is made")
        root = host
    else:
        root = folder / "host"
        if host is None:
            mirror_host(root)
        else:
            host_of(root, host)
    return ExaminedPlugin(
        plugin_class,
        name or shape.entry_name(plugin_class, project),
        root,
        folder,
        settings or {},
        values or {},
        hypervisor,
        may_touch,
        project,
    )


def run_check(subject: ExaminedPlugin, check: str) -> list[Finding]:
    """The findings of one check, each with the check's name as its subject; that it could not be made is an error too."""
    findings: list[Finding] = []
    try:
        findings += CHECKS[check](subject)
    except MomError as error:
        findings.append(subject.fault(error.message, error.hint))
    except Exception as error:  # noqa: BLE001  # the plugin's own code runs in here, and may raise anything
        place = place_of(error)
        findings.append(subject.fault(f"it raises {describe(error)}" + (f" (at {place})" if place else "")))
    return [Finding(finding.severity, check, finding.message, finding.cure) for finding in findings]


def failed(findings: Sequence[Finding]) -> list[Finding]:
    """Those that must be put right."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]
