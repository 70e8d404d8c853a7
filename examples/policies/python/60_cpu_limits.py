"""What the default policy 60_cpu_limits does with `cpu_limits: true`: guests are held to the CPU time that was agreed for them.

`vcpu_user_limit` is in percent of all the host's CPUs. What stood before is noted with the guest, until it is put back.
"""

from collections.abc import Iterable, Iterator

from mom_plugins_pypolicy import Decision, Guest, Host

PERIOD = 100_000  # us: the kernel's own, and so short that nobody notices the wait
LONGEST = 1_000_000  # us: the hypervisor takes no longer period
LEAST = 1000  # us: the hypervisor takes no smaller quota


def decide(host: Host, guests: Iterable[Guest]) -> Iterator[Decision]:
    """Hold those for whom less was agreed than they could reach, and give the others back what they had."""
    cpus = host.number("cpu_count")
    for guest in guests:
        limit, vcpus = guest.number("vcpu_user_limit"), guest.number("vcpu_count")
        now = quota, period = guest.number("vcpu_quota"), guest.number("vcpu_period")
        if cpus is None or limit is None or not vcpus or quota is None or period is None:
            continue
        share = limit / 100 * cpus / vcpus  # of each vCPU
        if limit < 100 and share < 1:
            guest.notes.setdefault("py_cpu_before", [quota, period])
            # A small share needs a longer period, so that the quota is not too small.
            held = min(LONGEST, max(PERIOD, LEAST / share if share else LONGEST))
            because = f"{limit:g} % of the host's CPU time was agreed for it, which is {share:.0%} of each of its vCPUs"
            yield from changed(guest, now, max(LEAST, share * held), held, because)
        elif before := guest.notes.get("py_cpu_before"):
            if [quota, period] == before:
                del guest.notes["py_cpu_before"]
            yield from changed(guest, now, *before, "what was agreed for it is no limit any more, so it gets back what it had")


def changed(guest: Guest, now: tuple[float, float], quota: float, period: float, because: str) -> Iterator[Decision]:
    """Both where one differs: they are one limit. A fraction of a microsecond is no change."""
    if max(abs(now[0] - quota), abs(now[1] - period)) >= 1:
        yield guest.set("vcpu_quota", quota, because=because)
        yield guest.set("vcpu_period", period, because=because)
