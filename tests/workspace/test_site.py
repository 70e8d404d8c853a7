"""The site of the documents: it builds without warnings, links work, and versions are side by side."""

import fcntl
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import mom_core

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build_site() -> ModuleType:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs/build_site.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory, build_site: ModuleType) -> Path:
    """Return a folder with two versions of the site. The script has built the second."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "0.0.9").mkdir()
    (folder / "0.0.9/index.html").write_text("older")
    command = [sys.executable, str(ROOT / "docs/build_site.py"), "--version", "0.0.10", "--to", str(folder)]
    (ROOT / ".cache").mkdir(exist_ok=True)
    with (ROOT / ".cache/site.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # it builds in one folder, but tests run in several processes
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_document_has_a_page_and_all_of_the_documents_folder_are_in_the_menu(versions: Path, build_site: ModuleType) -> None:
    site = versions / "0.0.10"
    documents = {path: there for path, there in build_site.pages().items() if there.endswith(".md")}
    for there in documents.values():
        assert (site / re.sub(r"(^|/)README\.md$", r"\1index.html", there).replace(".md", ".html")).is_file(), there
    menu = set(re.findall(r'"([\w./-]+\.md)"', (ROOT / "docs/zensical.toml").read_text()))
    assert [path for path, there in documents.items() if path.startswith("docs/") and there not in menu] == []
    assert menu - set(documents.values()) == set()


def test_readers_choose_between_versions_the_newest_first(versions: Path) -> None:
    listed = json.loads((versions / "versions.json").read_text())
    assert [one["version"] for one in listed] == ["0.0.10", "0.0.9"]
    assert [one["aliases"] for one in listed] == [["latest"], []]
    assert (versions / "0.0.9/index.html").read_text() == "older"


def test_the_first_page_fetches_nothing_from_elsewhere(versions: Path) -> None:
    text = (versions / "0.0.10/index.html").read_text()
    assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]+\.(?:js|css|woff2?)[^"]*"', text) == []
    assert f"mom {mom_core.__version__}" in text
    assert 'href="https://github.com/mom-project/mom"' in text
    for first in ("install.html", "safety.html", "faq.html", "coming-from.html", "install.html#observe-first", "install.html#uninstall"):
        assert f'href="{first}' in text, first
    assert (versions / "0.0.10/squeeze-moving.svg").stat().st_size < 100_000


def test_links_lead_to_pages_and_those_to_other_files_become_words(build_site: ModuleType) -> None:
    site = {"docs/a.md": "a.md", "docs/sub/b.md": "sub/b.md", "mom_x/README.md": "project/mom_x/README.md"}
    text = "[plugin](../../mom_x) [page](../a.md#there) [script](../../run) [web](https://example.org) `[code](../../run)`"
    assert build_site.page("docs/sub/b.md", text, site) == (
        "[plugin](../project/mom_x/README.md) [page](../a.md#there) script [web](https://example.org) `[code](../../run)`"
    )


def test_a_block_that_names_its_file_shows_the_name(build_site: ModuleType) -> None:
    assert build_site.page("docs/a.md", "```lisp 60_idle.policy\n(+ 1 2)\n```\n", {"docs/a.md": "a.md"}) == (
        '```{.lisp title="60_idle.policy"}\n(+ 1 2)\n```\n'
    )


def test_a_link_that_leads_nowhere_fails_the_build(build_site: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/README.md").write_text("# One\n\n[there](#nowhere)\n")
    (tmp_path / "docs/zensical.toml").write_text('[project]\nsite_name = "x"\ndocs_dir = "pages"\nsite_dir = "site"\n')
    monkeypatch.setattr(build_site, "ROOT", tmp_path)
    monkeypatch.setattr(build_site, "WORK", tmp_path / "work")
    assert build_site.build() != 0
