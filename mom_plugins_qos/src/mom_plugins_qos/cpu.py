"""From a part of the host's CPU time to a quota and a period. Pure."""

from __future__ import annotations

from mom_plugins_qos.bounds import NO_QUOTA, PERIOD_US, QUOTA_US

USUAL_PERIOD_US = 100_000
"""The kernel's own, and that of oVirt: short enough that a guest that has used up its quota waits no more than a blink."""


def quota_and_period(percent: float, host_cpus: float, vcpus: float) -> tuple[int, int]:
    """The quota and period, in µs, that hold each vCPU of a guest to its part of `percent` of all the host's CPUs.

    The period becomes longer where the quota would be less than the hypervisor takes, as far as it may; after that, the quota is the
    least that is possible. A guest that cannot reach its limit gets no quota.
    """
    share = percent / 100 * host_cpus / vcpus  # of one host CPU, for each vCPU
    if percent >= 100 or share >= 1:
        return NO_QUOTA, USUAL_PERIOD_US
    period = min(PERIOD_US[1], max(USUAL_PERIOD_US, int(QUOTA_US[0] / share)))
    return max(QUOTA_US[0], int(share * period)), period
