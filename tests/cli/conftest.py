"""Fixtures with mom as a process, on hosts of files and on simulated hosts."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from mom_on_files import Mom, ending

SIMULATED = """
interval: 200ms
state_directory: {folder}/state
run_directory: {folder}/run
mode: enforce
plugins:
  sim: {{guests: 6}}
  balloon: {{}}
  ksm: {{}}
  policy: {{}}
  http: {{}}
  record: {{}}
guests:
  "*": {{guarantee: 200MiB}}
"""


@pytest.fixture(scope="module")
def moms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Mom]]:
    """Return a factory for hosts of one test file."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(ending(tmp_path_factory.mktemp("mom")))


@pytest.fixture(scope="module")
def simulated(moms: Callable[[], Mom]) -> Mom:
    """Return a running mom on a simulated host, with a socket and a recording. All tests of a file share it, and do not change it."""
    mom = moms()
    mom.config.write_text(SIMULATED.format(folder=mom.directory))
    mom.start()
    mom.wait_for(lambda: mom.status().get("cycle", {"number": 0})["number"] > 3)
    return mom


@pytest.fixture
def mom(tmp_path: Path) -> Iterator[Mom]:
    with ending(tmp_path) as one:
        yield one
    shutil.rmtree(one.root)
