"""Past days through the API, from the plugin record."""

import pytest
from served_mom import Serve


@pytest.mark.processes
def test_recorded_cycles_of_a_guest_are_told_oldest_first_with_its_fields(serve: Serve) -> None:
    served = serve(cycles=3, plugins={"record": {"reserve": "0"}})
    guest = served.get("/v1/guests")["items"][0]
    points = served.get(f"/v1/recorded?guest={guest['name']}")["items"]
    assert len(points) == 3
    assert points[0]["guest"]["balloon_max"] == guest["fields"]["balloon_max"]
    assert points[0]["seconds"] == 0
    assert served.get("/v1/recorded?until=60&limit=2")["items"] == [], "the host's minutes are written later, and none is of 1970"
    assert served.get("/v1/recorded?guest=nobody", 404)["hint"]
