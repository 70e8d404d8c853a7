"""The animated picture shows how each run ended, needs no script, and can stand still."""

from typing import Any
from xml.etree import ElementTree

import pytest
from moving_picture import LANE, lane, picture

SVG = "{http://www.w3.org/2000/svg}"


def run(seconds: int, **figures: Any) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Return a run in which a host of 10 GiB loses 10 MiB a second, and its samples."""
    moments = [{"time": 1.0 * at, "guests": 6000, "available": 4240 - 10 * at, "taken": 10 * at} for at in range(seconds)]
    return {"taken": 10 * seconds, "kills": 0, **figures}, moments


@pytest.fixture
def drawn() -> ElementTree.Element:
    return ElementTree.fromstring(picture([lane("kind", *run(400)), lane("cruel", *run(200, taken=1024, kills=1))]))  # noqa: S314  # our own picture


def test_picture_shows_where_programs_were_killed(drawn: ElementTree.Element) -> None:
    words = [each.text for group in drawn.iter(f"{SVG}g") if group.get("class") == "end" for each in group.iter(f"{SVG}text")]
    assert words == ["3.9 GiB taken: the host was full, nothing was killed", "1.0 GiB taken: a program in a guest was killed"]


def test_picture_moves_without_a_script_and_can_stand_still(drawn: ElementTree.Element) -> None:
    assert len(list(drawn.iter(f"{SVG}animate"))) == 4  # what is shown, where it is, and two ends
    assert list(drawn.iter(f"{SVG}script")) == []
    assert "prefers-reduced-motion:reduce" in (drawn.findtext(f"{SVG}style") or "")


def test_drawn_run_fills_its_lane_and_is_as_long_as_the_run(drawn: ElementTree.Element) -> None:
    shapes = [shape.get("points", "").split() for shape in drawn.iter(f"{SVG}polygon")]
    points = [[tuple(float(part) for part in point.split(",")) for point in shape] for shape in shapes]
    assert len(points) == 2 * 3
    longest, half = (max(x for x, _ in shape) - min(x for x, _ in shape) for shape in (points[0], points[3]))
    assert half == pytest.approx(longest * 199 / 399, abs=1)
    heights = [y for shape in points[:3] for _, y in shape]
    assert max(heights) - min(heights) == pytest.approx(LANE)
