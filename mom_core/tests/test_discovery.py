"""Finding and loading plugins: new ones are found at once, and no plugin can harm others or the caller."""

import sys

import pytest

from mom_core import PluginError, __version__
from mom_core.plugins import discovery
from mom_core.plugins.discovery import available_plugins, how_to_install, load_plugins

HEAD = "from mom_core import GuestSettings, PluginSettings\nclass P:\n    def __init__(self, settings, context): ...\n"


def only_error(name: str) -> PluginError:
    loaded, errors = load_plugins([name])
    assert loaded == {}
    (error,) = errors
    assert error.plugin == name
    return error


def test_installed_plugins_are_found_at_once(shelf, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert "late" not in available_plugins()
    assert only_error("late").message == "plugin 'late' is not installed"
    shelf.add_plugin("late")
    assert "late" in available_plugins()
    loaded, errors = load_plugins(["late"])
    assert list(loaded) == ["late"]
    assert errors == []
    for file in (shelf.folder / "acme_late-1.0.dist-info").iterdir():
        file.unlink()
    (shelf.folder / "acme_late-1.0.dist-info").rmdir()
    assert "late" not in available_plugins()
    assert not (tmp_path / "cache").exists(), "no cache is written"


# --- missing -------------------------------------------------------------------------------------------------------------------


def test_a_missing_plugin_of_mom_names_its_distribution(monkeypatch):
    monkeypatch.setattr(discovery, "distributions", list)
    assert only_error("baloon").hint.startswith("did you mean 'balloon'? It comes with mom-plugins-balloon: ")
    assert only_error("ksm").hint.startswith("It comes with mom-plugins-ksm: ")
    assert only_error("numa").hint.startswith("It comes with mom-plugins-host: ")


def test_a_distribution_of_mom_is_installed_from_where_mom_core_is(tmp_path, monkeypatch):
    monkeypatch.setattr(discovery, "_origin", lambda name: "")
    assert how_to_install("mom-daemon", "mom-plugins-ksm") == "install mom-daemon, mom-plugins-ksm from the same source as mom-core"
    (tmp_path / "a clone/mom_plugins_ksm").mkdir(parents=True)
    (tmp_path / "a clone/mom_core").mkdir()
    (tmp_path / "a clone/packaging").mkdir()
    (tmp_path / "a clone/packaging/clone.txt").touch()
    monkeypatch.setattr(discovery, "_origin", lambda name: str(tmp_path / "a clone/mom_core"))
    assert (
        how_to_install("mom-plugins-ksm")
        == f"`cd '{tmp_path}/a clone' && {sys.executable} -m pip install -c packaging/clone.txt mom-plugins-ksm`"
    )
    assert "pip install" not in how_to_install("mom-plugins-ksm", "mom-nowhere")


@pytest.mark.parametrize("name", ["", "x; rm -rf /", "a" * 10_000, "line\nbreak", "requests"])
def test_unknown_names_get_no_advice_to_install(name):
    error = only_error(name)
    assert "pip install" not in error.hint
    assert "mom-plugins-" not in error.hint
    assert "\n" not in str(error)
    assert len(str(error)) < 400


def test_a_name_of_two_distributions_is_refused(shelf):
    shelf.add("acme-one", {"twice": "one:Plugin"}, version="1.0")
    shelf.add("acme-two", {"twice": "two:Plugin"}, version="2.0")
    error = only_error("twice")
    assert "acme-one 1.0" in error.message
    assert "acme-two 2.0" in error.message
    assert "`pip uninstall acme-one`" in error.hint
    assert "`pip uninstall acme-two`" in error.hint
    assert len(available_plugins()["twice"]) == 2


def test_a_distribution_that_is_on_the_path_twice_counts_once(shelf, tmp_path, monkeypatch):
    shelf.add_plugin("acme", version="2.0")
    behind = type(shelf)(tmp_path / "behind")
    behind.folder.mkdir()
    behind.add("Acme_Acme", {"acme": "shelf_acme:Plugin"}, version="1.0")
    monkeypatch.setattr(sys, "path", [*sys.path, str(behind.folder)])
    loaded, errors = load_plugins(["acme"])
    assert errors == []
    assert loaded["acme"].version == "2.0"


# --- imports that fail ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raised", ["ValueError('odd')", "SystemExit(3)"])
def test_an_import_error_does_not_affect_other_plugins(shelf, raised):
    shelf.add_plugin("before")
    shelf.add_plugin("broken", before=f"raise {raised}")
    shelf.add_plugin("behind")
    loaded, errors = load_plugins(["before", "broken", "behind"])
    assert list(loaded) == ["before", "behind"]
    (error,) = errors
    assert (error.plugin, error.distribution) == ("broken", "acme-broken")
    assert raised.partition("(")[0] in error.message
    assert "acme-broken 1.0" in error.message
    assert "install acme-broken and its dependencies again, or report the error to its authors" in error.hint
    assert error.__cause__ is not None


@pytest.mark.parametrize(
    ("target", "source", "what"),
    [
        ("odd:Plugin", "class Plugin(:\n", "SyntaxError"),
        ("odd:Plugin", "import a_module_that_nobody_has", "No module named 'a_module_that_nobody_has'"),
        ("odd.inner:Plugin", "", "No module named 'odd.inner'"),
        ("odd:Plugin", "", "odd:Plugin"),
        ("odd:make", "def make(settings, context): ...", "is not a class"),
        ("odd:P", f"{HEAD}    class Settings(PluginSettings):\n        x: 'NoSuchType' = 1\n", "NoSuchType"),
        ("odd:P", f"{HEAD}    class GuestSettings(GuestSettings):\n        share: int\n", "share"),
    ],
)
def test_what_is_wrong_with_a_module_or_class_is_said(shelf, target, source, what):
    shelf.add("acme-odd", {"odd": target}, {"odd": source})
    error = only_error("odd")
    assert error.distribution == "acme-odd"
    assert what in error.message


def test_an_import_that_hangs_does_not_affect_other_plugins(shelf, monkeypatch):
    monkeypatch.setattr("mom_core.plugins.bounded.LONGEST_CALL_SECONDS", 2.0)
    shelf.add_plugin("stuck", before="import time; time.sleep(600)")
    shelf.add_plugin("fine")
    loaded, errors = load_plugins(["stuck", "fine"])
    assert list(loaded) == ["fine"]
    assert "the call did not end within 2 s" in errors[0].message


# --- invalid classes ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("requirement", ["mom-core>=99", "Mom.Core (==99.*)", "mom-core~=0.0.1", f"mom-core!={__version__}"])
def test_a_plugin_for_another_core_is_refused(shelf, requirement):
    shelf.add_plugin("old", before="raise SystemExit('imported')", version="2.5", requires=["click>=1", requirement])
    error = only_error("old")
    assert error.message.startswith("plugin 'old' of acme-old 2.5 was built for another mom-core: it requires ")
    assert error.message.endswith(f", and this is mom-core {__version__}")
    assert (error.distribution, error.hint) == ("acme-old", "install versions of mom-core and acme-old that fit")


@pytest.mark.parametrize(
    "requirement", [f"mom-core=={__version__}", "mom-core>=99 ; extra == 'test'", "mom-core-acme>=99", "mom-core >= nonsense", ""]
)
def test_a_plugin_for_this_core_is_loaded(shelf, requirement):
    shelf.add_plugin("fine", requires=[requirement] if requirement else [])
    assert list(load_plugins(["fine"])[0]) == ["fine"]


# --- broken metadata -----------------------------------------------------------------------------------------------------------


def test_broken_metadata_does_not_hide_other_distributions(shelf, caplog):
    shelf.add_plugin("fine")
    shelf.add("acme-broken", {})
    (shelf.folder / "acme_broken-1.0.dist-info" / "entry_points.txt").write_bytes(b"[mom.plugins]\nx = \xff\xfe:Y\n")
    assert "fine" in available_plugins()
    assert "acme_broken" in caplog.text
