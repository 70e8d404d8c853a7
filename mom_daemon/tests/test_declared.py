"""What plugins declare can be known without running any of them."""

import re

import pytest

from mom_core import ControlSpec, DefaultPolicy, FieldSpec, PluginError, Scope, Unit, hookimpl
from mom_daemon import declarations_of
from mom_daemon.plugins.declared import declared_by
from mom_daemon.plugins.fields import _bounds
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


def test_the_bounds_of_a_control_are_told_as_they_are():
    spec = ControlSpec("pages", Unit.PAGES, Scope.HOST, "how many", "pages", minimum=1, maximum=1_000_000)
    assert _bounds(spec) == " (from 1 to 1,000,000)"
    spec = ControlSpec("quota", Unit.MICROSECONDS, Scope.GUEST, "how long", "quota", maximum=17_592_186_044_415)
    assert _bounds(spec) == " (to 17,592,186,044,415)"


def test_what_a_field_is_is_said_without_what_stands_beside_it_elsewhere():
    """`mom fields` and the reference list them by their names."""
    pointing = re.compile(
        r"^(the same|of that|of it)\b|\b(ago that was|such a step|saves there|why that ended|that left)\b|^what (they|it would)\b"
    )
    specs = declarations_of().fields.values()
    assert [spec.name for spec in specs if pointing.search(spec.description) or spec.source == "the same"] == []
