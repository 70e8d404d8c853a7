"""Commands of other distributions: found by entry points, imported on use, harmless if broken."""

import sys
import textwrap
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mom_core.plugins import discovery
from mom_core.plugins.discovery import absent, how_to_install
from mom_daemon.cli import verbs
from mom_daemon.cli.verbs import OTHER_VERBS

Mom = Callable[..., tuple[int, str, str]]
Bring = Callable[..., None]


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bring:
    """Return a function that installs a distribution with commands in its module `tools_NAME`: entry name to attribute."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, source: str = "", **brought: str) -> None:
        monkeypatch.delitem(sys.modules, f"tools_{name}", raising=False)
        (tmp_path / f"tools_{name}.py").write_text("import click\n" + textwrap.dedent(source))
        about = tmp_path / f"acme_{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-{name}\nVersion: 1.0\n")
        lines = "".join(f"{verb.replace('__', '.')} = tools_{name}:{attribute}\n" for verb, attribute in brought.items())
        (about / "entry_points.txt").write_text(f"[{verbs.GROUP}]\n{lines}")

    return install


PAINT = """
@click.command("paint")
def paint():
    "Paint a plugin. In any colour."
    click.echo("painted")
"""


def test_a_distribution_adds_a_verb_to_a_group_of_moms_own(mom, bring):
    bring("brush", PAINT, plugin__paint="paint")
    assert mom("plugin", "paint") == (0, "painted\n", "")
    _, text, _ = mom("plugin", "--help")
    assert "  paint  Paint a plugin." in text
    assert "colour" not in text


def test_a_distribution_adds_a_verb_beside_moms_own(mom, bring):
    bring("brush", PAINT, paint="paint")
    assert mom("paint") == (0, "painted\n", "")
    text = mom("--help")[1]
    assert text.index("  config ") < text.index("  run ") < text.index("  paint ")
    bring("roller", PAINT, status="paint")
    assert "painted" not in mom("status", "--help")[1]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("paint = 7", "cannot be imported: TypeError: tools_brush:paint is no click command"),
    ],
)
def test_a_broken_one_is_the_answer_when_it_is_asked_for_and_a_remark_in_the_list(source, told, mom, bring):
    bring("brush", source, plugin__paint="paint")
    code, out, err = mom("plugin", "paint")
    assert (code, out) == (2, "")
    assert f"the command 'plugin paint' of acme-brush {told}" in err
    code, out, err = mom("plugin", "--help")
    assert code == 0
    assert "  list " in out
    assert f"mom: warning: the command 'plugin paint' of acme-brush {told}" in err


def test_a_verb_that_two_distributions_bring_names_both(mom, bring):
    bring("brush", PAINT, plugin__paint="paint")
    bring("roller", PAINT, plugin__paint="paint")
    code, _, err = mom("plugin", "paint")
    assert code == 2
    assert "acme-brush" in err
    assert "acme-roller" in err
    assert "uninstall all but one" in err


def test_a_verb_that_is_not_installed_says_which_distribution_it_comes_with_and_no_name_to_take_from_an_index(mom, monkeypatch):
    real = discovery.distributions
    monkeypatch.setattr(discovery, "distributions", lambda: [one for one in real() if one.name != "mom-devkit"])
    for verb in ("new", "check"):
        code, out, err = mom("plugin", verb, "x")
        assert (code, out) == (2, "")
        assert f"the command 'plugin {verb}' comes with mom-devkit, which is not installed" in err
        assert "pip install mom-devkit" not in err, "on an index, the name may be another's"
    assert mom("plugin", "zzz")[0] == 2
    monkeypatch.setattr(discovery, "distributions", list)
    for verb, distribution in (("report", "mom-plugins-record"), ("policy", "mom-plugins-policy")):
        code, _, err = mom(verb)
        assert code == 2
        assert f"the command '{verb}' comes with {distribution}, which is not installed: {how_to_install(distribution)}" in err
    code, _, err = mom("zzz")
    assert code == 2
    assert "there is no command 'zzz' (mom --help lists installed commands; docs/cli.md lists the packages with further commands)" in err
    assert f"there is no command 'demo' (it needs other packages of mom: {how_to_install(*absent('demo'))})" in mom("demo")[2]


def test_a_verb_that_needs_a_distribution_of_moms_which_is_not_installed_names_it(mom, bring, monkeypatch):
    bring("brush", "import mom_plugins_ksm", paint="paint")
    later = """
    @click.command("roll")
    def roll():
        import mom_plugins_ksm
    """
    bring("roller", later, roll="roll")
    monkeypatch.setitem(sys.modules, "mom_plugins_ksm", None)
    for name in [name for name in sys.modules if name.startswith("mom_plugins_ksm.")]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = mom("paint")
    assert code == 2
    assert f"the command 'paint' of acme-brush needs mom-plugins-ksm, which is not installed ({how_to_install('mom-plugins-ksm')})" in err
    code, _, err = mom("roll")
    assert code == 1
    assert f"needs mom-plugins-ksm, which is not installed ({how_to_install('mom-plugins-ksm')})" in err
    assert "a bug in mom" not in err


def test_help_shows_a_verb_that_says_what_it_is_without_importing_it(mom, bring):
    bring("light", "from mom_daemon import Verb\nROLL = Verb('tools_heavy:roll', 'Roll it on.')", roll="ROLL")
    bring("heavy", PAINT.replace("painted", "rolled").replace("def paint", "def roll").replace('"paint"', '"roll"'))
    assert "  roll " in mom("--help")[1]
    assert "Roll it on." in mom("--help")[1]
    assert "tools_heavy" not in sys.modules
    assert mom("roll") == (0, "rolled\n", "")
    bring("lost", "from mom_daemon import Verb\nGONE = Verb('tools_nowhere:gone', 'Is gone.')", gone="GONE")
    code, _, err = mom("gone")
    assert code == 2
    assert "the command 'gone' of acme-lost cannot be imported: ModuleNotFoundError" in err


def test_the_distribution_of_every_verb_is_known():
    named = {entry.name: entry.dist.name for entry in entry_points(group="mom.commands") if entry.dist is not None}
    brought = {name: of for name, of in named.items() if of.startswith("mom-") and name != "demo"}
    assert {name: OTHER_VERBS.get(name) for name in brought} == brought
