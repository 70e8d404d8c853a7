"""`mom plugin new`: the new plugin works, and existing names and files are refused."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest

from mom_devkit.plugin_new import KINDS, LONGEST_NAME, files_of

BIN = Path(sys.executable).parent
LONGEST = "a-name-of-thirty-characters-ab"


def run(folder: Path, *command: str | Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-5000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mom):
    """Return a function that runs the command in an empty folder, and returns the exit code and the output."""
    monkeypatch.chdir(tmp_path)

    def run_verb(*arguments: str) -> tuple[int, str]:
        code, out, err = mom("plugin", "new", *arguments)
        return code, out + err

    return run_verb


@pytest.mark.long
@pytest.mark.processes
def test_what_is_written_passes_its_own_tests_types_and_lint(
    new, tmp_path: Path, mypy_options: list[str], authors_pytest: list[str]
) -> None:
    for kind in KINDS:
        code, text = new(f"page-{kind}", "--kind", kind)
        assert code == 0, text
        assert re.search(r": (an evaluator|a [^aeiou]\w+) that works", text)
        project = tmp_path / f"mom-page-{kind}"
        written = "".join(path.read_text() for path in project.rglob("*") if path.is_file())
        assert not re.search(r"\bHost\.mem_free\b|\"mem_free\"", written), "it counts what is not free; mem_really_available is better"
        assert "passed" in run(project, BIN / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *authors_pytest)
        for name in ("z", LONGEST):
            assert new(name, "--kind", kind, "--directory", f"{kind}-{name}")[0] == 0
    assert len(LONGEST) == LONGEST_NAME
    projects = [tmp_path / f"mom-page-{kind}" for kind in KINDS]
    sources = [project / name for project in projects for name in ("src", "tests")]  # together, because starting mypy takes long
    assert "Success" in run(projects[0], BIN / "mypy", *mypy_options, *sources)
    run(tmp_path, BIN / "ruff", "check", "--no-cache", ".")
    run(tmp_path, BIN / "ruff", "format", "--no-cache", "--check", ".")


@pytest.mark.parametrize("kind", KINDS)
def test_no_placeholder_is_left_and_the_files_are_complete(kind: str) -> None:
    files = files_of("page-cache", kind)
    for path, text in files.items():
        for word in ("@NAME@", "@PACKAGE@", "@CLASS@", "@FIELD@", "@DISTRIBUTION@", "@CORE@", "@SUMMARY@", "@WHAT@"):
            assert word not in text, path
    assert {"pyproject.toml", "README.md", "LICENSE", ".gitignore", ".github/workflows/checks.yml"} <= files.keys()
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["entry-points"]["mom.plugins"] == {"page-cache": "mom_page_cache:PageCachePlugin"}


def test_its_ci_installs_mom_from_a_clone() -> None:
    files = files_of("page-cache", "collector")
    (folders,) = re.findall(r"mom/mom_\{([a-z,]+)\} -e", files[".github/workflows/checks.yml"])
    project = tomllib.loads(files["pyproject.toml"])["project"]
    needed, seen = {*project["dependencies"], *project["optional-dependencies"]["dev"]}, set[str]()
    while needed:
        name = re.split("[^a-z-]", needed.pop())[0]
        if name.startswith("mom-") and name not in seen:
            seen.add(name)
            needed |= {one for one in requires(name) or () if "extra ==" not in one}
    assert seen == {f"mom-{folder}" for folder in folders.split(",")}


@pytest.mark.parametrize("name", ["", "Zswap", "z-", "9lives", "ünïcode", "../up", "x" * 31, "class"])
def test_a_bad_name_is_refused(name: str, new, tmp_path: Path) -> None:
    code, text = new("--kind", "collector", "--", name)
    assert code == 2, text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ksm", "core"])
def test_a_name_of_moms_own_is_refused(name: str, new, tmp_path: Path) -> None:
    code, text = new(name, "--kind", "collector")
    assert code == 2
    assert "use another name" in text
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_an_installed_plugin_or_package_has_is_refused(new, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    about = site / "acme_tools-2.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-tools\nVersion: 2.0\n")
    (about / "entry_points.txt").write_text("[mom.plugins]\npage_cache = acme:Plugin\n")
    (site / "mom_zcache").mkdir()
    (site / "mom_zcache/__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(site))
    for name in ("page-cache", "zcache"):
        assert "use another name" in new(name, "--kind", "collector")[1]
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_nothing_that_exists_is_overwritten_and_folders_are_made(new, tmp_path: Path) -> None:
    assert new("page-cache", "--kind", "collector")[0] == 0
    before = (tmp_path / "mom-page-cache/README.md").read_text()
    code, text = new("page-cache", "--kind", "reporter")
    assert code == 1
    assert "exists already; mom does not overwrite it" in text
    assert (tmp_path / "mom-page-cache/README.md").read_text() == before
    (tmp_path / "file").write_text("mine")
    assert new("page-cache", "--kind", "reporter", "--directory", str(tmp_path / "file"))[0] != 0
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert new("page-cache", "--kind", "reporter", "--directory", str(tmp_path / "link"))[0] == 1
    assert (tmp_path / "file").read_text() == "mine"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    (tmp_path / "empty").mkdir()
    assert new("page-cache", "--kind", "collector", "--directory", "empty")[0] == 0
    assert new("page-cache", "--kind", "collector", "--directory", "a/b/c")[0] == 0
    assert (tmp_path / "a/b/c/pyproject.toml").is_file()
