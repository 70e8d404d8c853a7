"""What the default policy 60_cpu_limits does with `cpu_limits: true`: guests are held to the CPU time that was agreed for them.

`vcpu_user_limit` is in percent of all the host's CPUs. What stood before is noted with the guest, until it is put back.
"""

from collections.abc import Iterable, Iterator

from mom_plugins_policy.python import Decision, Guest, Host

PERIOD = 100_000  # us: the kernel's own, and so short that nobody notices the wait
LONGEST = 1_000_000  # us: the hypervisor takes no longer period
LEAST = 1000  # us: the hypervisor takes no smaller quota


def decide(host: Host, guests: Iterable[Guest]) -> Iterator[Decision]:
    """Hold those for whom less was agreed than they could reach, and give the others back what they had."""
    cpus = host.number("cpu_count")
    for guest in guests:
        limit, vcpus = guest.number("vcpu_user_limit"), guest.number("vcpu_count")
        quota, period = guest.number("vcpu_quota"), guest.number("vcpu_period")
        if cpus is None or limit is None or not vcpus or quota is None or period is None:
            continue
        share = limit / 100 * cpus / vcpus  # of each vCPU
        if limit < 100 and share < 1:
            # A small share needs a longer period, so that the quota is not too small.
            held = min(LONGEST, max(PERIOD, LEAST / share if share else LONGEST))
            asked = max(LEAST, share * held)
            # Where the very limit stands, mom has set it, such as on another host: then there was none.
            stands = abs(quota / period - asked / held) < 0.01 * asked / held
            guest.notes.setdefault("py_cpu_before", [-1, PERIOD] if stands else [quota, period])
            because = f"{limit:g} % of the host's CPU time was agreed for it, which is {share:.0%} of each of its vCPUs"
            yield from both(guest, asked, held, because)
        elif before := guest.notes.get("py_cpu_before"):
            if [quota, period] == before:
                del guest.notes["py_cpu_before"]
            else:
                yield from both(guest, *before, "what was agreed for it is no limit any more, so it gets back what it had")


def both(guest: Guest, quota: float, period: float, because: str) -> Iterator[Decision]:
    """They are one limit, and decided in each cycle, also where they stand: else it would be another's turn in the next one."""
    yield guest.set("vcpu_quota", quota, because=because)
    yield guest.set("vcpu_period", period, because=because)
