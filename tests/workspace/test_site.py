"""The documents as a site: it builds without a warning, links lead from page to page, and versions stand side by side."""

import fcntl
import functools
import http.server
import importlib.util
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from real_browser import browsing

import mom_core

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build_site() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs/build_site.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory, build_site: ModuleType) -> Path:
    """A folder with two versions of the site, of which the script has built the second."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "0.0.9").mkdir()
    (folder / "0.0.9/index.html").write_text("older")
    command = [sys.executable, str(ROOT / "docs/build_site.py"), "--version", "0.0.10", "--to", str(folder)]
    (ROOT / ".cache").mkdir(exist_ok=True)
    with (ROOT / ".cache/site.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # it builds in one folder, and tests run in several processes
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


class _Quietly(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Reader:
    """A reader of the site, in a browser, with its search open."""

    page: Any
    asked: set[str]
    """Hosts that the browser has asked for anything."""

    def finds(self, words: str) -> list[str]:
        """The pages, and the parts of pages, that the search finds, the first one first."""
        field, options = self.page.get_by_role("combobox", name="Search"), self.page.get_by_role("option")
        field.fill("")
        options.first.wait_for(state="detached")
        field.fill(words)
        options.first.wait_for()
        links = options.evaluate_all("each => each.map(one => (one.closest('a') || one.querySelector('a')).href)")
        return [re.sub(r"\?h=[^#]*|#$", "", link.rpartition("/")[2]) for link in links]  # without what to highlight


@pytest.fixture(scope="module")
def reader(versions: Path) -> Iterator[Reader]:
    handler = functools.partial(_Quietly, directory=versions / "0.0.10")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, browsing() as browser:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.set_default_timeout(120_000)  # on a machine that does much else meanwhile
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(str(urlsplit(request.url).hostname)))
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/index.html")
        page.keyboard.press("/")
        yield Reader(page, asked)
        server.shutdown()


FIRST_FOUND = {
    "install": "install.html",
    "uninstall": "install.html#uninstall-and-what-is-restored",
    "is it safe": "safety.html",
    "balloon not shrinking": "faq.html#why-is-my-guest-or-its-balloon-not-shrinking",
    "overcommit ratio": "faq.html#how-much-can-i-sell-what-overcommit-ratio-is-safe",
    "how much can i sell": "faq.html#how-much-can-i-sell-what-overcommit-ratio-is-safe",
    "ksm": "ksm-law.html",
    "windows": "faq.html#does-it-work-with-windows-guests",
    "huge pages": "faq.html#huge-pages",
    "vfio": "faq.html#vfio-pci-passthrough-gpus-vdpa",
    "zfs": "faq.html#zfs-arc",
    "proxmox": "proxmox.html",
    "ksmtuned": "coming-from.html#from-ksmtuned",
    "vmware": "coming-from.html#from-vmware",
    "requirements": "install.html#requirements",
    "observe": "install.html#observe-first",
}
"""What operators look for first, and what answers it."""


@pytest.mark.parametrize(("words", "page"), FIRST_FOUND.items(), ids=str)
def test_what_is_looked_for_first_is_found_first(reader: Reader, words: str, page: str) -> None:
    assert reader.finds(words)[0] == page


def test_who_reads_and_searches_the_site_is_known_to_nobody_else(reader: Reader) -> None:
    reader.finds("balloon")
    assert reader.asked == {"127.0.0.1"}


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
