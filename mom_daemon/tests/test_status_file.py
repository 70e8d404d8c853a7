"""The status file: whatever a plugin has for a value, and whatever the disk does, the cycle goes on."""

import errno
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mom_core import Engine, FieldSpec, GuestColumn, Scope, Unit, Value, hookimpl
from mom_core.testing import snapshot
from mom_daemon.status import StatusFile
from mom_daemon.supervision import Supervision
from mom_devkit import config_of, wait_until


def test_a_full_disk_leaves_the_old_status_with_a_new_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = StatusFile(tmp_path)
    with Engine(config_of(tmp_path, {})) as engine:
        file.write(engine, engine.cycle())
        before = file.path.read_bytes()
        os.utime(file.path, (1, 1))
        monkeypatch.setattr("mom_daemon.status.replace_file", full)
        file.write(engine, engine.cycle())
    assert file.path.read_bytes() == before
    assert file.path.stat().st_mtime > time.time() - 60


def test_a_folder_that_cannot_be_changed_keeps_nothing_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with Engine(config_of(tmp_path, {})) as engine:
        monkeypatch.setattr(Path, "unlink", read_only)
        StatusFile(tmp_path).remove()
        Supervision().ended(engine)
    assert [line.partition(f"{tmp_path}")[0] for line in caplog.messages] == ["cannot remove "] * 2


class Asks:
    """Has a column that waits for an answer."""

    answered: threading.Event

    def __init__(self, settings: object, context: object) -> None:
        pass

    @hookimpl
    def mom_declare(self) -> list[FieldSpec | GuestColumn]:
        def made(fields: Mapping[str, Value]) -> Value:
            self.answered.wait(60)
            return 1

        return [FieldSpec("heat", Unit.COUNT, Scope.GUEST, "how hot"), GuestColumn("heat", ("heat",), Unit.COUNT, "how hot", made=made)]


@pytest.fixture
def answered() -> Iterator[threading.Event]:
    Asks.answered = threading.Event()
    yield Asks.answered
    Asks.answered.set()


def test_a_column_that_waits_keeps_no_cycle(tmp_path: Path, caplog: pytest.LogCaptureFixture, answered: threading.Event) -> None:
    file = StatusFile(tmp_path)
    with Engine(config_of(tmp_path, {"asks": Asks})) as engine:
        report = replace(engine.cycle(), snapshot=snapshot(guests={"a": {"heat": 5}}))
        began = time.monotonic()
        for _ in range(3):
            file.write(engine, report)
        assert time.monotonic() - began < 30, "not for as long as it waits"
        assert caplog.messages == [f"cannot write {file.path}: the status of an earlier cycle is still being written"]
        assert file.path.read_bytes() == b""
        answered.set()
        wait_until(file.path.read_bytes)
        file.write(engine, report)
    guests = json.loads(file.path.read_text())["guests"]
    assert dict(zip(guests["columns"], guests["rows"][0], strict=True))["column.heat"] == 1


def test_what_is_made_after_the_end_is_no_status(tmp_path: Path, answered: threading.Event) -> None:
    file = StatusFile(tmp_path)
    with Engine(config_of(tmp_path, {"asks": Asks})) as engine:
        file.write(engine, replace(engine.cycle(), snapshot=snapshot(guests={"a": {"heat": 5}})))
    file.remove()
    answered.set()
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name == "mom-status"])
    assert not file.path.exists()
