"""`mom policy check`: output, exit codes, and errors of files."""

import json
from pathlib import Path

from policy_verbs import mom_policy

GOOD = "(defvar least 5)\n(if (> Host.mem_free least) 1 0)\n"
WARNING = '(Host.Control "ksm_rum" 1)\n'
ERROR = "# one\n(if (> Host.mem_free 5) (nope) 0)\n"
REFUSED = "(if (> Host.mem_free 5)\n"


def policy(folder: Path, text: str, name: str = "50_test.policy") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_a_good_policy_has_exit_code_0_and_a_summary(tmp_path: Path) -> None:
    done = mom_policy("check", policy(tmp_path, GOOD))
    assert done == (0, "1 policy: no errors, no warnings\n", "")


def test_warnings_are_shown_with_their_line_and_count_only_when_strict(tmp_path: Path) -> None:
    path = policy(tmp_path, WARNING)
    done = mom_policy("check", path)
    assert done.code == 0
    assert done.out.splitlines() == [
        f"{path}:1:15: warning: no plugin has the control ksm_rum [unknown-control]",
        '    (Host.Control "ksm_rum" 1)',
        "                  ^",
        "    did you mean ksm_run?",
        "1 policy: 1 warning",
    ]
    assert mom_policy("check", "--strict", path).code == 1
    assert mom_policy("check", "--strict", policy(tmp_path, GOOD)).code == 0


def test_errors_come_before_warnings_and_have_exit_code_1(tmp_path: Path) -> None:
    policy(tmp_path, WARNING, "10_a.policy")
    policy(tmp_path, ERROR, "20_b.policy")
    done = mom_policy("check", tmp_path)
    lines = done.out.splitlines()
    assert (done.code, lines[-1]) == (1, "2 policies: 1 error, 1 warning")
    assert lines[0] == f"{tmp_path}/20_b.policy:2:26: error: there is no function nope [unknown-function]"
    assert lines[4].endswith("[unknown-control]")
    policy(tmp_path, REFUSED, "10_a.policy")
    policy(tmp_path, "(def f x 1)", "20_b.policy")
    done = mom_policy("check", tmp_path)
    assert (done.code, done.out.splitlines()[-1]) == (1, "2 policies: 2 errors"), "also of what keeps them from loading"


def test_json_has_places_and_rules(tmp_path: Path) -> None:
    path = policy(tmp_path, ERROR + WARNING)
    done = mom_policy("check", "--json", path)
    found = json.loads(done.out)
    assert done.code == 1
    assert found["policies"] == [{"name": "50_test", "file": str(path)}]
    assert found["counts"] == {"errors": 1, "warnings": 1}
    assert found["errors"][0] == {
        "severity": "error", "rule": "unknown-function", "policy": "50_test", "file": str(path), "line": 2, "column": 26,
        "message": "there is no function nope", "hint": found["errors"][0]["hint"],
    }  # fmt: skip
    assert (found["warnings"][0]["line"], found["warnings"][0]["rule"]) == (3, "unknown-control")


def test_the_declarations_are_those_of_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "mom.yaml"
    config.write_text(f"plugins:\n  policy: {{directory: {tmp_path / 'policy.d'}}}\n")
    path = policy(tmp_path, GOOD)
    assert "no plugin declares the host field mem_free" in mom_policy("check", "-c", config, path).out
    assert mom_policy("check", "-c", config).out == "0 policies: no errors, no warnings\n"
