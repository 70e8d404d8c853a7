"""`mom policy` beside a running `mom run`: show, set and reset policies."""

import json
from collections.abc import Callable

import pytest
from mom_on_files import Mom


@pytest.fixture(scope="module")
def running(moms: Callable[[], Mom]) -> Mom:
    """Return a mom without policies. Tests set some, and remove them."""
    one = moms()
    one.configure("policy: {defaults: false}", "http: {}")
    one.begin()
    return one


@pytest.fixture(scope="module")
def simulated(moms: Callable[[], Mom]) -> Mom:
    """Return a mom with guests whose sizes together are below the host's memory."""
    one = moms()
    one.configure("sim: {guests: 20, sold: 0.6, statistics_period: 100ms}", "balloon: {}", "policy: {}", "http: {}")
    one.begin()
    return one


def test_a_policy_is_set_takes_effect_and_outlives_a_restart(mom: Mom) -> None:
    mom.configure("policy: {keep_changes: true, defaults: false}", "http: {}")
    mom.begin()
    text = mom.directory / "mine.policy"
    text.write_text('(Host.Control "ksm_run" 1)\n')
    done = mom("policy", "set", "60_mine", str(text))
    assert done.returncode == 0, done.stderr
    mom.wait_for(lambda: mom.knob() == 1)
    mom.stop()
    assert mom.knob() == 0
    mom.act()
    assert mom("policy", "show", "60_mine").stdout == text.read_text()
    text.write_text('# \x1b[31mred\x1b[0m, without a line end\n(Host.Control "ksm_run" 1)')
    assert mom("policy", "set", "60_mine", str(text)).returncode == 0
    assert mom("policy", "show", "60_mine").stdout == text.read_text(), "to the byte, so that a file that is written of it is the same"
    assert mom("policy", "reset").returncode == 0
    assert "60_mine" not in mom("policy", "list").stdout


def test_a_policy_with_a_mistake_is_refused_with_its_place_and_rolled_back_is_what_was_before(running: Mom) -> None:
    text = running.directory / "mine.policy"
    text.write_text("(+ 1 2)\n")
    assert running("policy", "set", "60_mine", str(text)).returncode == 0
    text.write_text("(+ 1\n")
    for arguments in (("--check",), ()):
        refused = running("policy", "set", "60_mine", str(text), *arguments)
        assert refused.returncode == 1
        said = refused.stdout + refused.stderr
        assert "60_mine:1:1: " in said
        assert "syntax" in said
    assert running("policy", "remove", "60_mine").returncode == 0
    assert running("policy", "rollback").returncode == 0
    assert "60_mine" in running("policy", "list").stdout
    assert running("policy", "reset").returncode == 0


def test_memory_is_reserved_waited_for_and_given_up(simulated: Mom) -> None:
    refused = simulated("reserve", "80TiB", "--wait")
    assert refused.returncode == 1
    assert "cannot reserve 80.00 TiB: at most" in refused.stderr
    got = simulated("reserve", "1GiB", "--for", "5m", "--name", "db-*", "--wait", "--json")
    assert got.returncode == 0, got.stderr
    made = json.loads(got.stdout)
    assert (made["state"], made["there_kib"], made["name"]) == ("ready", 1 << 20, "db-*")
    listed = simulated("reserve", "list").stdout
    assert f"{made['id']}  1.00 GiB for db-*: all of it is free; kept for " in listed
    assert "can be reserved" in listed
    simulated.wait_for(lambda: "reserved for launches 1.00 GiB" in simulated("status").stdout)
    assert "released" in simulated("reserve", "release", made["id"]).stdout
    assert simulated("reserve", "release", made["id"]).returncode == 1
    assert simulated("reserve", "much").returncode == 2
    assert simulated("reserve", "1GiB", "--for", "ever").returncode == 2
    assert simulated("reserve", "1GiB", "--for", "0s").returncode == 2, "what mom refuses as making no sense is misuse, too"


def test_a_live_explanation_is_by_the_policies_that_were_set_while_mom_ran(running: Mom, moms: Callable[[], Mom]) -> None:
    text = running.directory / "mine.policy"
    text.write_text('(if (> Host.mem_available 5) (Host.Control "ksm_run" 1) 0)\n')
    assert running("policy", "set", "60_mine", str(text)).returncode == 0
    told = running("policy", "explain", "--live", "--host")
    assert told.returncode == 0, told.stderr
    assert "ksm_run = 1" in told.stdout
    assert "60_mine:1:30" in told.stdout
    assert f"using the policies in force, from {running.directory}/run/mom.sock" in told.stderr
    assert "60_mine:1:30" in running("policy", "eval", "--live").stdout
    mine = running("policy", "explain", str(text), "--live", "--host")
    assert "in force" not in mine.stderr, "files that are named are what is asked about"
    assert running("policy", "reset").returncode == 0
    (gone := moms()).configure("policy: {defaults: false}", "http: {}")
    without = gone("policy", "explain", "--live", "--host")
    assert without.returncode == 0, without.stderr
    assert "60_mine" not in without.stdout
    assert "in force" not in without.stderr
