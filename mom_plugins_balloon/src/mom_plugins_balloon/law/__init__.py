"""Balloon law: computes each guest's size, with the reason.

The law is pure: it reads no clock and no file. Read the files in this order: `memory.py` (input), `need.py` (memory that a guest must
keep), `want.py` (memory that a guest wants), `offer.py` (memory that a guest can give), `share.py` (the host's decision), `reasons.py`.

The law takes memory in this order:

1. empty memory, by sweeps and trims;
2. page cache beyond a guest's target headroom;
3. below 70 % of the high watermark: margins, and empty memory that the host does not back;
4. below the hard watermark: headroom for bursts, also from guests that have just started, wait for their disks or leave headroom empty;
5. below the low watermark: all of these at once, and no guest grows beyond its guarantee.

The law does not oscillate, because

- there are gaps between the watermarks;
- a guest that stalled keeps the memory that it got back, and a guest that ran out of memory keeps its headroom for a minute;
- a guest is swept again only after it has freed more memory;
- no guest shrinks and grows at the same amount of usable memory.

Forecasts decide when mom takes harmless memory, and from which guests. If harmless memory is not enough, the law ignores forecasts.
"""
