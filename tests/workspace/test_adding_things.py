"""CONTRIBUTING.md shows the most frequent additions. Each works in a copy, with the stated number of files."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MOST_FILES = {"A field of a guest": 2, "A column of guests": 2, "A word of the policy language": 1, "A setting": 1, "A control": 1}
SECTIONS = {
    title: body for title, body in re.findall(r"^### (.+?)\n(.*?)(?=^##)", PAGE + "\n##", re.DOTALL | re.MULTILINE) if title in MOST_FILES
}

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of all sources, before the installed ones on the import path."""
    copy = tmp_path_factory.mktemp("copy")
    for source in [*ROOT.glob("mom_*/src"), *ROOT.glob("examples/*/src")]:
        shutil.copytree(source, copy / source.relative_to(ROOT), ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def changed(path: Path, block: str) -> None:
    """Apply a change in the form of a diff: context, `-` lines and `+` lines."""
    lines = block.rstrip("\n").split("\n")
    assert all(line[:1] in {" ", "+", "-", ""} for line in lines)
    before = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
    after = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{path} has not once:\n{before}"
    path.write_text(text.replace(before, after), encoding="utf-8")


def test_all_that_is_added_most_often_is_shown() -> None:
    assert SECTIONS.keys() == MOST_FILES.keys()


@pytest.mark.parametrize("title", SECTIONS)
def test_what_is_added_as_the_page_says_works(title: str, sources: Path) -> None:
    changes = re.findall(r"^```diff (\S+)\n(.*?)^```", SECTIONS[title], re.DOTALL | re.MULTILINE)
    assert 0 < len({path for path, _ in changes}) <= MOST_FILES[title]
    for path, block in changes:
        changed(sources / path, block)
    (program,) = re.findall(r"^```python\n(.*?)^```", SECTIONS[title], re.DOTALL | re.MULTILINE)
    path = os.pathsep.join(map(str, sources.glob("*/src"))) + os.pathsep + os.pathsep.join(map(str, sources.glob("*/*/src")))
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
