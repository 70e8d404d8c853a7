"""The default policy for CPU time decides like the setting of a guest. `limits.yaml` has its other cases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import DefaultPolicy, PluginContext, as_number
from mom_core.testing import snapshot
from mom_devkit import declared
from mom_plugins_host.qos import QosPlugin
from mom_plugins_host.qos.settings import QosSettings, quota_and_period
from mom_plugins_policy import Policy

FREE = {"vcpu_quota": -1, "vcpu_period": 100_000, "io_tune": None}


def compiled(**switches: bool) -> Policy:
    plugin = QosPlugin(QosSettings(**switches), PluginContext(name="qos"))
    return Policy.compile({one.name: one.text for one in declared(plugin, DefaultPolicy)})


ON, OFF = compiled(cpu_limits=True, io_limits=True), compiled()


@given(st.floats(0.001, 99.9), st.integers(1, 512), st.integers(1, 512))
def test_the_policy_asks_for_what_the_setting_of_a_guest_would_once_it_is_switched_on(limit: float, cpus: int, vcpus: int) -> None:
    seen = snapshot(host={"cpu_count": cpus}, guests={"vm": {**FREE, "vcpu_user_limit": limit, "vcpu_count": vcpus}})
    result = ON.evaluate(seen)
    wanted = {one.control: int(as_number(one.value) or 0) for one in result.decisions}
    quota, period = quota_and_period(limit, cpus, vcpus)
    if quota == -1:
        assert wanted == {}
    else:
        assert wanted == {"vcpu_quota": pytest.approx(quota, abs=1), "vcpu_period": pytest.approx(period, abs=1)}
        assert wanted["vcpu_quota"] >= 1000
        assert wanted["vcpu_period"] <= 1_000_000
    assert [*result.errors, *OFF.evaluate(seen).decisions] == []
