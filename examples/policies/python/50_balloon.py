"""First policy in Python: shrink idle guests while the host is short of memory, and grow them again when it has enough."""

from collections.abc import Iterable, Iterator

from mom_plugins_policy.python import Decision, Guest, Host, MiB

SHORT = 0.20  # of the host's memory: with less available, guests shrink
AMPLE = 0.30  # with more available, guests grow. Between the two, no size changes, so sizes do not oscillate
STEP = 0.05  # of a guest's size, per cycle
KEEPS = 256 * MiB  # a guest with less usable memory does not shrink


def decide(host: Host, guests: Iterable[Guest]) -> Iterator[Decision]:
    """Decide sizes in each cycle. Unknown values are None."""
    available, total = host.number("mem_really_available"), host.number("mem_available")
    if available is None or not total:
        return
    share = available / total
    for guest in guests:
        size, maximum, usable = guest.number("balloon_cur"), guest.number("balloon_max"), guest.number("mem_usable")
        if size is None or maximum is None or usable is None:
            continue  # no balloon, or no statistics yet
        if share < SHORT and usable - STEP * size > KEEPS:
            because = f"the host has {share:.0%} available, and {usable / MiB:,.0f} MiB are usable in it"
            yield guest.set("balloon_target", (1 - STEP) * size, because=because, least=guest.number("guest_guarantee"))
        elif share > AMPLE and size < maximum:
            yield guest.set("balloon_target", (1 + STEP) * size, because=f"the host has {share:.0%} available", most=maximum)
