"""Every call of MOM's RPC server, as vdsm and MOM's clients make them, through a real socket."""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import pytest
from click.testing import CliRunner
from rpc_peer import Serving, client, report

from mom_core import Problem, Severity, Value
from mom_core.testing import snapshot
from mom_kvm import PolicyTexts
from mom_plugins_vdsm.rpc_client import rpc_client

FIRST = {"00-defines": "(defvar True 1) (defvar x 0)", "01-parameters": "# nothing", "02-use": "(+ x 1)"}


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    with Serving(tmp_path, policies=FIRST) as serving:
        yield serving


@pytest.fixture
def mom(serving: Serving) -> Iterator[ServerProxy]:
    with client(serving.socket) as one:
        yield one


def test_statistics_have_the_five_keys_that_vdsm_needs_before_there_is_any_data(serving, caplog, mom):
    needed = {"ksm_run": 0, "ksm_merge_across_nodes": 0, "ksm_pages_to_scan": 0, "ksm_pages_sharing": 0, "ksmd_cpu_usage": 0}
    assert mom.getStatistics() == {"host": needed, "guests": {}}
    assert mom.getActiveGuests() == []
    assert not caplog.records
    serving.report({"ksm_run": 1, "ksm_pages_sharing": None, "ksmd_cpu_usage": 12.6, "mem_free": 5})
    host = mom.getStatistics()["host"]
    assert host == {**needed, "ksm_run": 1, "ksmd_cpu_usage": 13, "mem_free": 5}
    for senseless in (float("nan"), float("inf"), "much", [5]):
        serving.report({"ksm_run": 1, "ksmd_cpu_usage": senseless})
        assert mom.getStatistics()["host"] == {**needed, "ksm_run": 1}
    serving.report({"ksm_run": 1, "ksmd_cpu_usage": 12.6, "mem_free": 5})
    host = mom.getStatistics()["host"]
    assert all(type(host[name]) is int for name in needed)


def test_statistics_of_guests_are_by_name_and_what_is_unknown_is_nil(serving, mom):
    disk = {"name": "vda", "path": "/d", "current": {"total_bytes_sec": 1 << 33}, "maximum": {"total_bytes_sec": 5}, "guaranteed": None}
    sampled = {"vcpu_count": 1}
    serving.report(
        {}, {"vm1": {**sampled, "balloon_cur": 1 << 31, "my_own": 1.5, "io_tune": [disk]}, "vm 2 <é>": {**sampled, "my_own": float("nan")}}
    )
    guests = mom.getStatistics()["guests"]
    assert mom.getActiveGuests() == ["vm 2 <é>", "vm1"]
    assert guests["vm1"] == {
        "balloon_cur": 1 << 31,
        "balloon_max": None,
        "vcpu_count": 1,
        "my_own": 1.5,
        "io_tune": [
            {
                "name": "vda",
                "path": "/d",
                "guaranteed": {"vals": {}},
                "maximum": {"vals": {"total_bytes_sec": 5}},
                "current": {"vals": {"total_bytes_sec": 1 << 33}},
            }
        ],
    }
    assert guests["vm 2 <é>"]["my_own"] is None


SIX = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec")


def test_disks_and_swap_are_told_as_mom_tells_them(tmp_path):
    now = {**dict.fromkeys(SIX, 0), "total_bytes_sec": 7}
    unknown = dict.fromkeys(SIX)
    disks: list[Value] = [
        {"name": "vda", "path": "/a", "current": now, "maximum": {**unknown, "total_iops_sec": 5}, "guaranteed": unknown},
        {"name": "vdb", "path": "/b", "current": now, "maximum": unknown, "guaranteed": unknown},  # without agreed limits
        {"name": "vdc", "path": "/c", "current": now, "maximum": unknown, "guaranteed": {**unknown, "read_iops_sec": 9}},
    ]
    present: list[Value] = [
        {"name": "vda", "path": "/a", **now},
        {"name": "vdb", "path": "/b", **now},
        {"name": "vdc", "path": "/c", **now},
    ]
    with Serving(tmp_path) as serving, client(serving.socket) as mom:
        told: dict[str, Value] = {"mem_available": 5, "swap_total": None, "io_tune": disks, "io_tune_current": present}
        serving.report({}, {"vm1": told, "vm2": {"io_tune": [], "io_tune_current": []}, "vm3": {"mem_available": 5, "swap_usage": 3}})
        guests = mom.getStatistics()["guests"]
    assert (guests["vm1"]["swap_total"], guests["vm1"]["swap_usage"]) == (0, 0), "vdsm does not tell swap, which MOM takes for none"
    assert "swap_total" not in guests["vm2"]
    assert (guests["vm3"]["swap_total"], guests["vm3"]["swap_usage"]) == (0, 3)
    assert guests["vm1"]["io_tune"] == [
        {"name": "vda", "path": "/a", "guaranteed": {"vals": {}}, "maximum": {"vals": {"total_iops_sec": 5}}, "current": {"vals": now}},
        {"name": "vdc", "path": "/c", "guaranteed": {"vals": {"read_iops_sec": 9}}, "maximum": {"vals": {}}, "current": {"vals": now}},
    ]
    assert guests["vm1"]["io_tune_current"] == [
        {"name": "vda", "path": "/a", "ioTune": now}, {"name": "vdc", "path": "/c", "ioTune": now}
    ]  # fmt: skip
    assert (guests["vm2"]["io_tune"], guests["vm2"]["io_tune_current"]) == (None, None)


def test_a_guest_that_nothing_can_be_done_about_or_that_was_not_sampled_is_not_active_and_has_statistics(serving, mom):
    one = {"balloon_cur": 1, "vcpu_count": 1}
    taken = snapshot(host={}, guests={"vm1": one, "vm2": one, "vm3": one, "vm4": {"balloon_cur": 1}})
    blocked = {"vm1": {"*": "the guest is paused"}, "vm2": {"balloon_target": "the guest has no balloon device"}, "vm3": {}, "vm4": {}}
    guests = {key: replace(guest, blocked=blocked[guest.name]) for key, guest in taken.guests.items()}
    serving.plugin.mom_report(report(replace(taken, guests=guests)))
    assert mom.getActiveGuests() == ["vm2", "vm3"]
    assert sorted(mom.getStatistics()["guests"]) == ["vm1", "vm2", "vm3", "vm4"]


def test_a_value_that_xml_cannot_carry_does_not_break_the_answer(serving, mom):
    serving.report({"huge": 1 << 70, "tuple": (1, "a\x00b\r\n")}, {"bad\x01name": {"balloon_cur": 1}})
    found = mom.getStatistics()
    assert found["guests"]["bad\ufffdname"]["balloon_cur"] == 1
    assert found["host"]["huge"] == float(1 << 70)
    assert found["host"]["tuple"] == [1, "a\ufffdb\r\n"]


def test_policies_are_read_and_vdsms_parameters_in_force_at_the_next_evaluation(serving, mom):
    assert mom.getNamedPolicies() == FIRST
    assert mom.getPolicy() == "\n".join(FIRST.values())
    assert mom.setNamedPolicy("01-parameters", "(set x True)\n(set True 1)") is True
    assert mom.getNamedPolicies()["01-parameters"] == "(set x True)\n(set True 1)"
    assert serving.woken == ["the policies have changed"]


@pytest.mark.parametrize("text", ["(set x", "(set x None)", "Host.typo"])
def test_a_policy_that_is_wrong_or_certain_to_fail_is_false_and_the_old_ones_decide_on(serving, text, caplog, mom):
    serving.evaluate()
    assert mom.setNamedPolicy("01-parameters", text) is False
    assert mom.setPolicy(text) is False
    assert mom.getNamedPolicies() == FIRST
    assert serving.evaluate() != []
    assert mom.ping() is True, "what is in force works"
    assert f"process {os.getpid()} of user {os.getuid()} is refused" in caplog.text


def test_ping_is_false_while_the_policies_in_force_fail(tmp_path):
    with Serving(tmp_path, policies={**FIRST, "01-parameters": "(set unknown 1)"}) as serving, client(serving.socket) as mom:
        serving.evaluate()
        assert mom.ping() is False
        assert mom.setNamedPolicy("01-parameters", "(set x 1)") is True
        serving.evaluate()
        assert mom.ping() is True


def test_a_refused_policy_is_a_standing_problem_until_one_of_that_name_is_taken(serving, mom):
    def problems() -> list[str]:
        return [f"{item.severity}: {item.message}" for item in serving.plugin.mom_problems() if isinstance(item, Problem)]

    mom.setNamedPolicy("01-parameters", "(set unknown 1)")
    mom.setPolicy("(")
    assert problems() == [
        "warning: the policy 01-parameters that was set last is refused: "
        "01-parameters:1:6: unknown-variable: there is no variable unknown to set",
        "warning: the policies that were set last are refused: 50_main_:1:1: syntax: ( is never closed: a ) is missing",
    ]
    mom.setNamedPolicy("01-parameters", "(set x 1)")
    assert len(problems()) == 1
    mom.resetPolicies()
    assert problems() == []


def test_parameters_are_taken_without_those_that_nothing_knows_which_are_told(serving, caplog, mom):
    """vdsm repeats all earlier parameters with each change, and reports success to its engine."""
    for text in ("(set x 2)\n(set unknown 1)", "(set unknown 1)\n(set y [1, (])\n(set z None)\n(set x 2)"):
        mom.setNamedPolicy("01-parameters", "# nothing")
        assert mom.setNamedPolicy("01-parameters", text) is True
        assert [line for line in mom.getNamedPolicies()["01-parameters"].split("\n") if line] == ["(set x 2)"]
        (problem,) = serving.plugin.mom_problems()
        assert "the policy 01-parameters that was set last is in force without" in problem.message
    assert "there is no variable unknown to set" in caplog.text
    assert mom.setNamedPolicy("01-parameters", "(set x 3)") is True
    assert list(serving.plugin.mom_problems()) == []
    assert mom.setNamedPolicy("01-parameters", "(set x 2) (if 1 2 3)\n(set unknown 1)\n(+ 1 2)") is False, "it is a policy"


def test_set_policy_replaces_all_and_reset_brings_the_files_back(serving, mom):
    assert mom.setPolicy("(+ 1 2)") is True
    assert mom.getNamedPolicies() == {"50_main_": "(+ 1 2)"}
    assert mom.resetPolicies() is True
    assert mom.getNamedPolicies() == FIRST
    (serving.socket.parent / "policy.d/99-bad.policy").write_text("(")
    assert mom.resetPolicies() is False


def test_nil_removes_a_policy_and_without_any_the_text_is_0(mom):
    assert mom.setNamedPolicy("00-defines", None) is False, "others use its variables"
    for name in reversed(FIRST):
        assert mom.setNamedPolicy(name, None) is True
    assert mom.setNamedPolicy("never there", None) is True
    assert mom.getPolicy() == "0"
    assert mom.getNamedPolicies() == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda mom: mom.nothing(), "<class 'Exception'>:method \"nothing\" is not supported"),
        (lambda mom: mom.ping(1), "<class 'TypeError'>:ping takes 0 parameters, not 1"),
        (lambda mom: mom.setNamedPolicy("a"), "takes 2 parameters"),
        (lambda mom: mom.setNamedPolicy(5, "1"), "name must be a string"),
        (lambda mom: mom.setNamedPolicy("a", ["(+ 1 2)"]), "a policy must be a string"),
        (lambda mom: mom.setVerbosity("loud"), "loud is not a log level"),
    ],
)
def test_a_call_that_cannot_be_is_fault_1(serving, call, message):
    with client(serving.socket) as mom, pytest.raises(Fault) as caught:
        call(mom)
    assert caught.value.faultCode == 1
    assert message in caught.value.faultString


CHANGES: list[Any] = [
    lambda mom: mom.setPolicy("(+ 1 2)"),
    lambda mom: mom.setNamedPolicy("01-parameters", "(set x 1)"),
    lambda mom: mom.resetPolicies(),
    lambda mom: mom.setVerbosity("debug"),
]


def test_on_a_port_of_the_loopback_nil_is_left_out_and_nothing_can_be_changed(tmp_path, free_port, caplog):
    with Serving(tmp_path, policies=FIRST, listen=str(free_port)) as serving:
        serving.report({"unknown": None}, {"vm1": {"balloon_cur": 1}})
        policies = serving.context.service(PolicyTexts)
        assert policies is not None
        before = policies.state()
        with ServerProxy(f"http://127.0.0.1:{free_port}/RPC2") as mom:
            assert mom.ping() is True
            found: Any = mom.getStatistics()
            assert found["guests"] == {"vm1": {"balloon_cur": 1}}
            assert "unknown" not in found["host"]
            for change in CHANGES:
                with pytest.raises(Fault, match="TCP clients have no permission to call"):
                    change(mom)
            assert mom.getNamedPolicies() == FIRST
        assert policies.state() is before
    assert "because it changes settings" in caplog.text
    assert "setPolicy from 127.0.0.1 port" in caplog.text
    assert "changes_over_tcp: true" in caplog.text


def test_the_operator_may_allow_changes_over_tcp(tmp_path, free_port, caplog):
    with (
        Serving(tmp_path, policies=FIRST, listen=str(free_port), changes_over_tcp=True),
        ServerProxy(f"http://127.0.0.1:{free_port}/RPC2") as mom,
    ):
        assert mom.setPolicy("(+ 1 2)") is True
        assert mom.setPolicy("(") is False
        assert mom.getNamedPolicies() == {"50_main_": "(+ 1 2)"}
    assert "can replace all policies" in caplog.text


@pytest.mark.parametrize(
    ("settings", "severity", "says"),
    [
        ({"listen": "8080"}, Severity.OK, "only clients with permission"),
        ({"listen": "8080", "changes_over_tcp": True}, Severity.WARNING, "any account of this host can replace all policies"),
        ({"listen": "0.0.0.0:8080"}, Severity.WARNING, "any program that reaches this address from another host can read"),
        ({"listen": "0.0.0.0:8080", "changes_over_tcp": True}, Severity.WARNING, "from another host can replace all policies"),
        ({"mode": "0666"}, Severity.WARNING, "the socket's mode 0666 lets any account of this host replace all policies"),
        ({"mode": "0660"}, Severity.OK, "only clients with permission"),
        ({"listen": "/nowhere/at/all"}, Severity.ERROR, "the folder /nowhere/at is missing"),
    ],
)  # fmt: skip
def test_the_doctor_says_who_can_change_the_policies(tmp_path, settings, severity, says):
    (finding,) = Serving(tmp_path, **settings).plugin.mom_doctor()
    assert finding.severity is severity
    assert says in finding.message
    assert bool(finding.cure) is (severity is not Severity.OK)


# --- mom-rpcclient --------------------------------------------------------------------------------------------------------------------


def told(serving: Serving, *arguments: str, given: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(rpc_client, ["-p", str(serving.socket), *arguments], input=given)
    return result.exit_code, result.output


def test_the_client_has_all_verbs(serving, tmp_path):
    policy = tmp_path / "p"
    policy.write_text("(set x 3)")
    serving.report({"ksm_run": 1}, {"vm1": {"vcpu_count": 1}})
    assert told(serving, "ping") == (0, "true\n")
    code, text = told(serving, "getStatistics")
    assert (code, json.loads(text)["host"]["ksm_run"]) == (0, 1)
    assert told(serving, "getActiveGuests") == (0, '[\n  "vm1"\n]\n')
    assert told(serving, "setNamedPolicy", "01-parameters", str(policy)) == (0, "true\n")
    assert "(set x 3)" in told(serving, "getPolicy")[1]
    assert told(serving, "setNamedPolicy", "01-parameters") == (0, "true\n")
    assert told(serving, "setPolicy", "-", given="(+ 1 1)") == (0, "true\n")
    assert json.loads(told(serving, "getNamedPolicies")[1]) == {"50_main_": "(+ 1 1)"}
    assert told(serving, "resetPolicies") == (0, "true\n")
    assert told(serving, "setVerbosity", "error")[0] == 0
    assert logging.getLogger("mom").level == logging.ERROR
    logging.getLogger("mom").setLevel(logging.NOTSET)


def test_the_client_says_no_with_exit_code_1_and_misuse_with_2(serving, tmp_path):
    refused = "false\nThe daemon has refused the policy and changed nothing; its log has the reason.\n"
    assert told(serving, "setPolicy", "-", given="(") == (1, refused)
    assert told(serving, "setVerbosity", "loud")[0] == 1
    assert told(serving, "nothing") == (1, f"Error: {serving.socket}: <class 'Exception'>:method \"nothing\" is not supported\n")
    assert told(serving, "setPolicy", str(tmp_path / "nope"))[0] == 2
    result = CliRunner().invoke(rpc_client, ["-p", str(tmp_path / "nobody"), "ping"])
    assert (result.exit_code, result.output) == (1, f"Error: {tmp_path / 'nobody'}: No such file or directory\n")
    assert CliRunner().invoke(rpc_client, ["-p", "not a port", "ping"]).exit_code == 2
