"""Files of state: what mom or a plugin must still know after a restart, and what becomes of a file that is damaged.

A file of state is one line of JSON:

    {"state":"ledger","version":1,"crc32":"0a1b2c3d","content":…}

The checksum is over the kind, the version and the very bytes of the content, so no byte of the file can change without notice. A later
mom must keep this frame, and count `version` up when it changes the content: only then can an earlier one say what it has found.
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
from mom_core.files import read_file, replace_file
from mom_core.ownership import advice_when_denied

if TYPE_CHECKING:
    from pydantic import TypeAdapter

LARGEST_BYTES: Final = 64 << 20
"""Of one file of state, unless its owner says otherwise: the ledger of 10,000 guests with ten changes each is 30 MiB."""

MOST_SET_ASIDE: Final = 10
"""Files that are set aside beside one file of state. Beyond that, each takes the place of the last one: the first damage is what may be
worth a look, and a disk that damages each file must not fill itself."""

ADVICE: Final = "see what it held and put that right by hand, then delete it; free space, or look at the disk, if it comes again"

_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""What the system says of any file where it can open none now."""

_FRAME: Final = re.compile(
    rb'\{"state":"([a-z0-9_-]{1,64})","version":([1-9][0-9]{0,8}),"crc32":"([0-9a-f]{8})","content":(.*)\}\n', re.DOTALL
)
_FRAME_BYTES: Final = 256
"""What stands around the content at the most."""

_ASIDE: Final = re.compile(r"(.+)\.(?:damaged|later|unused)-[0-9]{1,2}")

_encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

Content = TypeVar("Content")


class StateFile(Generic[Content]):
    """One file of state. Not for several threads at once.

    What is found damaged when it is read, or was written by a later mom, is set aside under another name in the same folder, never
    overwritten: `NAME.damaged-1`, `NAME.later-1`, and so on. It is said in the log and in `damage`, and the owner goes on without it.

    :param path: the file; its folder is made when it is first written. Its name up to the first dot is its kind
    :param what: what it is, for messages: "the file of reservations"
    :param form: of the content: a pydantic `TypeAdapter`, which is used strictly; or a function that makes the content of what JSON gave,
        and raises any exception for what is not as it was written
    :param loss: what it means that the content is lost, for messages: "all reservations have ended"
    :param version: of the content's form; what was written by another one is not read
    :param largest: bytes; a larger file is damaged, and a larger content is not written
    :param mode: the file's permissions
    :param sets_aside: whether reading sets damaged files aside; otherwise they stay where they are until something is written
    """

    def __init__(
        self,
        path: Path,
        what: str,
        form: TypeAdapter[Content] | Callable[[Any], Content],
        *,
        loss: str = "",
        version: int = 1,
        largest: int = LARGEST_BYTES,
        mode: int = 0o640,
        sets_aside: bool = True,
        log: logging.Logger | None = None,
    ) -> None:
        self.path = path
        self.damage = ""
        """What was wrong with the file that was found, until the next start; empty if nothing was."""
        self.cure = ""
        """What to do about `damage`."""
        self.write_error = ""
        """Why the content is not on disk, empty if it is."""
        self.left = False
        """Nothing is written any more, whatever comes back late: the file belongs to the one in the owner's place. Set by any thread."""
        self._what = what
        self._form = form
        self.loss = loss
        """What it means that the content is lost."""
        self._version = version
        self._largest = largest
        self._mode = mode
        self._sets_aside = sets_aside
        self._log = log or logging.getLogger("mom.state")
        self._in_the_way = ""
        """The kind of name that the file must get before it may be replaced; empty: it may be."""

    @property
    def kind(self) -> str:
        """The kind that stands in the file."""
        return self.path.name.partition(".")[0]

    def read(self) -> Content | None:
        """The content; None when there is no file, or none that can be used: then `damage` says so.

        Raises `StateError` where too many files are open or memory is short: nothing is wrong with the file, and later it can be read.
        """
        self.damage = self._in_the_way = ""
        try:
            return self.look()
        except StateError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _SHORTAGES:
                raise
            self._put_out_of_the_way("later" if isinstance(error, LaterVersionError) else "damaged", error)
            return None

    def look(self) -> Content | None:
        """The content, or None when there is no file; whatever is wrong, nothing is changed.

        Raises `StateError`: a `LaterVersionError` if a later mom wrote it, an `UnreadableError` if there is no permission, and such.
        """
        try:
            return self.decoded(read_file(self.path, self._largest))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            denied = isinstance(error, PermissionError)
            short = "try again when fewer files are open, or more memory is free" if error.errno in _SHORTAGES else "repair the file system"
            hint = advice_when_denied(self.path, self.path.parent) if denied else short
            raise UnreadableError(f"{self._what} {self.path} cannot be read: {error.strerror}", hint=hint) from error

    def decoded(self, data: bytes) -> Content:
        """The content of a file with these bytes. Raises `StateError`: a `LaterVersionError` if a later mom wrote it."""
        if len(data) > self._largest:
            raise self._damaged(f"it is larger than {self._largest} bytes")
        found = _FRAME.fullmatch(data)
        if found is None:
            raise self._damaged("it is empty" if not data.strip(b"\0 \n") else "it is no file of state, or only a part of one")
        kind, version, checksum, body = found[1].decode(), int(found[2]), int(found[3], 16), found[4]
        if _checksum(kind, version, body) != checksum:
            raise self._damaged("its checksum is wrong")
        if kind != self.kind:
            raise self._damaged(f"it is of the kind {kind}, not {self.kind}")
        if version > self._version:
            raise LaterVersionError(
                f"{self._what} {self.path} was written by a later mom: its version is {version}, this mom reads {self._version}",
                hint="upgrade mom, and give the file its name back",
            )
        if version != self._version:
            raise self._damaged(f"its version is {version}, this mom reads {self._version}")
        form = self._form
        try:
            if callable(form):
                return form(json.loads(body, parse_constant=_finite, parse_float=_finite))
            return form.validate_json(body, strict=True)
        except Exception as error:  # whatever the parser or the owner makes of what they did not expect, it is damage
            reason = f"its content makes no sense ({type(error).__name__})"
            self._log.debug("%s: %s", self.path, reason, exc_info=True)
            raise self._damaged(reason) from error

    def write(self, content: object, *, durable: bool = True) -> None:
        """Put this content, of which JSON can be made, in the place of what the file holds, atomically.

        :param durable: also survive a power failure
        :raises StateError: the disk is full, there is no permission, the content is too large or no JSON, …; the file is as it was then
        """
        self.write_json(lambda: self.as_json(content), durable=durable)

    def write_json(self, body: Callable[[], str], *, durable: bool = True) -> None:
        """The same, of a content that is made to JSON by this function, on one line; it raises `OSError` if it cannot be."""
        self._refuse_if_left()
        try:
            framed = self._framed(body())
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._move_aside()
            replace_file(self.path, framed, durable=durable, mode=self._mode)
        except OSError as error:
            self.write_error = f"{self._what} {self.path} cannot be written: {error.strerror}"
            raise StateError(self.write_error, hint="free space, or repair the disk") from error
        self.write_error = ""

    @staticmethod
    def as_json(content: object) -> str:
        """This content as a file of state holds it, on one line. Raises `OSError` if it cannot be JSON."""
        try:
            text = _encode(content)
        except (ValueError, TypeError, RecursionError) as error:
            raise OSError(errno.EINVAL, f"it cannot be written as JSON ({error})") from error
        if "\\ud" not in text:
            return text
        # Maybe half a character, which other readers of JSON refuse: it becomes the mark of one that is lost.
        whole = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        return whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def remove(self) -> None:
        """Have no content, for good. Raises `StateError`."""
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

    def refuse(self, reason: str) -> None:
        """Set aside what was read and cannot be used, though the file is as it was written, and say why in `damage`."""
        self._put_out_of_the_way("unused", StateError(f"{self._what} {self.path} is not used: {reason}", hint=ADVICE))

    # --- inside ----------------------------------------------------------------------------------------------------------------

    def _refuse_if_left(self) -> None:
        if self.left:
            raise StateError(f"{self._what} {self.path} is not written: what wants to write it was replaced", hint="see what it waited for")

    def _framed(self, body: str) -> Sequence[bytes]:
        encoded = body.encode()
        if len(encoded) > self._largest - _FRAME_BYTES:
            raise OSError(errno.EFBIG, f"it would be larger than {self._largest} bytes")
        checksum = _checksum(self.kind, self._version, encoded)
        return f'{{"state":"{self.kind}","version":{self._version},"crc32":"{checksum:08x}","content":'.encode(), encoded, b"}\n"

    def _damaged(self, reason: str) -> StateError:
        return StateError(f"{self._what} {self.path} is damaged: {reason}", hint=ADVICE)

    def _put_out_of_the_way(self, name: str, error: StateError) -> None:
        self._in_the_way, self.cure = name, error.hint
        aside = ""
        if self._sets_aside:
            try:
                aside = f"; it is set aside as {self._move_aside()}"
            except OSError as refused:
                aside = f"; it cannot be set aside: {refused.strerror}"
        self.damage = error.message + aside + (f"; {self.loss}" if self.loss else "")
        if self._sets_aside:
            self._log.error("%s", self.damage)

    def _move_aside(self) -> Path | None:
        """Give what must not be overwritten another name; None when there is nothing of that kind. Raises `OSError`."""
        if not self._in_the_way:
            return None
        names = [self.path.with_name(f"{self.path.name}.{self._in_the_way}-{number}") for number in range(1, MOST_SET_ASIDE + 1)]
        aside = next((name for name in names if not os.path.lexists(name)), names[-1])
        with suppress(FileNotFoundError):  # the operator has deleted it meanwhile, as was advised
            self.path.rename(aside)
        self._in_the_way = ""
        return aside


class LaterVersionError(StateError):
    """A file of state whose form this mom does not know: nothing is wrong with it."""


class UnreadableError(StateError):
    """A file of state that may be as it should be, and cannot be read."""


def set_aside_below(directory: Path) -> Iterable[Path]:
    """The files of state below this folder that were set aside, in the order of their names."""
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
