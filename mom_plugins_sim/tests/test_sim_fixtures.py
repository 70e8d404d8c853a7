"""How a policy or a plugin is tried on a simulated host in a unit test, with the fixture `mom_run`."""

from collections.abc import Callable

from mom_devkit import PluginRun

HOST = {
    "guests": 8, "host_memory": "16GiB", "sold": 1.5, "load": "6GiB", "load_after": "60s", "load_for": "120s", "statistics_period": "2s",
}  # fmt: skip


def test_a_policy_of_ones_own(mom_run: Callable[..., PluginRun]) -> None:
    policies = {"50_balloon": '(with Guests g (g.Control "balloon_target" (* 0.75 g.balloon_max)))'}
    run = mom_run(cycles=3, plugins={"sim": HOST, "balloon": {}}, policies=policies)
    for guest in run.reports[-1].snapshot.guests.values():
        most = guest.fields["balloon_max"]
        assert isinstance(most, int)
        assert run.values(guest.name, "balloon_cur")[-1] == int(0.75 * most)
    run.assert_never_below("balloon_cur", 64 << 10)
