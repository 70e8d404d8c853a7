"""Balloon law: computes each guest's size, with the reason.

The law reads no clock and no file. Read in this order: `memory.py` (input), `need.py` (memory that a guest keeps),
`want.py` (memory that it wants), `offer.py` (memory that it can give), `share.py` (the host's decision), `reasons.py`.

The law takes memory by sweeps, then by the means of `offer.TRIMS`, in order. Below the low watermark it uses all means together, and no
guest grows beyond its guarantee. Exception: guests whose growth mom limits keep their full sizes (`Need.keeps_full`).

The law does not oscillate, because

- there are gaps between the watermarks;
- a guest that stalled keeps the memory that it got back, and a guest that ran out of memory keeps its headroom for a minute;
- a guest is swept again only after it has freed more memory;
- no guest shrinks and grows at the same amount of usable memory.

Expected growth of guests (`GuestMemory.rise`) decides when mom takes memory that guests will not miss, and from which guests. If such
memory is not enough, the law ignores this growth.
"""
