"""All checks, one session for each; `./run tests` runs the default list. Sessions run in the environment that `run` has set up."""

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

AS_FAR_AS_ANNOTATED = [
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
"""Options for tests: annotations may be missing, but must be right."""


APART = ("benchmarks", "fleet", "packaging", "watching", "workspace")
"""Folders below tests/ whose tests run other programs, such as servers, browsers and systemd. Coverage leaves them out."""

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # tests start mom a thousand times: each would compile all that it imports

CORES = os.cpu_count() or 1

FEW_WORKERS = ("-n", str(CORES + 1), "--dist", "worksteal")
"""One worker more than cores, as some tests wait. Idle workers take tests from others: a few tests take a minute, most a moment."""

ALL_CORES = ("-n", str(2 * CORES + 2), "--dist", "worksteal")
"""Two workers per core and two more: tests of daemons and servers wait for more than half of their time."""

MEMORY, LEAST_MIB_IN_MEMORY = Path("/dev/shm"), 4096  # noqa: S108  # it is not one file with a name that is known beforehand

SOME_FILES = ("-n", str(min(CORES + 2, 6)), "--dist", "loadgroup", "--no-loadscope-reorder")
"""Two workers more than cores: tests with real guests mostly wait, each file for its own guests. Files run in the order of their names."""

TESTS_FAILED, NO_TESTS = 1, 5
"""pytest's exit codes for failed tests and for no tests."""

FEW, FEW_FILES = 10, 2
"""Limits for a second run. So many failed tests, or files, can be due to a busy machine; more are due to the change."""

FAILED_BEFORE = ROOT / ".pytest_cache/v/cache/lastfailed"
"""pytest's list of failed tests, as JSON."""

REAL, ALONE = "real and not alone", "real and alone"
"""Tests about the whole host run alone, one by one."""

WITHOUT_GUESTS = "not real and not release"
IN_ONE_PROCESS = f"{WITHOUT_GUESTS} and not processes"
QUICK = f"{IN_ONE_PROCESS} and not long"


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests but those of a release, one kind after the other: in one process, of processes, with real guests, and alone.

    Not side by side: a server of a test that gets no core for a second is late, and a guest without hardware virtualization takes all.
    Those that only compute beside those with real guests would save one minute of eleven.
    """
    _twice(session, IN_ONE_PROCESS, FEW_WORKERS, session.posargs, _in_memory())
    _twice(session, f"{WITHOUT_GUESTS} and processes", ALL_CORES, session.posargs, _in_memory())
    real(session)


@nox.session
def unit(session: nox.Session) -> None:
    """Run the quick tests that stay in one process, for use after each change. One distribution: `pytest mom_plugins_ksm`.

    Where a test does not say how many examples it tries, they are 10 here, and else 100.
    """
    session.run(BIN / "pytest", *FEW_WORKERS, "--hypothesis-profile=unit", "-m", QUICK, *session.posargs, env=_in_memory())


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests without a hypervisor that `unit` leaves out: daemons, servers, browsers, many inputs, long simulations."""
    chosen = f"{WITHOUT_GUESTS} and (processes or long)"
    session.run(BIN / "pytest", *ALL_CORES, "-m", chosen, *session.posargs, env=_in_memory())


@nox.session
def coverage(session: nox.Session) -> None:
    """Report the share of lines and branches that tests reach, by file; pages in `.cache/coverage` show the others."""
    apart = [f"--ignore=tests/{name}" for name in APART]
    reports = ["--cov", "--cov-report=term:skip-covered", f"--cov-report=html:{ROOT / '.cache/coverage'}"]
    session.run(BIN / "pytest", *ALL_CORES, "-m", WITHOUT_GUESTS, *apart, *reports, *session.posargs, env=_in_memory())


@nox.session
def real(session: nox.Session) -> None:
    """Run tests with real libvirt, QEMU guests and KSM. Skips without a hypervisor, unless MOM_REQUIRE_REAL=1.

    Of the files that are given after `--`, or of those that have some: to look into all others takes as long as some of these tests.
    """
    names = _relative("mom_*/tests/test_*.py", "tests/**/test_*.py")
    chosen = session.posargs or [name for name in names if "mark.real" in (ROOT / name).read_text()]
    _twice(session, REAL, SOME_FILES, chosen)
    _twice(session, ALONE, (), chosen)


def _in_memory() -> dict[str, str]:
    """Return the environment that puts temporary files into memory, if that has room for them.

    Half of the time of checks of plugins went into files: ext4 searches for a free inode for each new file.
    """
    room = shutil.disk_usage(MEMORY).free if os.access(MEMORY, os.W_OK) else 0
    if room < LEAST_MIB_IN_MEMORY << 20 or "TMPDIR" in os.environ:
        return {}
    return {"TMPDIR": str(MEMORY)}


def _twice(session: nox.Session, kind: str, workers: Sequence[str], chosen: Sequence[str], env: dict[str, str] | None = None) -> None:
    """Run all tests of one kind. A few that failed run once more by themselves and must pass: other tests may have kept the cores busy."""
    FAILED_BEFORE.unlink(missing_ok=True)  # of this run only
    codes = [0, NO_TESTS] if session.posargs else [0]  # of tests that are chosen, none may be of this kind
    session.run(BIN / "pytest", *workers, "-m", kind, *chosen, env=env, success_codes=[*codes, TESTS_FAILED])
    failed = json.loads(FAILED_BEFORE.read_text(encoding="utf-8")) if FAILED_BEFORE.exists() else {}
    files = {name.partition("::")[0] for name in failed}
    if len(failed) > FEW and len(files) > FEW_FILES:
        session.error(f"{len(failed)} tests failed, in {len(files)} files")
    if failed:
        session.warn(f"failed beside others, and must pass by themselves: {', '.join(failed)}")
        again = ("--last-failed", "--last-failed-no-failures=none")
        session.run(BIN / "pytest", "-m", kind, *again, *chosen, env=env, success_codes=[0, NO_TESTS])


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of all sources strictly, and of tests where they have annotations.

    What mypy keeps of the sources is by its options: one cache for all three ways would be thrown away twice in each run.
    """
    mypy, kept = str(BIN / "mypy"), "--cache-dir=.cache/mypy"
    sources = [f"{folder}/src" for folder in [*DISTRIBUTIONS, *EXAMPLES]]
    packaging = [f"packaging/{name}*.py" for name in ("", "cockpit/", "deb/", "kubernetes/", "oci/", "rpm/")]
    scripts = ["noxfile.py", *_relative("docs/*.py", *packaging)]
    tests = _by_names(_relative("mom_*/tests/*.py", "examples/*/tests/*.py", "tests/*/*.py"))
    benchmarks = ["--strict", "--follow-imports=silent", f"{kept}/benchmarks"]
    _side_by_side(
        session,
        [[mypy, "--strict", *sources, *scripts, *session.posargs]],
        [[mypy, *benchmarks, *_relative("benchmarks/*/*.py"), *session.posargs]],
        [[mypy, *AS_FAR_AS_ANNOTATED, f"{kept}/tests", *files, *session.posargs] for files in tests],
    )


def _by_names(files: Sequence[str]) -> list[list[str]]:
    """Group files of tests for as few runs of mypy as possible, which halves the time of a run for each folder.

    In one run, no two files have the same name, as each folder's conftest has: it is there by a link to it. A folder whose tests import
    their conftest is checked by itself.
    """
    links = ROOT / ".cache/conftests"
    shutil.rmtree(links, ignore_errors=True)
    links.mkdir(parents=True)
    folders = {str(Path(file).parent) for file in files}
    apart = {name for name in folders if any("\nfrom conftest import" in path.read_text() for path in (ROOT / name).glob("*.py"))}
    together: dict[str, str] = {}
    for file in files:
        path = Path(file)
        if str(path.parent) in apart:
            continue
        if path.name == "conftest.py" or path.name in together:
            link = links / file.replace("/", "_").replace("-", "_")
            link.symlink_to(ROOT / file)
            path = link.relative_to(ROOT)
        together[path.name] = str(path)
    return [list(together.values()), *([file for file in files if str(Path(file).parent) == name] for name in sorted(apart))]


def _side_by_side(session: nox.Session, *series: Sequence[Sequence[str]]) -> None:
    """Run several series of commands side by side, and show their output in order."""

    def run(commands: Sequence[Sequence[str]]) -> list[subprocess.CompletedProcess[str]]:
        return [subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False) for command in commands]

    with ThreadPoolExecutor(len(series)) as threads:
        done = [one for finished in threads.map(run, series) for one in finished]
    for one in done:
        session.log(" ".join(one.args))
        sys.stdout.write(one.stdout)
    sys.stdout.flush()
    if failed := [" ".join(one.args) for one in done if one.returncode]:
        session.error(f"{len(failed)} of {len(done)} ended with an error, the first of them: {failed[0]}")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and import contracts."""
    session.run(BIN / "ruff", "check", ".")
    session.run(BIN / "ruff", "format", "--check", ".")
    sources = os.pathsep.join(str(ROOT / folder / "src") for folder in [*DISTRIBUTIONS, *EXAMPLES])  # none of them has to be installed
    session.run(BIN / "lint-imports", "--cache-dir", ".cache/imports", env={"PYTHONPATH": sources})


@nox.session
def docs(session: nox.Session) -> None:
    """Check the documents: every hook, field, control, setting and verb is in them, and their examples run."""
    session.run(BIN / "pytest", "tests/workspace", *session.posargs)


@nox.session
def site(session: nox.Session) -> None:
    """Build the documents as a site, warnings as errors. `-- --version 0.1 --to FOLDER` puts it into a folder beside other versions."""
    session.run(BIN / "python", "docs/build_site.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build and test every package of mom, for indexes and for systems, before a release or after a change of what is installed.

    Needs the package index, and `./run tests -s build` for the tools of other systems' packages.
    """
    session.run(BIN / "pytest", "tests/packaging", *session.posargs)


@nox.session
def deb(session: nox.Session) -> None:
    """Build the Debian packages mom and cockpit-mom, for Debian 12 and 13, in dist/. Builds are reproducible. Needs the package index."""
    _made_with(session, "dpkg-deb", "strip")
    _clear("*.deb")
    _debian_packages(session, ROOT / "dist")


@nox.session
def rpm(session: nox.Session) -> None:
    """Build RPMs of the same tree in dist/, for systems with systemd and Python 3.11 to 3.14. Needs rpmbuild and the package index."""
    _made_with(session, "rpmbuild", "strip")
    _clear("*.rpm")
    session.run(BIN / "python", "packaging/rpm/rpm.py", _tree(session), ROOT / "dist")


@nox.session
def image(session: nox.Session) -> None:
    """Build a container image of the same tree, for `mom demo` and `mom fleet coordinator`: dist/mom.oci.tar. Needs root and mmdebstrap.

    `-- --node`: the one for the nodes of a cluster with KubeVirt, dist/mom-node.oci.tar, of what these need.
    """
    _made_with(session, "mmdebstrap", "strip")
    (ROOT / "dist").mkdir(exist_ok=True)
    node = session.posargs == ["--node"]
    if session.posargs and not node:
        session.error(f"{' '.join(session.posargs)}: there is --node, or nothing")
    tree, file = _tree(session, *(["kubevirt"] if node else [])), "mom-node.oci.tar" if node else "mom.oci.tar"
    session.run(BIN / "python", "packaging/oci/image.py", *session.posargs, tree, ROOT / "dist" / file)
    session.log(f"dist/{file}: {(ROOT / 'dist' / file).stat().st_size >> 20} MiB")


@nox.session(venv_backend="venv")
def ansible(session: nox.Session) -> None:
    """Check the Ansible role with ansible-lint and on a machine with systemd. As root; needs the package index."""
    session.install("ansible-core>=2.17,<3", "ansible-lint>=25")
    home = Path(session.create_tmp()).resolve()  # before the folder is another one, in which it would be made
    session.chdir("packaging/ansible")
    session.run("ansible-lint", "--offline", "--profile", "production", env={"ANSIBLE_HOME": str(home)})
    session.chdir(ROOT)
    session.run(BIN / "pytest", "tests/packaging/test_ansible.py", *session.posargs, external=True)


@nox.session
def fresh(session: nox.Session) -> None:
    """Test the Debian package in fresh Debians with systemd, and build the same package there again.

    An hour each for Debian 12 and 13, as root; minutes with `-- --without-tests`. `-- trixie` for one of them.
    """
    made = ROOT / ".cache/fresh/packages"
    shutil.rmtree(made, ignore_errors=True)  # an earlier version's would be taken for this one's
    _debian_packages(session, made)
    session.run(BIN / "python", "tests/fresh/session.py", *made.glob("mom_*.deb"), *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Relieve a simulated host under pressure; arguments after `--` go to `mom demo`."""
    session.run(BIN / "mom", "demo", *session.posargs)


@nox.session
def squeeze(session: nox.Session) -> None:
    """Measure how much memory several managers can take from real guests, as docs/squeeze.md shows. Takes hours. As root.

    `-- --quick`: a small one in ten minutes, with its table and picture.
    Results are kept in .cache/squeeze; a finished run is not repeated.
    """
    program, kept = ("benchmarks/squeeze/squeeze.py", f"--results={ROOT / '.cache/squeeze'}")
    if session.posargs == ["--quick"]:
        session.run(BIN / "python", program, "quick", kept)
        return
    session.run(BIN / "python", program, "run", kept, *session.posargs)
    session.run(BIN / "python", program, "report", kept)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the time and memory of a cycle, side by side in one run."""
    for script in sorted(ROOT.glob("benchmarks/*/bench_*.py")):
        session.run(BIN / "python", script, *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Search for inputs that break readers of outside data: 100,000 of a kind, or as many as fit into five minutes."""
    session.run(BIN / "python", "-m", "pip", "install", "--quiet", "atheris>=3")
    session.run(BIN / "python", "tests/fuzz/session.py", *session.posargs)
    session.run(BIN / "pytest", "mom_plugins_http/tests/test_http_fuzzed.py", env={"MOM_FUZZ_EXAMPLES": "400"})


@nox.session(venv_backend="venv")
def release(session: nox.Session) -> None:
    """Build a release's files, check them as an index would, and list their components (CycloneDX); `-- FOLDER`, or `dist`."""
    session.install("--upgrade", "pip>=25.3")
    session.install("--group", "release", "--constraint", "packaging/requirements.lock")
    session.run("python", "packaging/release.py", *(session.posargs or ["dist"]))


@nox.session
def wheelhouse(session: nox.Session) -> None:
    """Fill a folder with all wheels that a host without internet needs: `-- FOLDER [EXTRA…]`."""
    session.run(BIN / "python", "packaging/wheelhouse.py", *session.posargs)


@nox.session(venv_backend="venv")
def lock(session: nox.Session) -> None:
    """Write requirements.lock anew: the newest versions that fit, with hashes, for checks, releases and the distributions."""
    session.install("uv>=0.8")
    own = [word for folder in DISTRIBUTIONS for word in ("--no-emit-package", folder.replace("_", "-"))]
    text = "\n".join(f"./{folder}" for folder in DISTRIBUTIONS)
    wanted = Path(session.create_tmp()) / "requirements.in"
    wanted.write_text(text)
    plain = ["--no-header", "--no-annotate", "--quiet", "--upgrade", "--generate-hashes"]
    groups = ["--group", "pyproject.toml:dev", "--group", "pyproject.toml:release"]
    universal = ["--universal", "--python-version", "3.11", *groups]
    session.run("uv", "pip", "compile", *universal, *plain, *own, str(wanted), "--output-file", str(ROOT / "packaging/requirements.lock"))


def _made_with(session: nox.Session, *programs: str) -> None:
    if missing := [name for name in programs if shutil.which(name) is None]:
        session.error(f"there is no {' and no '.join(missing)}: `./run {session.name}` installs what is missing, and then does the same")


def _clear(names: str) -> None:
    """Remove packages of earlier commits from dist/, so that `apt install ./dist/mom_*.deb` finds one."""
    for path in (ROOT / "dist").glob(names):
        path.unlink()


def _debian_packages(session: nox.Session, folder: Path) -> None:
    session.run(BIN / "python", "packaging/deb/deb.py", _tree(session), folder)


def _tree(session: nox.Session, *extra: str) -> Path:
    """Build the file tree of a system's package, from one of mom-core's extras."""
    tree = Path(session.create_tmp()) / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    session.run(BIN / "python", "packaging/tree.py", tree, *extra)
    return tree


def _relative(*patterns: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))
