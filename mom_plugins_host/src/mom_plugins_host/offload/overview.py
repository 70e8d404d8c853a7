"""The figures of cold memory that are shown of each guest."""

from typing import Final

from mom_core import GuestColumn, Unit
from mom_plugins_host.offload.fields import COLD, WORKING_SET, WORKING_SET_AGE

COLUMNS: Final = (
    GuestColumn(
        "cold", (COLD,), Unit.KIB, "what it does not touch, in the host's memory or in its swap", 45, 3, metric="mom_guest_cold_bytes"
    ),
    GuestColumn("learnt", (WORKING_SET_AGE,), Unit.SECONDS, "how long ago cold was learnt", 45, 5, "mom_guest_working_set_age_seconds"),
    GuestColumn(
        "working set", (WORKING_SET,), Unit.KIB, "what it was last seen to get along with in the host's memory", rank=None,
        metric="mom_guest_working_set_bytes",
    ),
)  # fmt: skip
