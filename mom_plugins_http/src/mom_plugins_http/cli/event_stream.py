"""Reader of the event stream (server-sent events)."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any, Final

from mom_core import MomError
from mom_plugins_http.cli.client import Client, UnixConnection, no_answer, refusal

_LARGEST_LINE: Final = 256 << 20


class EventStream:
    """Stream of events until `close`. The constructor raises `MomError` if mom does not answer.

    :param silence: longest time without any byte after the first answer, in seconds
    """

    def __init__(self, client: Client, silence: float, query: str = "") -> None:
        self._connection = UnixConnection(client.path, client.reading)
        self._silence = silence
        try:
            self._connection.request("GET", f"/v1/events?{query}", headers={"accept": "text/event-stream"})
            sock = self._connection.sock
            self._response = self._connection.getresponse()
            sock.settimeout(silence)
        except TimeoutError:
            error = no_answer(self._connection, client.reading)
            self._connection.close()
            raise error from None
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            client.get("/v1/status")  # raises an error with the reason
            raise _ended(error) from None
        if self._response.status != 200:
            content = self._response.read()
            self._connection.close()
            raise refusal(self._response.status, content)

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each event's name and content. Raise `MomError` if the connection breaks."""
        name, parts = "", list[bytes]()
        try:
            while line := self._response.readline(_LARGEST_LINE):
                field, _, value = line.rstrip(b"\r\n").partition(b":")
                if field == b"event":
                    name = value.strip().decode("utf-8", "replace")
                elif field == b"data":
                    parts.append(value.removeprefix(b" "))
                elif not field and not value and parts:
                    content = json.loads(b"\n".join(parts))
                    yield name or "message", content if isinstance(content, dict) else {"content": content}
                    name, parts = "", []
        except TimeoutError:
            raise no_answer(self._connection, self._silence) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _ended(error) from None

    def close(self) -> None:
        """End the stream."""
        self._connection.close()


def _ended(error: BaseException) -> MomError:
    return MomError(f"the connection to mom has ended: {error or type(error).__name__}", hint="try again in a moment; see mom's log")
