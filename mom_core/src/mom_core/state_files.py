"""State files, which survive restarts of mom.

A state file is one line of JSON:

    {"state":"ledger","version":1,"crc32":"0a1b2c3d","content":…}

The checksum covers kind, version and the content's bytes. Later versions of mom must keep this frame. Each change of the content's
format increases `version`.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from mom_core.errors import StateError
from mom_core.files import advice_when_denied, read_file, replace_file

if TYPE_CHECKING:
    from pydantic import TypeAdapter

LARGEST_BYTES: Final = 64 << 20

MOST_SET_ASIDE: Final = 10

ADVICE: Final = "read the file, correct the effects of its loss by hand, then delete it; if this recurs, free space or check the disk"

_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_FRAME: Final = re.compile(
    rb'\{"state":"([a-z0-9_-]{1,64})","version":([1-9][0-9]{0,8}),"crc32":"([0-9a-f]{8})","content":(.*)\}\n', re.DOTALL
)
_FRAME_BYTES: Final = 256

_ASIDE: Final = re.compile(r"(.+)\.(?:damaged|later)-[0-9]{1,2}")

_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

Content = TypeVar("Content")


class StateFile(Generic[Content]):
    """State file. Not thread-safe.

    A damaged file, or the file of a newer mom, is renamed (`NAME.damaged-1`, `NAME.later-1`, …). Of ten such files, the last is
    overwritten. The log and `damage` say why.

    :param path: path, whose name up to the first dot is the file's kind
    :param what: name in messages, such as "the file of reservations"
    :param form: strict pydantic `TypeAdapter`, or a function that converts the JSON value and raises if it is invalid
    :param loss: consequence of damage, such as "all reservations have ended"
    :param version: version of the content; other versions are not read
    :param sets_aside: True if a read renames a damaged file; False if only a write does
    """

    def __init__(
        self,
        path: Path,
        what: str,
        form: TypeAdapter[Content] | Callable[[Any], Content],
        *,
        loss: str = "",
        version: int = 1,
        mode: int = 0o640,
        sets_aside: bool = True,
        log: logging.Logger | None = None,
    ) -> None:
        self.path = path
        self.damage = ""
        """Why the file is unusable; empty if intact."""
        self.cure = ""
        self.write_error = ""
        """Why the content is not on disk; empty if it is."""
        self.left = False
        """True to refuse late writes, because a new instance of the plugin writes the file. Any thread may set this."""
        self._what = what
        self._form = form
        self.loss = loss
        self._version = version
        self._mode = mode
        self._sets_aside = sets_aside
        self._log = log or logging.getLogger("mom.state")
        self._in_the_way = ""

    @property
    def kind(self) -> str:
        """Kind of file, as written in its frame."""
        return self.path.name.partition(".")[0]

    def read(self) -> Content | None:
        """Return the content; None without a usable file (see `damage`). Raise `StateError` if file descriptors or memory are short."""
        self.damage = self._in_the_way = ""
        try:
            return self.look()
        except StateError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _SHORTAGES:
                raise
            self._put_out_of_the_way("later" if isinstance(error, LaterVersionError) else "damaged", error)
            return None

    def look(self) -> Content | None:
        """Return the content, or None without a file; change nothing. Raise `StateError` if the file is unusable."""
        try:
            return self.decoded(read_file(self.path, LARGEST_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            denied = isinstance(error, PermissionError)
            short = "try again when fewer files are open, or more memory is free" if error.errno in _SHORTAGES else "repair the file system"
            hint = advice_when_denied(self.path.parent) if denied else short
            raise UnreadableError(f"{self._what} {self.path} cannot be read: {error.strerror}", hint=hint) from error

    def decoded(self, data: bytes) -> Content:
        """Return the content of these bytes. Raise `StateError` if they are damaged."""
        if len(data) > LARGEST_BYTES:
            raise self._damaged(f"it is larger than {LARGEST_BYTES} bytes")
        frame = _FRAME.fullmatch(data)
        if frame is None:
            raise self._damaged("it is empty" if not data.strip(b"\0 \n") else "it is not a state file, or incomplete")
        kind, version, checksum, body = frame[1].decode(), int(frame[2]), int(frame[3], 16), frame[4]
        if _checksum(kind, version, body) != checksum:
            raise self._damaged("its checksum is wrong")
        if kind != self.kind:
            raise self._damaged(f"it is a file of kind {kind}, not {self.kind}")
        if version > self._version:
            raise LaterVersionError(
                f"{self._what} {self.path} was written by a newer mom: "
                f"the file's format is version {version}, this mom reads version {self._version}",
                hint="upgrade mom, and rename the file to its original name",
            )
        if version != self._version:
            raise self._damaged(f"its version is {version}, this mom reads {self._version}")
        form = self._form
        try:
            if callable(form):
                return form(json.loads(body, parse_constant=_finite, parse_float=_finite))
            return form.validate_json(body, strict=True)
        except Exception as error:  # damaged content: the parser or the owner may raise anything
            reason = f"its content is invalid ({type(error).__name__})"
            self._log.debug("%s: %s", self.path, reason, exc_info=True)
            raise self._damaged(reason) from error

    def write(self, content: object, *, durable: bool = True) -> None:
        """Replace the content atomically. On a `StateError`, the file is unchanged.

        :param durable: survive a power failure
        """
        self._refuse_if_left()
        try:
            framed = self._framed(self.as_json(content))
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._move_aside()
            replace_file(self.path, framed, durable=durable, mode=self._mode)
        except OSError as error:
            self.write_error = f"{self._what} {self.path} cannot be written: {error.strerror}"
            raise StateError(self.write_error, hint="free space, or repair the disk") from error
        self.write_error = ""

    @staticmethod
    def as_json(content: object) -> str:
        """Return the content as one line of JSON. Raise `OSError` if JSON cannot express it."""
        try:
            text = _encode(content)
        except (ValueError, TypeError, RecursionError) as error:
            raise OSError(errno.EINVAL, f"it cannot be written as JSON ({error})") from error
        if "\\ud" not in text:
            return text
        # Possibly a lone surrogate, which other JSON readers refuse: replace it.
        whole = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def remove(self) -> None:
        """Remove the file. Raise `StateError` if that fails."""
        self._refuse_if_left()
        try:
            self._move_aside()
            self.path.unlink(missing_ok=True)
        except NotADirectoryError:
            pass
        except OSError as error:
            self.write_error = f"{self._what} {self.path} cannot be removed: {error.strerror}"
            raise StateError(self.write_error, hint="remove it by hand") from error
        self.write_error = ""

    # --- inside ----------------------------------------------------------------------------------------------------------------

    def _refuse_if_left(self) -> None:
        if self.left:
            message = f"{self._what} {self.path} is not written: a reload has replaced the plugin that writes it"
            raise StateError(message, hint="find out what the old plugin waited for")

    def _framed(self, body: str) -> Sequence[bytes]:
        encoded = body.encode()
        if len(encoded) > LARGEST_BYTES - _FRAME_BYTES:
            raise OSError(errno.EFBIG, f"it would be larger than {LARGEST_BYTES} bytes")
        checksum = _checksum(self.kind, self._version, encoded)
        return f'{{"state":"{self.kind}","version":{self._version},"crc32":"{checksum:08x}","content":'.encode(), encoded, b"}\n"

    def _damaged(self, reason: str) -> StateError:
        return StateError(f"{self._what} {self.path} is damaged: {reason}", hint=ADVICE)

    def _put_out_of_the_way(self, name: str, error: StateError) -> None:
        self._in_the_way, self.cure = name, error.hint
        aside = ""
        if self._sets_aside:
            try:
                aside = f"; mom has renamed it to {self._move_aside()}"
            except OSError as refused:
                aside = f"; mom cannot rename it: {refused.strerror}"
        self.damage = error.message + aside + (f"; {self.loss}" if self.loss else "")
        if self._sets_aside:
            self._log.error("%s", self.damage)

    def _move_aside(self) -> Path | None:
        if not self._in_the_way:
            return None
        names = [self.path.with_name(f"{self.path.name}.{self._in_the_way}-{number}") for number in range(1, MOST_SET_ASIDE + 1)]
        aside = next((name for name in names if not os.path.lexists(name)), names[-1])
        with suppress(FileNotFoundError):  # the operator has deleted it, as advised
            self.path.rename(aside)
        self._in_the_way = ""
        return aside


class LaterVersionError(StateError):
    """State file that a newer mom wrote. It is not damaged."""


class UnreadableError(StateError):
    """State file that cannot be read, possibly intact."""


def set_aside_below(directory: Path) -> Iterable[Path]:
    """Return the renamed files below this folder, sorted."""
    try:
        return sorted(path for path in directory.rglob("*-*") if _ASIDE.fullmatch(path.name))
    except OSError:
        return ()


def _checksum(kind: str, version: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(f"{kind} {version} ".encode()))


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number
