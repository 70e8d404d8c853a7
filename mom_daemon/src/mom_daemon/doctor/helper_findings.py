"""Findings of `mom doctor` on mom-helper."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mom_core import ControlSpec, Finding, Scope, Severity
from mom_core.plugins.registry import PluginSet
from mom_kvm import Helper, cure_by_lines, helper_declaration, root_cure

SUBJECT = "mom-helper"


def helper_findings(plugins: PluginSet) -> Iterator[tuple[str, Finding]]:
    """Yield findings with their plugin or `core`, unless mom runs as root."""
    if os.geteuid() == 0:
        return
    helper = Helper.reached()
    if helper is None:  # each plugin reports the effect itself; under vdsm, there is no effect
        text = "mom does not run as root, and mom-helper is not running: mom makes no changes that need root"
        yield "core", Finding(Severity.OK, SUBJECT, text, root_cure())
        return
    try:
        declared = {declaration.name for declaration in helper.declared()}
    except OSError as error:
        yield "core", Finding(Severity.ERROR, SUBJECT, f"{error.strerror}", "systemctl status mom-helper.socket mom-helper")
        return
    names = ", ".join(sorted(declared)) or "nothing"
    yield "core", Finding(Severity.OK, SUBJECT, f"it makes the changes that need root; root allows it to write {names}")
    for plugin in plugins.plugins:
        for control in plugin.controls.values():
            writes_itself = control.scope is Scope.HOST and os.access(control.file, os.W_OK)
            if control.file and control.file not in declared and not writes_itself:
                yield plugin.name, _undeclared(control)


def _undeclared(control: ControlSpec) -> Finding:
    try:
        cure = cure_by_lines(helper_declaration(control))
    except ValueError:  # the control has no bounds
        cure = root_cure(control.file)
    return Finding(Severity.WARNING, control.name, f"it cannot be set: root has not declared {control.file} for mom-helper", cure)
