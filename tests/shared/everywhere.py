"""Fixtures and checks for all tests, as a plugin of pytest (named in pyproject.toml)."""

from __future__ import annotations

import gc
import logging
import os
import secrets
import socket
import sys
import textwrap
import tomllib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, PathDistribution, distribution, distributions
from itertools import chain, groupby, islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # it has no types

ROOT = Path(__file__).parents[2]

# Every run tries the same examples, without time limits. `pytest --hypothesis-profile=default` tries other ones.
settings.register_profile("mom", deadline=None, derandomize=True, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("unit", settings.get_profile("mom"), max_examples=10)  # for `nox -s unit`
settings.register_profile("thorough", settings.get_profile("mom"), max_examples=100)  # for `nox -s slow` and `nox -s coverage`
settings.load_profile("mom")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse an environment that was made before a change of the distributions. Tests would fail without a visible reason."""
    stale = [str(path.parent.name) for path in sorted(ROOT.glob("mom_*/pyproject.toml")) if not _as_installed(path)]
    if stale:
        words = " ".join(f"-e {name}" for name in stale)
        raise pytest.UsageError(
            f".venv is older than {', '.join(stale)}: ./run setup, or .venv/bin/pip install --no-deps --no-build-isolation {words}"
        )
    if _leaves_processes_out(config):
        sys.addaudithook(_note_start)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude imported tests from garbage collection: they remain until the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """Skip fsync in the tests' own process, because fsync waits for all other writers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _descriptor: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_server_is_known_to_the_system() -> Iterator[None]:
    """Skip the system's certificates. Test servers have their own, and reading the system's takes longer than most requests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl.SSLContext.load_default_certs", lambda _context, _purpose=None: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _what_is_installed_stays_so() -> Iterator[None]:
    """Read the metadata of installed distributions once, because each configuration reads all of them."""
    read, known = PathDistribution.read_text, dict[tuple[str, str], str | None]()

    def read_once(one: PathDistribution, filename: str) -> str | None:
        key = str(one._path), filename
        if not key[0].startswith(sys.prefix):
            return read(one, filename)
        if key not in known:
            known[key] = read(one, filename)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PathDistribution, "read_text", read_once)
        yield


@pytest.fixture(autouse=True)
def _umask_is_as_before() -> Iterator[None]:
    """Restore the umask after each test: mom changes it in the test's process."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


_WEIGHTS = {"processes": 1, "long": 10, "waits": 10}
"""Weights of marks. Tests that wait or take long begin first, so that no worker waits for them at the end."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run long tests first, if several workers run tests.

    Each worker first gets an equal part of the list. Later, idle workers take tests from the end of the longest part. So long tests are
    at the beginning of each part. Tests of one file stay together, because they share daemons and browsers.
    """
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    if workers == 1:
        return
    if config.option.loadgroup:
        items.sort(key=lambda item: item.path.stem.removeprefix("test_real_") not in _FileByFile.FIRST)
        return
    files = [list(tests) for _, tests in groupby(items, key=lambda item: item.path)]
    long = [sum(weight for item in tests for mark, weight in _WEIGHTS.items() if item.get_closest_marker(mark)) for tests in files]
    parts: list[list[pytest.Item]] = [[] for _ in range(workers)]
    given = [0] * workers
    for number in sorted(range(len(files)), key=lambda number: -long[number]):
        if long[number]:
            least = given.index(min(given))
            parts[least] += files[number]
            given[least] += long[number]
    quick = iter([item for number, tests in enumerate(files) if not long[number] for item in tests])
    for number, part in enumerate(parts):
        part.extend(islice(quick, max(0, (len(items) + number) // workers - len(part))))
    items[:] = [*chain(*parts), *quick]


class _FileByFile(LoadScopeScheduling):  # type: ignore[misc]  # as above
    """Scheduler that keeps tests of one file together, because they share a libvirtd and guests."""

    FIRST = ("agents", "cgroup", "eviction", "kinds", "kubernetes_node", "numa", "offload", "qos", "service", "two_moms")
    """Files that take a minute or more. They begin first, so that no worker waits for them at the end."""

    _CONTROL_GROUPS = ("test_real_numa", "test_real_offload", "test_real_qos")
    """Files whose libvirtd makes the control group of all guests on this host. They run one after another."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0])
        return "control groups" if file.stem in self._CONTROL_GROUPS else str(file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _FileByFile | None:
    """Return this scheduler for `--dist loadgroup`. With pytest 9.2, pytest-xdist 3.8 ignores marks of groups (its issue 1386)."""
    return _FileByFile(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def mypy_options() -> list[str]:
    """Return options for mypy. All tests and runs share a cache of files, because processes would wait for a locked database."""
    return ["--no-sqlite-cache", "--cache-dir", str(ROOT / ".cache/mypy/plugins")]


@pytest.fixture(scope="session")
def authors_pytest() -> list[str]:
    """Return options that leave out plugins of pytest that authors do not have. Importing them takes long."""
    return ["-pno:cloudcoil", "-pno:schemathesis"]


# --- tests that start processes --------------------------------------------------------------------------------------------------------

WITH_PROCESSES = frozenset(
    {"benchmarks", "cli", "demo", "embedding", "fleet", "kit", "momd", "packaging", "real", "vdsm", "watching", "workspace"}
)
"""Folders of tests/ whose tests all have the mark `processes`. Elsewhere, each test that starts processes has the mark."""

_STARTS = frozenset({"subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn"})
_started: list[str] = []


def _note_start(event: str, arguments: tuple[object, ...]) -> None:
    if event in _STARTS and arguments[:1] != ("fc-list",):  # matplotlib lists the fonts once on each machine
        _started.append(f"{event}: {arguments[0] if arguments else ''}"[:200])


@pytest.fixture(autouse=True)
def _in_this_process() -> Iterator[None]:
    """Fail a test that starts processes without the mark `processes`."""
    _started.clear()
    yield
    if _started:
        pytest.fail(f"this test starts processes, but has no mark `processes`: {', '.join(_started)}")


def _leaves_processes_out(config: pytest.Config) -> bool:
    return "not processes" in config.getoption("markexpr")


@cache
def _with_processes(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts if path.is_relative_to(ROOT) else ()
    return parts[:1] == ("tests",) and not WITH_PROCESSES.isdisjoint(parts[1:2])


def _all_marked(path: Path) -> bool:
    return path.match("test_*.py") and "\npytestmark = pytest.mark.processes\n" in path.read_text()


@cache
def _none_marked(path: Path) -> bool:
    """Return whether the file's text contains neither the mark nor the fixture `mom_power`, which starts a helper process."""
    if not path.match("test_*.py") or _with_processes(path):
        return False
    text = path.read_text()
    return "mark.processes" not in text and "mom_power" not in text


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import files whose tests are all deselected: some imports take a second."""
    if _leaves_processes_out(config):
        return _with_processes(collection_path) or _all_marked(collection_path) or None
    if config.getoption("markexpr").endswith(" and processes"):
        return _none_marked(collection_path) or None
    return None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests in folders of `WITH_PROCESSES`. Refuse marks that `_none_marked` does not find."""
    if _with_processes(item.path):
        item.add_marker("processes")
    elif item.get_closest_marker("processes") and _none_marked(item.path):
        raise pytest.UsageError(f"{item.nodeid} is marked `processes`, but _none_marked in {__file__} does not find the mark in its file")


def _as_installed(pyproject: Path) -> bool:
    project = tomllib.loads(pyproject.read_text())["project"]
    groups = {"console_scripts": project.get("scripts", {}), **project.get("entry-points", {})}
    stated = {(group, name, target) for group, entries in groups.items() for name, target in entries.items()}
    try:
        return {(point.group, point.name, point.value) for point in distribution(project["name"]).entry_points} == stated
    except PackageNotFoundError:
        return False


def _levels() -> dict[str, tuple[int, bool, bool]]:
    ours = ((name, logger) for name, logger in logging.root.manager.loggerDict.items() if name.split(".", 1)[0] == "mom")
    return {name: (logger.level, logger.propagate, logger.disabled) for name, logger in ours if isinstance(logger, logging.Logger)}


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Fail a test that leaves mom's loggers changed. Otherwise, a later test would fail."""
    before = _levels()
    yield
    changed = {name: state for name, state in _levels().items() if state != before.get(name, (logging.NOTSET, True, False))}
    for name in changed:
        logger = logging.getLogger(name)
        level, logger.propagate, logger.disabled = before.get(name, (logging.NOTSET, True, False))
        logger.setLevel(level)  # also clears the caches of loggers below
    if changed:
        pytest.fail(f"loggers left with another (level, propagate, disabled): {changed}")


# --- fixtures for several folders ---------------------------------------------------------------------------------------------


@pytest.fixture
def mom(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in the test's process. Return its exit code, standard output and standard error."""
    from mom_daemon.cli import frame

    def run(*arguments: object) -> tuple[int, str, str]:
        code = frame.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def unused_port() -> Callable[[], int]:
    """Return a function that finds a free TCP port of the loopback, below the kernel's ephemeral ports."""

    def find() -> int:
        while True:
            port = 10_000 + secrets.randbelow(20_000)
            with socket.socket() as sock, suppress(OSError):
                sock.bind(("127.0.0.1", port))
                return port

    return find


@pytest.fixture
def free_port(unused_port: Callable[[], int]) -> int:
    """Return a free port for one test."""
    return unused_port()


# --- distributions for one test ----------------------------------------------------------------------------------------

PLUGIN = '''
from mom_core import PluginSettings, GuestSettings, hookimpl

class Plugin:
    """A plugin for tests."""


    def __init__(self, settings, context):
        self.settings, self.context = settings, context
'''


class Shelf:
    """Folder on the import path with distributions: modules and metadata, as pip installs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modules: set[str] = set()

    def add(
        self,
        distribution: str,
        entries: Mapping[str, str],
        code: Mapping[str, str] | None = None,
        *,
        version: str = "1.0",
        requires: Sequence[str] = (),
    ) -> None:
        """Install a distribution with these plugins (name to `module:Class`) and modules (name to source)."""
        folder = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir(parents=True)
        needed = "".join(f"Requires-Dist: {one}\n" for one in requires)
        about = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\nSummary: A test.\n{needed}"
        (folder / "METADATA").write_text(about + "\nAll about it.\n\nRequires-Dist: mom-core>=99\n")
        lines = "".join(f"{name} = {target}\n" for name, target in entries.items())
        (folder / "entry_points.txt").write_text(f"[mom.plugins]\n{lines}")
        for name, source in (code or {}).items():
            self.modules.add(name)
            (self.folder / f"{name}.py").write_text(textwrap.dedent(source))

    def add_plugin(
        self, name: str, body: str = "", *, before: str = "", distribution: str = "", version: str = "1.0", requires: Sequence[str] = ()
    ) -> None:
        """Install a distribution with one plugin. Its class has an `__init__`, and `body`."""
        module = f"shelf_{name}"
        source = PLUGIN.replace("class Plugin:", f"{textwrap.dedent(before)}\nclass Plugin:", 1) + textwrap.indent(
            textwrap.dedent(body), "    "
        )
        self.add(distribution or f"acme-{name}", {name: f"{module}:Plugin"}, {module: source}, version=version, requires=requires)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """Return an empty shelf before the installed distributions."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    made = Shelf(folder)
    yield made
    for module in made.modules:
        sys.modules.pop(module, None)


@pytest.fixture
def only_shelf(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """Return a shelf that hides all distributions except mom's own commands."""
    monkeypatch.setattr(
        "mom_core.plugins.discovery.distributions", lambda: [*distributions(path=[str(shelf.folder)]), *distributions(name="mom-daemon")]
    )
    return shelf
