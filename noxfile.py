"""All checks, one session for each; `./run tests` runs the default list. Sessions run in the environment that `run` has set up."""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "none"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
DISTRIBUTIONS = sorted(path.parent.name for path in ROOT.glob("mom_*/pyproject.toml"))
EXAMPLES = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("examples/*/pyproject.toml"))


@nox.session
def tests(session: nox.Session) -> None:
    """All tests in one run: what the sessions unit, docs, build and real hold."""
    session.run("pytest", *session.posargs)


@nox.session
def unit(session: nox.Session) -> None:
    """Everything that needs neither a hypervisor nor an index: seconds."""
    session.run("pytest", "-m", "not real", "--ignore=tests/packaging", "--ignore=tests/workspace", *session.posargs)


@nox.session
def real(session: nox.Session) -> None:
    """Real libvirt, real QEMU guests, real KSM. Skips where there is no hypervisor, unless MOM_REQUIRE_REAL=1."""
    session.run("pytest", "-m", "real", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of all sources, strictly."""
    sources = [f"{folder}/src" for folder in [*DISTRIBUTIONS, *EXAMPLES]]
    loose = [str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.py")]
    session.run("mypy", "--strict", *sources, "noxfile.py", *loose, *session.posargs)
    for folder in sorted(path.parent for path in ROOT.glob("benchmarks/*/*.py")):
        session.run("mypy", "--strict", str(folder.relative_to(ROOT)))


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, and who may import whom."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    sources = os.pathsep.join(str(ROOT / folder / "src") for folder in EXAMPLES)  # the example is not installed: it is nobody's plugin here
    session.run("lint-imports", env={"PYTHONPATH": sources})


@nox.session
def docs(session: nox.Session) -> None:
    """The documents are true: every hook, field, control, setting and verb is in them, and what they show runs."""
    session.run("pytest", "tests/workspace", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build every wheel and source distribution, and use them in a fresh environment. Needs the package index."""
    session.run("pytest", "tests/packaging", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """A simulated host under pressure, relieved; what is given after `--` goes to `mom demo`."""
    session.run("mom", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """How much time and memory a cycle takes: benchmarks/, side by side in one run."""
    for script in sorted(ROOT.glob("benchmarks/*/run.py")):
        session.run("python", str(script.relative_to(ROOT)), *session.posargs)
