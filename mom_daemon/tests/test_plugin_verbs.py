"""`mom plugin list` and `mom plugin info`."""

import json
import sys

from mom_core import Scope, load_config
from mom_daemon import declarations_of

BODY = '''
class Settings(PluginSettings):
    step: Size = 64 << 20
    """How much at once."""
    token: SecretStr = SecretStr("hush")

class GuestSettings(GuestSettings):
    share: int = 1
    """Its weight."""

@hookimpl
def mom_declare(self):
    return []
'''
BEFORE = "from pydantic import SecretStr\nfrom mom_core import Size"


def listed(out: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}


def test_the_list_shows_what_is_installed_and_what_is_enabled_to_people_and_to_programs(mom, shelf, tmp_path):
    shelf.add_plugin("acme", version="2.0")
    shelf.add_plugin("other")
    file = tmp_path / "mom.yaml"
    file.write_text("plugins: {gone: {}, acme: {any: thing}}\nwrong: key\n")
    code, out, err = mom("plugin", "list", "-c", file)
    assert (code, err) == (0, "")
    rows = listed(out)
    assert rows["acme"] == ["acme-acme", "2.0", "yes,", "number", "2", "A", "test."]
    assert rows["other"] == ["acme-other", "1.0", "no", "A", "test."]
    assert rows["gone"] == ["not", "installed", "yes,", "number", "1"]
    assert "shelf_acme" not in sys.modules
    told = {row["name"]: row for row in json.loads(mom("plugin", "list", "-c", file, "--json")[1])}
    assert (told["acme"]["distribution"], told["acme"]["version"], told["acme"]["target"]) == ("acme-acme", "2.0", "shelf_acme:Plugin")
    assert (told["acme"]["installed"], told["acme"]["summary"], told["acme"]["enabled"]) == (True, "A test.", True)
    assert told["gone"]["installed"] is False


def test_with_all_the_list_also_shows_own_plugins_that_are_not_installed(mom, only_shelf):
    rows = {row["name"]: row for row in json.loads(mom("plugin", "list", "--all", "--json")[1])}
    assert (rows["xmlrpc"]["distribution"], rows["xmlrpc"]["installed"], rows["xmlrpc"]["version"]) == ("mom-plugins-vdsm", False, None)
    assert json.loads(mom("plugin", "list", "--json")[1]) == []


def test_the_list_shows_both_providers_of_a_name(mom, shelf):
    shelf.add("acme-one", {"acme": "one:Plugin"})
    shelf.add("acme-two", {"acme": "two:Plugin"})
    out = mom("plugin", "list")[1]
    assert "acme-one" in out
    assert "acme-two" in out


def test_a_plugin_is_shown_with_its_settings_and_hooks(mom, shelf):
    shelf.add_plugin("acme", BODY, before=BEFORE)
    code, out, err = mom("plugin", "info", "acme")
    assert (code, err) == (0, "")
    assert "acme: A test." in out
    assert f"acme-acme 1.0, from {shelf.folder / 'shelf_acme.py'}" in out
    assert "A plugin for tests." in out
    assert "hooks: mom_declare" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["step", "size", "64MiB", "How", "much", "at", "once."] in lines
    assert ["share", "whole", "number", "1", "Its", "weight."] in lines
    assert "hush" not in out


def test_a_plugin_that_is_not_installed_or_broken_is_exit_code_2(mom, shelf):
    shelf.add_plugin("broken", before="raise ValueError('odd')")
    assert mom("plugin", "info", "nobodys")[0] == 2
    code, out, err = mom("plugin", "info", "broken")
    assert (code, out) == (2, "")
    assert "ValueError: odd" in err


SIZES = """
@hookimpl
def mom_declare(self):
    return [FieldSpec("size", Unit.KIB, Scope.GUEST, "how large")]
@hookimpl
def mom_setup(self):
    raise AssertionError("nothing is set up")
"""


def test_declarations_are_known_without_a_setup_and_broken_plugins_are_left_out(mom, only_shelf):
    only_shelf.add_plugin("sizes", SIZES, before="from mom_core import FieldSpec, Scope, Unit")
    only_shelf.add_plugin("broken", before="raise ValueError('odd')")
    code, out, err = mom("fields", "--all", "--json")
    assert code == 0
    assert [(field["plugin"], field["name"]) for field in json.loads(out)["fields"]] == [("sizes", "size")]
    assert "the list lacks the plugin broken: " in err
    assert (Scope.GUEST, "size") in declarations_of(load_config({"plugins": {"sizes": {}}})).fields
