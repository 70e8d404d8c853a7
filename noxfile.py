"""Sessions of nox. `./run tests` sets up the environment `.venv`, and runs the default sessions in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "none"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
BIN = ROOT / ".venv/bin"
DISTRIBUTIONS = sorted(path.parent.name for path in ROOT.glob("mom_*/pyproject.toml"))
EXAMPLES = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("examples/*/pyproject.toml"))

PARTLY_ANNOTATED = [
    "--strict",
    "--allow-untyped-defs",
    "--allow-incomplete-defs",
    "--allow-untyped-calls",
    "--allow-untyped-decorators",
    "--allow-any-generics",
    "--no-warn-return-any",
    "--no-warn-unreachable",
    "--implicit-reexport",
]
"""mypy's options for tests: annotations may be missing, but must be correct."""


APART = ("benchmarks", "fleet", "packaging", "watching", "workspace")
"""Folders of tests/ without coverage. Their tests run other programs, such as servers, browsers and systemd."""

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # tests start mom a thousand times, and each process would compile all modules

CORES = os.cpu_count() or 1

FEW_WORKERS = ("-n", str(CORES + 1), "--dist", "worksteal")
"""One worker more than cores, because some tests wait. Idle workers take tests from others, because a few tests take a minute."""

ALL_CORES = ("-n", str(2 * CORES + 2), "--dist", "worksteal")
"""Two workers for each core, and two more: tests of daemons and servers wait for more than half of their time."""

MEMORY, LEAST_MIB_IN_MEMORY = Path("/dev/shm"), 4096  # noqa: S108  # a directory; names of files in it are random

SOME_FILES = ("-n", str(min(CORES + 2, 6)), "--dist", "loadgroup", "--no-loadscope-reorder")
"""Two workers more than cores: tests with real guests mostly wait. All tests of one file share guests, and run in one worker."""

TESTS_FAILED, NO_TESTS = 1, 5
"""pytest's exit codes for failed tests and for no tests."""

FEW, FEW_FILES = 10, 2
"""Largest number of failed tests, and of their files, that run a second time. A busy machine cannot cause more."""

FAILED_BEFORE = ROOT / ".pytest_cache/v/cache/lastfailed"
"""pytest's list of failed tests, as JSON."""

REAL, ALONE = "real and not alone", "real and alone"
"""Tests about the whole host run alone, one by one."""

WITHOUT_GUESTS = "not real and not release"
IN_ONE_PROCESS = f"{WITHOUT_GUESTS} and not processes"
QUICK = f"{IN_ONE_PROCESS} and not long"


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests except those of releases: first those in one process, then those that start processes, then those with real guests.

    These groups do not run at the same time: guests without hardware virtualization occupy all cores, and servers under test would be late.
    """
    _twice(session, IN_ONE_PROCESS, FEW_WORKERS, session.posargs, _in_memory())
    _twice(session, f"{WITHOUT_GUESTS} and processes", ALL_CORES, session.posargs, _in_memory())
    real(session)


@nox.session
def unit(session: nox.Session) -> None:
    """Run quick tests that start no process. Use this after each change, or `pytest mom_plugins_ksm` for one distribution.

    Tests with generated examples try 10, instead of 25.
    """
    session.run(BIN / "pytest", *FEW_WORKERS, "--hypothesis-profile=unit", "-m", QUICK, *session.posargs, env=_in_memory())


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that `unit` leaves out and that need no hypervisor: daemons, servers, browsers, many inputs, long simulations.

    Tests with generated examples try 100.
    """
    chosen = f"{WITHOUT_GUESTS} and (processes or long)"
    session.run(BIN / "pytest", *ALL_CORES, "--hypothesis-profile=thorough", "-m", chosen, *session.posargs, env=_in_memory())


@nox.session
def coverage(session: nox.Session) -> None:
    """Report the coverage of lines and branches by file. Pages in `.cache/coverage` show uncovered lines."""
    apart = [f"--ignore=tests/{name}" for name in APART]
    reports = ["--cov", "--cov-report=term:skip-covered", f"--cov-report=html:{ROOT / '.cache/coverage'}"]
    options = (*ALL_CORES, "--hypothesis-profile=thorough")
    session.run(BIN / "pytest", *options, "-m", WITHOUT_GUESTS, *apart, *reports, *session.posargs, env=_in_memory())


@nox.session
def real(session: nox.Session) -> None:
    """Run tests with real libvirt, QEMU guests and KSM; after `--`, only those of some files.

    Without a hypervisor, these tests are skipped. With MOM_REQUIRE_REAL=1, they fail.
    """
    names = _relative("mom_*/tests/test_*.py", "tests/**/test_*.py")  # pytest would take a minute to import all of them
    chosen = session.posargs or [name for name in names if "mark.real" in (ROOT / name).read_text()]
    _twice(session, REAL, SOME_FILES, chosen)
    _twice(session, ALONE, (), chosen)


def _in_memory() -> dict[str, str]:
    """Return an environment with temporary files in memory; an empty one if memory has no room for them.

    On ext4, tests of plugins spend half of their time on creating files.
    """
    room = shutil.disk_usage(MEMORY).free if os.access(MEMORY, os.W_OK) else 0
    if room < LEAST_MIB_IN_MEMORY << 20 or "TMPDIR" in os.environ:
        return {}
    return {"TMPDIR": str(MEMORY)}


def _twice(session: nox.Session, kind: str, workers: Sequence[str], chosen: Sequence[str], env: dict[str, str] | None = None) -> None:
    """Run all tests of one kind. If a few fail, run these again by themselves: other tests may have kept the cores busy."""
    FAILED_BEFORE.unlink(missing_ok=True)  # it belongs to an earlier run
    codes = [0, NO_TESTS] if session.posargs else [0]  # perhaps no chosen test is of this kind
    session.run(BIN / "pytest", *workers, "-m", kind, *chosen, env=env, success_codes=[*codes, TESTS_FAILED])
    failed = json.loads(FAILED_BEFORE.read_text(encoding="utf-8")) if FAILED_BEFORE.exists() else {}
    files = {name.partition("::")[0] for name in failed}
    if len(failed) > FEW and len(files) > FEW_FILES:
        session.error(f"{len(failed)} tests in {len(files)} files failed")
    if failed:
        session.warn(f"these tests failed beside others, and now run by themselves: {', '.join(failed)}")
        again = ("--last-failed", "--last-failed-no-failures=none")
        session.run(BIN / "pytest", "-m", kind, *again, *chosen, env=env, success_codes=[0, NO_TESTS])


@nox.session
def types(session: nox.Session) -> None:
    """Check types: strictly in sources and benchmarks; in tests, only annotated functions.

    Each set of options has its own cache, because mypy discards a cache that was made with other options.
    """
    mypy, cache = str(BIN / "mypy"), "--cache-dir=.cache/mypy"
    sources = [f"{folder}/src" for folder in [*DISTRIBUTIONS, *EXAMPLES]]
    packaging = [f"packaging/{name}*.py" for name in ("", "cockpit/", "deb/", "kubernetes/", "oci/", "rpm/")]
    scripts = ["noxfile.py", *_relative("docs/*.py", *packaging)]
    tests = _by_names(_relative("mom_*/tests/*.py", "examples/*/tests/*.py", "tests/*/*.py"))
    benchmarks = ["--strict", "--follow-imports=silent", f"{cache}/benchmarks"]
    _side_by_side(
        session,
        [mypy, "--strict", *sources, *scripts, *session.posargs],
        [mypy, *benchmarks, *_relative("benchmarks/*/*.py"), *session.posargs],
        [mypy, *PARTLY_ANNOTATED, f"{cache}/tests", *tests, *session.posargs],
    )


def _by_names(files: Sequence[str]) -> list[str]:
    """Return the paths of test files for one run of mypy. This takes half as long as one run for each folder.

    In one run, all files need different names. So each `conftest.py` gets a link with another name.
    """
    links = ROOT / ".cache/conftests"
    shutil.rmtree(links, ignore_errors=True)
    links.mkdir(parents=True)
    together: dict[str, str] = {}
    for file in files:
        path = Path(file)
        if path.name == "conftest.py" or path.name in together:
            link = links / file.replace("/", "_").replace("-", "_")
            link.symlink_to(ROOT / file)
            path = link.relative_to(ROOT)
        together[path.name] = str(path)
    return list(together.values())


def _side_by_side(session: nox.Session, *commands: Sequence[str]) -> None:
    """Run several commands at the same time, and print their output in order."""

    def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    with ThreadPoolExecutor(len(commands)) as threads:
        processes = list(threads.map(run, commands))
    for process in processes:
        session.log(" ".join(process.args))
        sys.stdout.write(process.stdout)
    sys.stdout.flush()
    if failed := [" ".join(process.args) for process in processes if process.returncode]:
        session.error(f"{len(failed)} of {len(processes)} commands failed; the first: {failed[0]}")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and import contracts."""
    session.run(BIN / "ruff", "check", ".")
    session.run(BIN / "ruff", "format", "--check", ".")
    sources = os.pathsep.join(str(ROOT / folder / "src") for folder in [*DISTRIBUTIONS, *EXAMPLES])  # so that they need not be installed
    session.run(BIN / "lint-imports", "--cache-dir", ".cache/imports", env={"PYTHONPATH": sources})


@nox.session
def docs(session: nox.Session) -> None:
    """Check that the documents describe every hook, field, control, setting and command, and that their examples work."""
    session.run(BIN / "pytest", "tests/workspace", *session.posargs)


@nox.session
def site(session: nox.Session) -> None:
    """Build the site of the documents, with warnings as errors. `-- --version 0.1 --to FOLDER` adds a version to a folder."""
    session.run(BIN / "python", "docs/build_site.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build and test all packages of mom: wheels, and packages of operating systems. Run this before a release.

    Needs the package index. `./run tests -s build` installs the tools that build the packages.
    """
    session.run(BIN / "pytest", "tests/packaging", *session.posargs)


@nox.session
def deb(session: nox.Session) -> None:
    """Build the packages mom and cockpit-mom for Debian 12 and 13 in dist/. Builds are reproducible. Needs the package index."""
    _require(session, "dpkg-deb", "strip")
    _clear("*.deb")
    _debian_packages(session, ROOT / "dist")


@nox.session
def rpm(session: nox.Session) -> None:
    """Build RPMs in dist/, for systems with systemd and Python 3.11 to 3.14. Needs rpmbuild and the package index."""
    _require(session, "rpmbuild", "strip")
    _clear("*.rpm")
    session.run(BIN / "python", "packaging/rpm/rpm.py", _tree(session), ROOT / "dist")


@nox.session
def image(session: nox.Session) -> None:
    """Build the container image dist/mom.oci.tar, for `mom demo` and `mom fleet coordinator`. Needs root and mmdebstrap.

    `-- --node` builds dist/mom-node.oci.tar, for nodes with KubeVirt.
    """
    _require(session, "mmdebstrap", "strip")
    (ROOT / "dist").mkdir(exist_ok=True)
    node = session.posargs == ["--node"]
    if session.posargs and not node:
        session.error(f"invalid arguments: {' '.join(session.posargs)}; only --node is allowed")
    tree, file = _tree(session, *(["kubevirt"] if node else [])), "mom-node.oci.tar" if node else "mom.oci.tar"
    session.run(BIN / "python", "packaging/oci/image.py", *session.posargs, tree, ROOT / "dist" / file)
    session.log(f"dist/{file}: {(ROOT / 'dist' / file).stat().st_size >> 20} MiB")


@nox.session(venv_backend="venv")
def ansible(session: nox.Session) -> None:
    """Check the Ansible role with ansible-lint, and run it on a machine with systemd. Needs root and the package index."""
    session.install("ansible-core>=2.17,<3", "ansible-lint>=25")
    home = Path(session.create_tmp()).resolve()  # before `chdir`, because the path is relative
    session.chdir("packaging/ansible")
    session.run("ansible-lint", "--offline", "--profile", "production", env={"ANSIBLE_HOME": str(home)})
    session.chdir(ROOT)
    session.run(BIN / "pytest", "tests/packaging/test_ansible.py", *session.posargs, external=True)


@nox.session
def fresh(session: nox.Session) -> None:
    """Install the Debian package in fresh Debian systems, run all tests there, and build the package again.

    Takes an hour each for Debian 12 and 13, and some minutes with `-- --without-tests`. `-- trixie` selects one of them. Needs root.
    """
    packages = ROOT / ".cache/fresh/packages"
    shutil.rmtree(packages, ignore_errors=True)  # packages of an earlier commit
    _debian_packages(session, packages)
    session.run(BIN / "python", "tests/fresh/session.py", *packages.glob("mom_*.deb"), *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Run `mom demo`, with the arguments after `--`."""
    session.run(BIN / "mom", "demo", *session.posargs)


@nox.session
def squeeze(session: nox.Session) -> None:
    """Measure how much memory several managers can take from real guests (docs/squeeze.md). Takes hours, and needs root.

    `-- --quick` runs a small squeeze in ten minutes. Results are in .cache/squeeze. Runs with a result are not repeated.
    """
    program, results = ("benchmarks/squeeze/squeeze.py", f"--results={ROOT / '.cache/squeeze'}")
    if session.posargs == ["--quick"]:
        session.run(BIN / "python", program, "quick", results)
        return
    session.run(BIN / "python", program, "run", results, *session.posargs)
    session.run(BIN / "python", program, "report", results)


@nox.session
def bench(session: nox.Session) -> None:
    """Run all benchmarks `bench_*.py`, which measure time and memory."""
    for script in sorted(ROOT.glob("benchmarks/*/bench_*.py")):
        session.run(BIN / "python", script, *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Search for inputs that break readers of outside data: 100,000 inputs for each reader, at most five minutes each."""
    session.run(BIN / "python", "-m", "pip", "install", "--quiet", "atheris>=3")
    session.run(BIN / "python", "tests/fuzz/session.py", *session.posargs)
    session.run(BIN / "pytest", "mom_plugins_http/tests/test_http_fuzzed.py", env={"MOM_FUZZ_EXAMPLES": "400"})


@nox.session(venv_backend="venv")
def release(session: nox.Session) -> None:
    """Build the files of a release in dist, or in `-- FOLDER`; check them, and list their components (CycloneDX)."""
    session.install("--upgrade", "pip>=25.3")
    session.install("--group", "release", "--constraint", "packaging/requirements.lock")
    session.run("python", "packaging/release.py", *(session.posargs or ["dist"]))


@nox.session
def wheelhouse(session: nox.Session) -> None:
    """Download all wheels that a host without internet needs: `-- FOLDER [EXTRA…]`."""
    session.run(BIN / "python", "packaging/wheelhouse.py", *session.posargs)


@nox.session(venv_backend="venv")
def lock(session: nox.Session) -> None:
    """Update requirements.lock to the newest possible versions, with hashes."""
    session.install("uv>=0.8")
    own = [word for folder in DISTRIBUTIONS for word in ("--no-emit-package", folder.replace("_", "-"))]
    text = "\n".join(f"./{folder}" for folder in DISTRIBUTIONS)
    source = Path(session.create_tmp()) / "requirements.in"
    source.write_text(text)
    plain = ["--no-header", "--no-annotate", "--quiet", "--upgrade", "--generate-hashes"]
    groups = ["--group", "pyproject.toml:dev", "--group", "pyproject.toml:release"]
    universal = ["--universal", "--python-version", "3.11", *groups]
    session.run("uv", "pip", "compile", *universal, *plain, *own, str(source), "--output-file", str(ROOT / "packaging/requirements.lock"))


def _require(session: nox.Session, *programs: str) -> None:
    if missing := [name for name in programs if shutil.which(name) is None]:
        session.error(f"missing programs: {', '.join(missing)}; `./run {session.name}` installs them, and runs this session")


def _clear(names: str) -> None:
    """Remove earlier packages from dist/, so that `apt install ./dist/mom_*.deb` finds only one."""
    for path in (ROOT / "dist").glob(names):
        path.unlink()


def _debian_packages(session: nox.Session, folder: Path) -> None:
    session.run(BIN / "python", "packaging/deb/deb.py", _tree(session), folder)


def _tree(session: nox.Session, *extra: str) -> Path:
    """Build the file tree of a package, from one of mom-core's extras."""
    tree = Path(session.create_tmp()) / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    session.run(BIN / "python", "packaging/tree.py", tree, *extra)
    return tree


def _relative(*patterns: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))
