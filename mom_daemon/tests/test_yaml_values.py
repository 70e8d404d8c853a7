"""Values in configurations that mom writes."""

from pathlib import Path

import pytest

from mom_core.config.document import read_document
from mom_daemon.config.setting_texts import yaml_value


@pytest.mark.parametrize(
    "text",
    ["web-1", "0xbeef", "0X1F", "0b11", "0o17", "017", "12", "1e5", "1_000", "12:30", "2026-11-28", "yes", "null", "a: b", "a #b", ""],
)
def test_a_text_is_read_as_the_text_that_was_written(tmp_path: Path, text: str) -> None:
    """This includes guests' names that look like numbers."""
    (tmp_path / "a.yaml").write_text(f"guests:\n  {yaml_value(text)}: {yaml_value(text)}\n")
    assert read_document(tmp_path / "a.yaml").value == {"guests": {text: text}}
