"""A host to try policies on: 16 GiB, short of memory, with a guest that can spare some, one that runs out, and one that tells nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_GIB = 1 << 20  # KiB

EXAMPLE: Final[Mapping[str, Any]] = {
    "host": {
        "mem_available": 16 * _GIB,
        "mem_really_available": 2 * _GIB,
        "mem_free": 2 * _GIB + 100_000,
        "mem_unused": 700_000,
        "mem_cached": 1_400_000,
        "anon_pages": 13 * _GIB,
        "swap_total": 4 * _GIB,
        "swap_usage": 0,
        "swap_in": 0,
        "swap_out": 0,
        "cpu_count": 8,
        "load_1": 2.5,
        "psi_memory_some_avg10": 1.2,
        "ksm_run": 0,
        "ksm_pages_to_scan": 100,
        "ksm_sleep_millisecs": 20,
        "ksm_pages_sharing": 0,
        "ksm_pages_shared": 0,
        "ksm_full_scans": 0,
        "ksm_clock": 1000.0,
        "ksm_general_profit": 0,
        "ksm_advisor_mode": "none",
        "ksm_merge_across_nodes": 1,
        "ksmd_cpu_usage": 0.0,
        "time_hour": 14,
    },
    "guests": {
        "web": {
            "balloon_cur": 4 * _GIB,
            "balloon_max": 4 * _GIB,
            "mem_available": 4 * _GIB - 120_000,
            "mem_unused": 2 * _GIB,
            "mem_usable": 3 * _GIB,
            "swap_in": 0.0,
            "major_fault": 1.0,
            "stats_age": 1.0,
            "rss": 4 * _GIB,
            "io_tune": [
                {
                    "name": "vda",
                    "path": "/var/lib/libvirt/images/web.qcow2",
                    "guaranteed": {"total_bytes_sec": 5 << 20},
                    "maximum": {"total_bytes_sec": 20 << 20},
                    "current": {"total_bytes_sec": 20 << 20},
                }
            ],
        },
        "db": {
            "balloon_cur": 5 * _GIB,
            "balloon_max": 8 * _GIB,
            "balloon_min": 4 * _GIB,
            "mem_available": 5 * _GIB - 150_000,
            "mem_unused": 60_000,
            "mem_usable": 200_000,
            "swap_in": 0.0,
            "major_fault": 40.0,
            "stats_age": 2.0,
            "rss": 5 * _GIB,
        },
        "quiet": {"balloon_cur": 2 * _GIB, "balloon_max": 2 * _GIB, "rss": 2 * _GIB},
    },
    "properties": {
        "host": {"name": "example"},
        "web": {"uuid": "6d2f0b0e-8f1e-4b7c-9a51-1f2f3c9f0001"},
        "db": {"uuid": "6d2f0b0e-8f1e-4b7c-9a51-1f2f3c9f0002"},
        "quiet": {"uuid": "6d2f0b0e-8f1e-4b7c-9a51-1f2f3c9f0003"},
    },
    "history": [
        {"host": {"mem_really_available": 3 * _GIB}, "guests": {"web": {"mem_usable": 3 * _GIB}, "db": {"mem_usable": 900_000}}},
    ],
}
