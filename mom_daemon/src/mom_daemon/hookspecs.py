"""Hooks of verbs: a plugin's part of `mom status`, `mom explain`, `mom doctor` and `mom config`.

These hooks extend `mom_core.hookspecs`. A running mom calls only `mom_explainer`, for its control socket.

All hooks except `mom_doctor` are static methods: `mom` calls them on the class, without settings. Import `mom_daemon` inside the method,
because a plugin must also load without mom-daemon. `mom_kvm.late_hook` does so.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mom_core.hookspecs import hookspec

if TYPE_CHECKING:
    from mom_core import Finding, Hypervisor, PluginSettings, Report, Suggestion
    from mom_daemon.plugin_parts import Explainer, RunningMom, StatusPart
    from mom_kvm import PastCycles


# --- verbs ---------------------------------------------------------------------------------------------------------------------


@hookspec
def mom_doctor(hypervisor: Hypervisor | None) -> Iterable[Finding]:
    """Report faults of this host that concern this plugin, and important parts that work, for `mom doctor`.

    :param hypervisor: None if no hypervisor is reachable
    """


@hookspec
def mom_status(report: Report) -> Iterable[StatusPart]:
    """Return short lines for `mom status`, from a running mom's last report, which lacks decisions and outcomes."""


@hookspec(firstresult=True)
def mom_explainer() -> Explainer | None:
    """Return a new explainer of this plugin's part of `mom explain`.

    An explainer runs in any thread, without this plugin's settings or connections. mom logs its exceptions and shows its part as unknown.
    """


@hookspec(firstresult=True)
def mom_suggest(root: Path) -> Suggestion | None:
    """Return initial settings for the host whose files are below `root`, for `mom config init`.

    Change nothing. Return None if the plugin does not fit this host, or if the operator must decide. If several hypervisors fit, mom
    enables the first one in `order`.
    """


@hookspec(firstresult=True)
def mom_source(
    kind: type, settings: PluginSettings | None, run_directory: Path, state_directory: Path, path: Path | None
) -> RunningMom | PastCycles | None:
    """Return a source of reports for verbs, as an object of type `kind`; None if this plugin has none.

    Connect and open files at the first query, not here.

    :param kind: `mom_daemon.RunningMom` for a connection to a running mom, or `mom_kvm.PastCycles` for a recording
    :param settings: this plugin's settings; None unless a configuration enables the plugin
    :param path: the recording that the operator specified; None for the configured one
    """
