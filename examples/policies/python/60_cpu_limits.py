"""CPU limits like the default policy 60_cpu_limits with `cpu_limits: true`.

`vcpu_user_limit` is in percent of all the host's CPUs. The policy notes the original limit with the guest until it restores this limit.
"""

from collections.abc import Iterable, Iterator

from mom_plugins_policy.python import Decision, Guest, Host

PERIOD = 100_000  # us: the kernel's default, too short to notice the wait
LONGEST = 1_000_000  # us: longest period of the hypervisor
LEAST = 1000  # us: smallest quota of the hypervisor


def decide(host: Host, guests: Iterable[Guest]) -> Iterator[Decision]:
    """Limit guests to their agreed CPU time, and restore the original limits of all other guests."""
    cpus = host.number("cpu_count")
    for guest in guests:
        limit, vcpus = guest.number("vcpu_user_limit"), guest.number("vcpu_count")
        quota, period = guest.number("vcpu_quota"), guest.number("vcpu_period")
        if cpus is None or limit is None or not vcpus or quota is None or period is None:
            continue
        share = limit / 100 * cpus / vcpus  # of each vCPU
        if limit < 100 and share < 1:
            # A small share needs a longer period to keep the quota large enough.
            new_period = min(LONGEST, max(PERIOD, LEAST / share if share else LONGEST))
            new_quota = max(LEAST, share * new_period)
            # If this limit is set already, mom set it earlier, such as on another host: the guest had no limit before.
            is_set = abs(quota / period - new_quota / new_period) < 0.01 * new_quota / new_period
            guest.notes.setdefault("py_cpu_before", [-1, PERIOD] if is_set else [quota, period])
            because = f"its agreed CPU time is {limit:g} % of the host, or {share:.0%} of each vCPU"
            yield from limit_cpu(guest, new_quota, new_period, because)
        elif before := guest.notes.get("py_cpu_before"):
            if [quota, period] == before:
                del guest.notes["py_cpu_before"]
            else:
                yield from limit_cpu(guest, *before, "its agreed CPU time no longer limits the guest, so the original limit returns")


def limit_cpu(guest: Guest, quota: float, period: float, because: str) -> Iterator[Decision]:
    """Decide quota and period together, also if they are set already: otherwise another policy would win the next cycle."""
    yield guest.set("vcpu_quota", quota, because=because)
    yield guest.set("vcpu_period", period, because=because)
