"""Build the site of the documents, with warnings as errors: `build_site.py [--version 0.1 --to FOLDER]`. `nox -s site` runs this script.

Documents are in the folders of their subjects. This script copies them to one folder (`.cache/documents/pages`): docs/ at the top, all
others below project/, with adapted links. Scripts and examples have no page, so the script removes links to them.

With `--version`, the site becomes a folder of that name in FOLDER, beside other versions. The script also updates the list of versions.
"""

from __future__ import annotations

import argparse
import json
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import mom_core

ROOT: Final = Path(__file__).parents[1]
WORK: Final = ROOT / ".cache/documents"
"""Not `.cache`, because Zensical empties the folder `.cache` beside its configuration."""

ELSEWHERE: Final = "project"
"""Folder of the site for documents outside docs/."""

DOCUMENTS: Final = (
    "*.md",
    "docs/**/*.md",
    "mom_*/README.md",
    "examples/*/README.md",
    "benchmarks/**/README.md",
    "packaging/**/*.md",
    "tests/**/README.md",
)
PICTURES: Final = ("docs/**/*.svg", "docs/**/*.png")

_LINK: Final = re.compile(r"(?P<image>!?)\[(?P<words>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")
_CODE: Final = re.compile(r"^(`{3,}).*?^\1$|`[^`\n]+`", re.M | re.S)
_NAMED_BLOCK: Final = re.compile(r"^```(\w+) +(\S+)$", re.M)
"""Code block with a file name for tests of the documents: `lisp idle.policy`."""


def pages() -> dict[str, str]:
    """Return the site's path of each document and picture, by its path in the repository."""
    paths = sorted(path.relative_to(ROOT).as_posix() for pattern in (*DOCUMENTS, *PICTURES) for path in ROOT.glob(pattern))
    return {path: path.removeprefix("docs/") if path.startswith("docs/") else f"{ELSEWHERE}/{path}" for path in paths}


def page(path: str, text: str, site: dict[str, str]) -> str:
    """Return a document as a page of the site.

    :param path: of the document, in the repository
    :param site: result of `pages`
    """
    code = [match.span() for match in _CODE.finditer(text)]

    def link(match: re.Match[str]) -> str:
        target, hash_, anchor = match["target"].partition("#")
        if not target or "://" in target or any(begin <= match.start() and match.end() <= end for begin, end in code):
            return match[0]
        linked = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        place = site.get(linked) or site.get(f"{linked}/README.md")
        if place is None:
            return match["words"]
        words = _LINK.sub(link, match["words"])
        return f"{match['image']}[{words}]({posixpath.relpath(place, posixpath.dirname(site[path]) or '.')}{hash_}{anchor})"

    return _NAMED_BLOCK.sub(r'```{.\1 title="\2"}', _LINK.sub(link, text))


def build() -> int:
    """Write the pages and build `WORK / "site"` from them; the exit code."""
    shutil.rmtree(WORK, ignore_errors=True)
    site = pages()
    for path, there in site.items():
        target = WORK / "pages" / there
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".md"):
            target.write_text(page(path, (ROOT / path).read_text(encoding="utf-8"), site), encoding="utf-8")
        else:
            shutil.copyfile(ROOT / path, target)
    settings = (ROOT / "docs/zensical.toml").read_text(encoding="utf-8").replace("@version@", mom_core.__version__)
    (WORK / "zensical.toml").write_text(settings, encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    return subprocess.run(command, check=False, timeout=600, cwd=WORK).returncode


def publish(version: str, folder: Path) -> None:
    """Add the site to other versions, replacing one of the same name, and write the list of versions."""
    shutil.copytree(WORK / "site", folder / version, dirs_exist_ok=False)
    versions = sorted((path.name for path in folder.iterdir() if (path / "index.html").exists()), key=_numbers, reverse=True)
    listed = [{"version": name, "title": name, "aliases": ["latest"] if name == versions[0] else []} for name in versions]
    (folder / "versions.json").write_text(json.dumps(listed), encoding="utf-8")


def _numbers(version: str) -> tuple[Sequence[int], str]:
    return [int(number) for number in re.findall(r"\d+", version)], version


def main(arguments: Collection[str] | None = None) -> int:
    """Build the site; return the build's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", help="the name of the folder for this version")
    parser.add_argument("--to", type=Path, help="the folder of all versions")
    given = parser.parse_args(arguments)
    if (given.version is None) != (given.to is None):
        parser.error("--version and --to go together")
    if given.version is not None and not re.fullmatch(r"[\w.-]+", given.version):
        parser.error(f"{given.version!r} is no name for a version")
    failed = build()
    if not failed and given.version is not None:
        shutil.rmtree(given.to / given.version, ignore_errors=True)
        given.to.mkdir(parents=True, exist_ok=True)
        publish(given.version, given.to)
    return failed


if __name__ == "__main__":
    sys.exit(main())
