"""A first policy in Python: while the host is short, idle guests give; when it is well off again, they get back what they gave."""

from collections.abc import Iterable, Iterator

from mom_plugins_policy.python import Decision, Guest, Host, MiB

SHORT = 0.20  # of the host's memory: with less available, guests give
AMPLE = 0.30  # with more, they get back. In between nothing moves, so nothing flaps
STEP = 0.05  # of its size: what a guest gives or gets in one cycle
KEEPS = 256 * MiB  # usable: a guest that would have less gives nothing


def decide(host: Host, guests: Iterable[Guest]) -> Iterator[Decision]:
    """Called in each cycle. What is unknown is None."""
    available, total = host.number("mem_really_available"), host.number("mem_available")
    if available is None or not total:
        return
    share = available / total
    for guest in guests:
        size, most, usable = guest.number("balloon_cur"), guest.number("balloon_max"), guest.number("mem_usable")
        if size is None or most is None or usable is None:
            continue  # it has no balloon, or says nothing yet
        if share < SHORT and usable - STEP * size > KEEPS:
            because = f"the host has {share:.0%} available, and {usable / MiB:,.0f} MiB are usable in it"
            yield guest.set("balloon_target", (1 - STEP) * size, because=because, least=guest.number("guest_guarantee"))
        elif share > AMPLE and size < most:
            yield guest.set("balloon_target", (1 + STEP) * size, because=f"the host has {share:.0%} available", most=most)
