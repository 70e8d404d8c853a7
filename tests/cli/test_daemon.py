"""`mom run` as its users run it: a process, signals, and the other verbs beside it."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Mom


def test_it_applies_says_so_and_puts_back_on_sigterm(mom: Mom) -> None:
    mom.configure("merge: {}", interval="5s")
    process = mom.start()
    mom.wait_for(lambda: mom.knob() == 1)
    mom.wait_for((mom.directory / "run/status.json").exists)
    status = mom("status")
    assert status.returncode == 0, status.stderr
    assert f"runs as process {process.pid}" in status.stdout
    assert "ksm          ok" in status.stdout
    for verb in ("restore", "run"):
        refused = mom.process(verb)
        assert refused.returncode != 0
        assert f"process {process.pid}" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert mom.knob() == 1
    process.terminate()
    assert process.wait(60) == 0
    assert mom.knob() == 0
    gone = mom("status")
    assert (gone.returncode, gone.stderr) == (1, "")
    assert "does not run" in gone.stdout


def test_restore_leaves_alone_what_somebody_else_changed(mom: Mom) -> None:
    process = mom.start()
    mom.wait_for(lambda: mom.knob() == 1)
    process.kill()
    process.wait()
    (mom.root / "sys/kernel/mm/ksm/run").write_text("2\n")
    done = mom("restore", "--json")
    assert done.returncode == 0, done.stderr
    (outcome,) = json.loads(done.stdout)
    assert (outcome["status"], outcome["found"]) == ("left-alone", 2)
    assert mom.knob() == 2


def test_a_plugin_that_hangs_neither_stops_the_others_nor_the_end(mom: Mom) -> None:
    mom.configure("merge: {}", "hangs: {deadline: 300ms}")
    process = mom.start()
    mom.wait_for(lambda: mom.knob() == 1)
    mom.wait_for(lambda: "hangs        hung" in mom("status").stdout)
    began = time.monotonic()
    process.terminate()
    assert process.wait(60) == 0
    assert time.monotonic() - began < 30
    assert mom.knob() == 0


def test_a_stop_during_a_setup_that_hangs_is_quick(mom: Mom) -> None:
    mom.configure("hangs_in_setup: {deadline: 5m}")
    process = mom.start()
    mom.wait_for(lambda: mom.logged("in a setup that hangs"))
    began = time.monotonic()
    process.terminate()
    assert process.wait(60) == 0
    assert time.monotonic() - began < 30


def test_sighup_reads_the_configuration_again(mom: Mom) -> None:
    process = mom.start()
    mom.wait_for(lambda: mom.knob() == 1)
    mom.configure("merge: {}", mode="observe")
    process.send_signal(signal.SIGHUP)
    mom.wait_for(lambda: mom.knob() == 0)
    mom.wait_for(lambda: "mode observe (nothing is touched" in mom("status").stdout)
    line = 1 + mom.config.read_text().splitlines().index("mode: observe")
    assert f"mode: enforce in line {line}, and systemctl reload mom" in " ".join(mom("doctor").stdout.split())
    process.terminate()
    assert process.wait(60) == 0


def test_sighup_with_a_wrong_configuration_keeps_the_old_one(mom: Mom) -> None:
    process = mom.start()
    mom.wait_for(lambda: mom.knob() == 1)
    tried: list[str] = []

    def refused() -> bool:
        return mom.log.read_text().count("the old one stays in force") == len(tried)

    for wrong in ("interval: -5s", "plugins: {host: {}, no_such_plugin: {}}", "plugins: [", ""):
        tried.append(wrong)
        mom.config.write_text(wrong)
        process.send_signal(signal.SIGHUP)
        mom.wait_for(refused)
        assert process.poll() is None
    (mom.root / "sys/kernel/mm/ksm/run").write_text("0\n")
    mom.wait_for(lambda: mom.knob() == 1)
    process.terminate()
    assert process.wait(60) == 0


def test_sighup_is_refused_as_a_whole_when_a_plugin_cannot_reload(mom: Mom) -> None:
    rules = mom.directory / "rules"
    mom.environment["REREADS"] = str(rules)
    mom.configure("merge: {}", "rereads: {}")
    process = mom.start()
    mom.wait_for(lambda: mom.knob() == 1)
    rules.write_text("")
    mom.configure("rereads: {}")
    process.send_signal(signal.SIGHUP)
    mom.wait_for(lambda: mom.logged("line 3 of the rules is wrong"))
    time.sleep(0.5)
    assert mom.knob() == 1
    rules.unlink()
    process.send_signal(signal.SIGHUP)
    mom.wait_for(lambda: mom.logged("the new configuration is in force"))
    process.terminate()
    assert process.wait(60) == 0


def test_without_ksm_it_runs_and_says_what_is_missing(mom: Mom) -> None:
    for file in (mom.root / "sys/kernel/mm/ksm").iterdir():
        file.unlink()
    (mom.root / "sys/kernel/mm/ksm").rmdir()
    process = mom.start()
    mom.wait_for(lambda: mom("status").returncode == 0)
    status = mom("status")
    assert "ksm_run" in status.stdout
    assert "refused" in status.stdout
    assert process.poll() is None


def test_a_ledger_that_cannot_be_written_stops_controls_and_is_said(mom: Mom) -> None:
    state = mom.directory / "state"
    state.mkdir()
    # A folder where the new ledger would be moved to: what a full disk does, but also to root.
    (state / "ledger.json").mkdir()
    refused = mom.process("run")
    assert refused.returncode != 0
    assert "ledger" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert mom.knob() == 0


def test_guests_and_fields_without_a_daemon(mom: Mom) -> None:
    guests = mom("guests")
    assert guests.returncode == 0, guests.stderr
    assert "No guests." in guests.stdout
    fields = json.loads(mom("fields", "--json").stdout)
    assert {"mem_available", "ksm_run"} <= {field["name"] for field in fields["fields"]}
    assert "ksm_run" in {control["name"] for control in fields["controls"]}
