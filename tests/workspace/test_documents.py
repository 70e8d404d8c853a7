"""Documents are correct: reference pages follow from the code, links work, and pages mention everything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mom_core
from mom_core import hookspecs
from mom_daemon import hookspecs as verb_hookspecs

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in (
        "*.md", "docs/*.md", "docs/authors/*.md", "docs/lessons/*.md", "mom_*/*.md", "examples/**/*.md", "benchmarks/**/*.md",
        "packaging/*.md", "tests/**/*.md", "docs/runbooks/*.md",
    )
    for path in ROOT.glob(pattern)
)  # fmt: skip


def test_the_reference_pages_are_what_the_code_says() -> None:
    """The generator runs in a new process, because commands cache how other tests have called them."""
    command = [sys.executable, str(ROOT / "docs/generate.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "COLUMNS": "100"})
    assert checked.returncode == 0, f"run .venv/bin/python docs/generate.py\n{checked.stdout}{checked.stderr}"


def test_every_hook_is_described_and_no_other() -> None:
    described = re.findall(r"^### `(mom_\w+)`$", (ROOT / "docs/hooks.md").read_text(), re.M)
    assert sorted(described) == sorted(name for name in [*vars(hookspecs), *hookspecs.OF_VERBS] if name.startswith("mom_"))


def test_hooks_of_verbs_are_those_that_the_core_leaves_to_them() -> None:
    assert {name for name in vars(verb_hookspecs) if name.startswith("mom_")} == hookspecs.OF_VERBS


@pytest.mark.parametrize("name", dir(mom_core))
def test_every_public_name_is_in_the_reference_with_its_meaning(name: str) -> None:
    protocols, errors = ((ROOT / "docs/authors" / page).read_text() for page in ("protocols.md", "errors.md"))
    section, row = rf"^### `{name}`\n\n(?=[^#\s])", rf"^\| `{name}\b.*`.* \| .*\w.* \|$"
    described = re.search(section, protocols, re.M) or re.search(row, protocols + errors, re.M)
    assert described, f"{name} has no docstring, or docs/generate.py does not know its kind"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_to_files_that_exist(document: Path) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert ((ROOT / document).parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_hooks_that_a_document_names_exist(document: Path) -> None:
    known = FIXTURES | {path.name for path in ROOT.glob("mom_*")} | {path.name for path in ROOT.glob("examples/*/src/*")}
    known |= set(re.findall(r"^(mom_\w+):", (ROOT / "packaging/ansible/roles/mom/defaults/main.yml").read_text(), re.M))  # variables
    for page in ("metrics.md", "fleet.md"):  # with tests of their own
        known |= set(re.findall(r"^\| `(mom_\w+)` \|", (ROOT / "docs" / page).read_text(), re.M))
    for name in re.findall(r"`(mom_[a-z_]+)`", (ROOT / document).read_text()):
        assert name in known or hasattr(hookspecs, name) or name in hookspecs.OF_VERBS, name


FIXTURES = {"mom_context", "mom_host", "mom_open_folder", "mom_power", "mom_run", "mom_stand_in_guest", "mom_usual_host"}
"""Names of pytest plugins that look like hooks."""


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_the_map_of_a_folder_names_all_that_is_in_it(folder: str) -> None:
    there = {path.name for path in (ROOT / folder).iterdir() if any(path.glob("*.py"))}
    assert set(re.findall(r"^\| \[(\w+)\]\(\1\) ", (ROOT / folder / "README.md").read_text(), re.M)) == there


def test_the_index_of_the_documents_names_all_of_them() -> None:
    named = set(re.findall(r"\]\(([\w/-]+\.md)\)", (ROOT / "docs/README.md").read_text()))
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").glob("**/*.md")}
    runbooks = {name for name in there if name.startswith("runbooks/") and name != "runbooks/README.md"}  # contains these names
    assert named == there - runbooks - {"README.md"}


def test_sessions_that_are_told_of_exist() -> None:
    sessions = set(re.findall(r"^@nox\.session(?:\(.*\))?\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.M))
    told = (ROOT / "CONTRIBUTING.md").read_text()
    table = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in told.splitlines() if line.startswith("| `"))))
    assert table == sessions


def test_import_contracts_cover_every_distribution() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    names = [path.parent.name for path in ROOT.glob("mom_plugins_*/pyproject.toml")] + [
        path.name for path in ROOT.glob("examples/*/src/mom_*")
    ]
    for name in names:
        assert text.count(f'"{name}",') == 4, f"{name} belongs into root_packages and all three import contracts"
