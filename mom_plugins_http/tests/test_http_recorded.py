"""Past days through the API, where the plugin record keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Serve


@pytest.mark.processes
def test_recorded_cycles_are_told_oldest_first_with_a_guests_fields(serve: Serve) -> None:
    served = serve(cycles=3, plugins={"record": {"reserve": "0"}})
    guest = served.get("/v1/guests")["items"][0]
    (point,) = served.get(f"/v1/recorded?guest={guest['name']}")["items"]
    assert point["cycle"] == 1
    assert point["host"]["mem_available"] == served.get("/v1/report")["host"]["fields"]["mem_available"]
    assert point["guests_together"]["rss"] > 0
    assert point["guest"]["balloon_max"] == guest["fields"]["balloon_max"]
    assert served.get("/v1/recorded?limit=2")["items"][0]["guest"] is None
    assert served.get("/v1/recorded?guest=nobody", 404)["hint"]
