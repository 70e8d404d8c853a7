"""All distributions have the same form, and their pyproject files are correct."""

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import packages_distributions
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import mom_core
from mom_core.plugins.discovery import CLONE_CONSTRAINTS, catalog
from mom_core.settings import descriptions

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = sorted(path.parent.name for path in ROOT.glob("mom_*/pyproject.toml"))
PLUGINS = [folder for folder in DISTRIBUTIONS if folder.startswith("mom_plugins_")]
EXAMPLE = "examples/mom-example-swappiness"


def pyproject(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())


def project_name(folder: str) -> str:
    return folder.replace("_", "-")


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder / "src").rglob("*.py"))


@pytest.mark.parametrize("folder", PLUGINS)
def test_the_first_plugin_has_its_folders_name_and_all_settings_are_described(folder: str) -> None:
    entries = pyproject(folder)["project"]["entry-points"]["mom.plugins"]
    assert next(iter(entries)) == folder.removeprefix("mom_plugins_")
    for value in entries.values():
        module, _, name = value.partition(":")
        plugin = getattr(importlib.import_module(module), name)
        settings = getattr(plugin, "Settings", mom_core.PluginSettings)
        assert issubclass(settings, mom_core.PluginSettings)
        assert all(descriptions(settings).values()), "every setting has a docstring"


@pytest.mark.parametrize("folder", DISTRIBUTIONS)
def test_versions_are_in_step(folder: str) -> None:
    project = pyproject(folder)["project"]
    assert project["version"] == mom_core.__version__
    extras = [requirement for listed in project.get("optional-dependencies", {}).values() for requirement in listed]
    for requirement in [*project["dependencies"], *extras]:
        if requirement.startswith("mom-"):
            assert requirement.endswith(f"=={mom_core.__version__}"), requirement


def test_a_release_is_stamped_everywhere_by_one_command(tmp_path: Path) -> None:
    """`packaging/version.py` runs in a copy.

    It changes all copies of the version, no versions of other projects, and nothing on a second run.
    """
    for path in [*ROOT.glob("mom_*/pyproject.toml"), *ROOT.glob("mom_*/src/*/*.py"), *ROOT.glob("packaging/**/*")]:
        if path.is_file():
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (tmp_path / "CHANGELOG.md").write_bytes((ROOT / "CHANGELOG.md").read_bytes())
    now = mom_core.__version__
    stamp = [sys.executable, str(tmp_path / "packaging/version.py")]
    assert subprocess.run([*stamp, "1.2"], capture_output=True, timeout=60, check=False).returncode == 2
    subprocess.run([*stamp, "7.8.9"], timeout=60, check=True)
    for folder in DISTRIBUTIONS:
        before, after = ((base / folder / "pyproject.toml").read_text() for base in (ROOT, tmp_path))
        assert re.sub(r'("mom-[^"]*==|^version = ")7\.8\.9"', rf'\g<1>{now}"', after, flags=re.M) == before
        assert f'=={now}"' not in after
        assert f'version = "{now}"' not in after
    said = [path for path in tmp_path.rglob("*.py") if re.search(r'^(__version__|VERSION) = "7\.8\.9"$', path.read_text(), re.M)]
    assert len(said) == 2, "the core, and the program that is put into guests by itself"
    assert not [path for path in tmp_path.rglob("*.py") if f'= "{now}"\n' in path.read_text()]
    changes = (tmp_path / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[Unreleased\]\n\n## \[7\.8\.9\] - \d{4}-\d\d-\d\d\n", changes, re.M)
    assert subprocess.run([*stamp, "7.8.9"], capture_output=True, timeout=60, check=False).returncode == 1


@pytest.mark.parametrize("folder", [*DISTRIBUTIONS, EXAMPLE])
def test_what_is_imported_is_declared_as_a_dependency(folder: str) -> None:
    own = next(path.name for path in (ROOT / folder / "src").iterdir())
    imported = {name.partition(".")[0] for path in modules(folder) for name in _imports(path)}
    project = pyproject(folder)["project"]
    extras = [requirement for listed in project.get("optional-dependencies", {}).values() for requirement in listed]
    declared = {_normal(re.split(r"[<>=!~\[ ]", requirement)[0]) for requirement in [*project["dependencies"], *extras]}
    for name in sorted(imported - sys.stdlib_module_names - {own}):
        providers = {_normal(PARTS.get(provider, provider)) for provider in providers_of_packages().get(name, [name])}
        if own != "mom_core" and providers <= CORE_BRINGS:
            continue
        assert providers & declared, f"{folder} imports {name}"


providers_of_packages = cache(packages_distributions)
"""Cached, because it reads the metadata of all installed packages."""

PARTS = {"pydantic_core": "pydantic"}
"""Distributions that belong to another one, which requires their exact version."""

CORE_BRINGS = {"click", "mom-core", "mom-daemon", "pluggy", "pydantic"}
"""Distributions that every plugin may use: those of settings and hooks, and click in plugins that require mom-daemon. Hooks for commands
import mom-daemon when a command calls them."""


def _normal(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module or "")
    return found


def brought_by(extra: str) -> set[str]:
    """Return the folders of all distributions of an extra, with the core."""
    wanted = pyproject("mom_core")["project"]["optional-dependencies"][extra]
    return {"mom_core", *(requirement.partition("==")[0].replace("-", "_") for requirement in wanted)}


ASKS_AN_INDEX = re.compile(
    rf"pip install (?!-c {CLONE_CONSTRAINTS} |--no-index )(?:-\S+ )*(?:['\"]?mom-(?!example-)|\./mom_)|pypi\.org/project/mom"
)
"""Pattern of commands that would install mom from an index, where others could have registered the name."""


def test_no_document_or_message_has_people_install_what_another_could_register() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("mom_*/README.md")]
    sources = [path for folder in DISTRIBUTIONS for path in modules(folder)]
    matches = [f"{path.relative_to(ROOT)}: {match[0]}" for path in [*pages, *sources] for match in ASKS_AN_INDEX.finditer(path.read_text())]
    assert matches == []


@pytest.mark.processes
def test_pip_takes_every_distribution_from_the_clone_and_asks_no_index_for_it() -> None:
    constrained = [line.partition(" @ ")[0] for line in (ROOT / CLONE_CONSTRAINTS).read_text().splitlines() if not line.startswith("#")]
    assert constrained == [project_name(folder) for folder in DISTRIBUTIONS]
    requests = []

    class EmptyIndex(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), EmptyIndex) as index:
        Thread(target=index.serve_forever).start()
        try:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
            environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"http://127.0.0.1:{index.server_port}/"}
            pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-build-isolation"]
            command = [*pip, "-c", CLONE_CONSTRAINTS, "mom-core[all]"]
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
        finally:
            index.shutdown()
    assert done.returncode == 0, done.stderr
    assert not [path for path in requests if path.startswith("/mom")]
    would_install = done.stdout.rpartition("Would install ")[2].split()
    assert {f"{project_name(folder)}-{mom_core.__version__}" for folder in brought_by("all")} <= set(would_install)


def test_the_catalog_and_the_readme_list_every_plugin_with_its_distribution() -> None:
    plugins = {(name, project_name(folder)) for folder in DISTRIBUTIONS for name in entry_points(folder)}
    assert {(name, entry.distribution) for name, entry in catalog().items()} == plugins
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| `(mom-plugins-\w+)` \|", (ROOT / "README.md").read_text(), re.M)
    assert {(name, distribution) for names, distribution in rows for name in re.findall(r"\w+", names)} == plugins


def entry_points(folder: str) -> dict[str, str]:
    """Return the plugins of a distribution: name to class."""
    named: dict[str, str] = pyproject(folder)["project"].get("entry-points", {}).get("mom.plugins", {})
    return named


def test_a_plugin_loads_where_mom_daemon_is_not_installed_unless_it_requires_it() -> None:
    program = "import sys\nsys.modules['mom_daemon'] = None\nimport mom_core.engine\n"
    for project in (pyproject(folder)["project"] for folder in PLUGINS):
        if f"mom-daemon=={mom_core.__version__}" not in project["dependencies"]:
            classes = [value.partition(":") for value in project["entry-points"]["mom.plugins"].values()]
            program += "".join(f"from {module} import {name}\n" for module, _, name in classes)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
