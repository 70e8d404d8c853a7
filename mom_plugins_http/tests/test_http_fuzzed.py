"""Random requests from the API's description to a mom process over TLS: no server errors, all answers as described, no leaks."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from http_over_tcp import tcp_settings

from mom_devkit import wait_until

schemathesis = pytest.importorskip("schemathesis", minversion="4.0")
requests = pytest.importorskip("requests")

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402  # what the test needs may be missing
from schemathesis import checks as found_checks  # noqa: E402  # as above
from schemathesis.specs.openapi import checks as api_checks  # noqa: E402  # as above

pytestmark = pytest.mark.processes

if TYPE_CHECKING:
    from schemathesis import APIOperation, Case

EXAMPLES = int(os.environ.get("MOM_FUZZ_EXAMPLES", "4"))
"""Number of requests for each operation and kind; more for a longer run."""

CHECKS = [
    found_checks.not_a_server_error,
    api_checks.status_code_conformance,
    api_checks.content_type_conformance,
    api_checks.response_headers_conformance,
    api_checks.response_schema_conformance,
    api_checks.unsupported_method,
    api_checks.allow_header_conformance,
]

WARM = 0.3
"""Allowed growth of memory while caches fill, as a ratio. A leak of some KiB per request is more."""


@dataclass(frozen=True)
class Daemon:
    """mom as a process, with its address."""

    process: subprocess.Popen[bytes]
    url: str
    ca: Path
    folder: Path
    headers: dict[str, str]

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    @property
    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def session(self) -> Any:
        made = requests.Session()
        made.verify = str(self.ca)
        made.headers.update(self.headers)
        return made


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, unused_port: Callable[[], int]) -> Iterator[Daemon]:
    folder, port = tmp_path_factory.mktemp("fuzzed"), unused_port()
    tcp = tcp_settings(folder, port, change="change" * 8)
    plugins = {"sim": {}, "balloon": {}, "ksm": {}, "policy": {}, "sla": {}, "http": {"tcp": tcp}}
    config = {
        "interval": "1s",
        "state_directory": str(folder / "s"),
        "run_directory": str(folder / "r"),
        "mode": "enforce",
        "plugins": plugins,
    }
    (folder / "mom.yaml").write_text(yaml.safe_dump(config))
    command = [str(Path(sys.executable).parent / "mom"), "run", "-c", str(folder / "mom.yaml")]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        made = Daemon(process, f"https://127.0.0.1:{port}", folder / "cert.pem", folder, {"authorization": f"Bearer {'change' * 8}"})
        try:
            wait_until(lambda: _answers(made), (folder / "log").read_text)
            yield made
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _answers(daemon: Daemon) -> bool:
    assert daemon.process.poll() is None, (daemon.folder / "log").read_text()
    with suppress(httpx.HTTPError):
        return _ask(daemon, "/v1/status").status_code == 200
    return False


def _ask(daemon: Daemon, path: str) -> httpx.Response:
    return httpx.get(daemon.url + path, headers=daemon.headers, verify=ssl.create_default_context(cafile=str(daemon.ca)), timeout=60)


def operations(daemon: Daemon) -> list[APIOperation]:
    """Return all operations except streams of events, which have another test."""
    schema = schemathesis.openapi.from_dict(_ask(daemon, "/v1/openapi.json").json())
    schema.config.base_url = daemon.url
    return [found.ok() for found in schema.get_all_operations() if found.ok().path != "/v1/events"]


def drawn(operation: APIOperation, mode: Any, examples: int) -> list[Case]:
    """Return requests of one kind to an operation; none if the kind is impossible, such as invalid requests without parameters."""
    cases: list[Case] = []

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def one(case: Case) -> None:
        cases.append(case)

    try:
        one()
    except Exception as error:  # an error of hypothesis, or of schemathesis around it: its name or text shows it
        if "Unsatisfiable" not in type(error).__name__ and "Unsatisfiable" not in str(error):
            raise
    return cases


@pytest.mark.long
def test_no_request_is_a_mistake_of_moms_and_none_leaves_anything_behind(daemon: Daemon) -> None:
    found = operations(daemon)
    assert len(found) > 25
    # Drawing takes longer than sending, and both rounds must be equal.
    kinds = [(operation, mode, drawn(operation, mode, EXAMPLES)) for operation in found for mode in schemathesis.GenerationMode]
    sizes: list[tuple[int, int]] = []
    wrong = []
    for _ in range(2):  # the first round fills caches and histories
        with daemon.session() as session:
            for operation, mode, cases in kinds:
                for case in cases:
                    try:
                        case.call_and_validate(session=session, checks=CHECKS, timeout=60, verify=session.verify)
                    except AssertionError as error:
                        wrong.append(f"{operation.label} ({mode.value}): {error}")
                    except ExceptionGroup as errors:
                        wrong.append(f"{operation.label} ({mode.value}): {[str(one) for one in errors.exceptions]}")
                    except Exception as error:  # noqa: BLE001  # such as a connection that was ended
                        wrong.append(f"{operation.label} ({mode.value}): {type(error).__name__}: {error}")
        time.sleep(1.5)  # mom cleans up ended connections once a second
        wait_until(lambda: not sizes or daemon.descriptors <= sizes[0][0] + 2)
        sizes.append((daemon.descriptors, daemon.resident_kib))
        assert daemon.process.poll() is None
        assert _ask(daemon, "/v1/status").status_code == 200
    assert not wrong, "\n\n".join(wrong)
    (_, before_kib), (_, after_kib) = sizes
    assert after_kib <= before_kib * (1 + WARM), "memory grows with each round"
    log = (daemon.folder / "log").read_text()
    assert "Traceback" not in log, log[-4000:]
