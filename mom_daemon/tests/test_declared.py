"""What plugins declare can be known without running any of them."""

import pytest

from mom_core import ControlSpec, DefaultPolicy, FieldSpec, PluginError, Scope, Unit, hookimpl
from mom_daemon import declarations_of
from mom_daemon.plugins.declared import declared_by
from mom_devkit import config_of

SIZE = FieldSpec("size", Unit.KIB, Scope.GUEST, "how large")


class Sizes:
    def __init__(self, settings, context):
        pass

    @hookimpl
    def mom_declare(self):
        return [SIZE, DefaultPolicy("50_sizes", "1")]

    @hookimpl
    def mom_setup(self):
        raise AssertionError("nothing is set up")


class Controls(Sizes):
    @hookimpl
    def mom_declare(self):
        return [ControlSpec("target", Unit.KIB, Scope.GUEST, "how large it is to be", "size")]

    @hookimpl
    def mom_read(self, targets):
        return {}

    @hookimpl
    def mom_write(self, changes):
        return None


def test_fields_controls_and_policies_of_all_plugins_come_together(tmp_path):
    declared = declarations_of(config_of(tmp_path, {"sizes": Sizes, "controls": Controls}))
    assert declared.fields == {(Scope.GUEST, "size"): SIZE}
    assert declared.control_owners == {"target": "controls"}
    assert declared.policies == {"50_sizes": "1"}


class Misspelt(Sizes):
    @hookimpl
    def mom_colect_host(self):
        return {}


def test_a_plugin_that_cannot_be_used_is_an_error_or_left_out_where_that_is_said(tmp_path):
    with pytest.raises(PluginError, match="mom_colect_host"):
        declarations_of(config_of(tmp_path, {"misspelt": Misspelt}))
    left_out: list[PluginError] = []
    assert declared_by(config_of(tmp_path, {"misspelt": Misspelt, "controls": Controls}), left_out).keys() == {"controls"}
    assert [(one.plugin, "mom_colect_host" in one.message) for one in left_out] == [("misspelt", True)]
