"""Requests to the worker, a process of its own: it is started when there is something to do, and ended with mom, however mom ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from mom_core import HypervisorError
from mom_plugins_offload.worker import ReclaimRequest

_PROGRAM: Final = Path(__file__).with_name("worker.py")

_MOST_BYTES: Final = 16 << 20
"""An answer of ten thousand guests has 1 MiB."""

_END_SECONDS: Final = 0.15
"""How long the worker may take to end by itself, and again when it is killed: then the kernel ends what it has under way."""


class ReclaimWorker:
    """The process and the pipes to it. Not to be used by two threads at a time; no call waits for the kernel."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._answer = b""
        self._busy = False

    @property
    def busy(self) -> bool:
        """True while it is at work on the last requests."""
        return self._busy

    @property
    def pid(self) -> int | None:
        """Its process, if it runs."""
        return None if self._process is None else self._process.pid

    def send(self, requests: Sequence[ReclaimRequest], seconds: float, cpu_seconds: float) -> None:
        """Have these followed, all together in no more than that time, and with no more CPU time than that.

        Raises `HypervisorError` when there is no worker for it.
        """
        if self._process is None:
            self._process = _started()
        line = json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "requests": [asdict(request) for request in requests]}) + "\n"
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101  # it was asked for
        try:
            pipe.write(line.encode())  # it reads whenever it is not busy: no line waits for longer than the one before it is read
            pipe.flush()
        except OSError as error:
            self.close()
            raise HypervisorError(f"the process that takes memory has ended: {error.strerror}") from error
        self._busy = True

    def answers(self) -> Iterator[Sequence[ReclaimRequest]]:
        """The results of each batch of requests since the last call. A worker that has ended is started anew with the next request."""
        if self._process is None or self._process.stdout is None:
            return
        while True:
            try:
                part = os.read(self._process.stdout.fileno(), 1 << 16)
            except BlockingIOError:
                break
            except OSError:
                part = b""
            if not part or len(self._answer) > _MOST_BYTES:
                self.close()
                return
            self._answer += part
            while b"\n" in self._answer:
                line, _, self._answer = self._answer.partition(b"\n")
                self._busy = False
                yield [ReclaimRequest(**one) for one in json.loads(line)]

    def close(self) -> None:
        """End it. What it has taken stays; nothing else is left of it."""
        process, self._process, self._answer, self._busy = self._process, None, b"", False
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was not sent any more
                    continue
        for end in (process.kill, None):
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                if end is None:  # it waits for a disk that does not answer; it ends when that does
                    return
                end()


def _started() -> subprocess.Popen[bytes]:
    # -I: nothing that the environment or the current folder names is imported.
    try:
        process = subprocess.Popen(  # a program of this distribution
            [sys.executable, "-I", str(_PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", start_new_session=True
        )
    except OSError as error:
        raise HypervisorError(f"the process that takes memory cannot be started: {error.strerror}") from error
    assert process.stdout is not None  # noqa: S101  # it was asked for
    os.set_blocking(process.stdout.fileno(), False)
    return process
