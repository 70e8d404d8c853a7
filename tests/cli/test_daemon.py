"""`mom run` as a process, with signals and other commands beside it."""

import signal
import time
from functools import partial

from mom_on_files import Mom


def test_it_applies_says_so_and_puts_back_on_sigterm(mom: Mom) -> None:
    mom.configure("merge: {}", interval="5s")
    process = mom.act()
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
    mom.stop()
    assert mom.knob() == 0
    gone = mom("status")
    assert (gone.returncode, gone.stderr) == (1, "")
    assert "is not running" in gone.stdout


def test_a_stop_during_a_setup_that_hangs_is_quick(mom: Mom) -> None:
    mom.configure("hangs_in_setup: {deadline: 5m}")
    mom.start()
    mom.wait_for(lambda: mom.logged("in a setup that hangs"))
    began = time.monotonic()
    mom.stop()
    assert time.monotonic() - began < 30


def test_sighup_reads_the_configuration_again_unless_it_is_wrong_or_a_plugin_refuses_it(mom: Mom) -> None:
    rules = mom.directory / "rules"
    mom.environment["REREADS"] = str(rules)
    mom.configure("merge: {}", "rereads: {}")
    process = mom.act()
    for number, wrong in enumerate(("interval: -5s", "plugins: {host: {}, no_such_plugin: {}}", "plugins: [", ""), 1):
        mom.config.write_text(wrong)
        process.send_signal(signal.SIGHUP)
        mom.wait_for(partial(mom.logged, "keeps the old one", number))
        assert process.poll() is None
    rules.write_text("")
    mom.configure("rereads: {}")
    process.send_signal(signal.SIGHUP)
    mom.wait_for(lambda: mom.logged("line 3 of the rules is wrong"))
    (mom.root / "sys/kernel/mm/ksm/run").write_text("0\n")
    mom.wait_for(lambda: mom.knob() == 1)
    rules.unlink()
    mom.configure("merge: {}", "rereads: {}", mode="observe")
    process.send_signal(signal.SIGHUP)
    mom.wait_for(lambda: mom.logged("the new configuration is in force"))
    mom.wait_for(lambda: mom.knob() == 0)
    mom.wait_for(lambda: "mode observe (mom changes nothing" in mom("status").stdout)
    line = 1 + mom.config.read_text().splitlines().index("mode: observe")
    assert f"write `mode: enforce` in line {line} of {mom.config}, then: systemctl reload mom" in " ".join(mom("doctor").stdout.split())
    mom.stop()


def test_a_ledger_that_cannot_be_written_stops_controls_and_is_said(mom: Mom) -> None:
    state = mom.directory / "state"
    state.mkdir()
    # A folder in the ledger's place makes writing fail, like a full disk, but also for root.
    (state / "ledger.json").mkdir()
    refused = mom.process("run")
    assert refused.returncode != 0
    assert "ledger" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert mom.knob() == 0
