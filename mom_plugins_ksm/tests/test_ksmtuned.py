"""Import of ksmtuned's configuration."""

import pytest

from mom_core import ConfigError
from mom_plugins_ksm.ksmtuned import import_ksmtuned


def problems(error: ConfigError) -> list[tuple[int, str]]:
    return [(one.line, one.message) for one in error.problems]


def test_ksmtuned_values_become_parameters_of_the_law_and_the_interval() -> None:
    text = "# comment\nKSM_MONITOR_INTERVAL=30\nKSM_NPAGES_MAX='2000'  # more\nexport KSM_THRES_COEF=\"25\"\n\nDEBUG=1\nFOO=2\nif true\n"
    imported = import_ksmtuned(text, "k.conf")
    assert imported.settings()["interval"] == "30s"
    plugins = imported.settings()["plugins"]
    assert isinstance(plugins, dict)
    assert plugins["ksm"]["law"] == {
        "start_share": 0.25, "start_large_share": 0.25, "start_least": "2048MiB", "start_least_share": 1.0, "pages_least": 64,
        "pages_most": 2000, "sleep_ms": 10,
    }  # fmt: skip
    told = "\n".join(imported.notes)
    for part in ("line 6: DEBUG=1 has no counterpart", "line 7: FOO=2 has no", "line 8: if true has no"):
        assert part in told


def test_errors_name_the_lines_of_invalid_values() -> None:
    with pytest.raises(ConfigError) as caught:
        import_ksmtuned("KSM_THRES_COEF=200\nKSM_NPAGES_MAX=-50\nKSM_SLEEP_MSEC=$X\n", "k.conf")
    assert [line for line, _ in problems(caught.value)] == [1, 2, 3]
    with pytest.raises(ConfigError, match="KSM_NPAGES_MIN is larger"):
        import_ksmtuned("KSM_NPAGES_MIN=5000\n", "k.conf")
