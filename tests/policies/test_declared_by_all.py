"""What all plugins of this repository declare together."""

from __future__ import annotations

from mom_cli import declarations_of
from mom_core import Scope


def test_without_a_configuration_it_is_what_all_installed_plugins_declare():
    declared = declarations_of()
    assert (Scope.HOST, "mem_available") in declared.fields
    assert "balloon_target" in declared.controls
    assert "50_balloon" in declared.policies
