"""KSM's files and ksmd's entry in /proc, as the kernel writes them."""

from mom_core import Value

FILES: dict[str, Value] = {
    "run": 1, "pages_to_scan": 100, "sleep_millisecs": 20, "merge_across_nodes": 1, "pages_shared": 10, "pages_sharing": 20,
    "pages_unshared": 30, "pages_volatile": 40, "full_scans": 5, "general_profit": -4096, "advisor_mode": "none",
}  # fmt: skip
KSMD = "37 (ksmd) S 2 0 0 0 -1 2097216 0 0 0 0 25 75 0 0 25 5 1 0 26 0 0 18446744073709551615\n"
HOST_FILES = {
    **{f"sys/kernel/mm/ksm/{name}": f"{value}\n" for name, value in FILES.items()},
    "sys/kernel/mm/ksm/advisor_mode": "[none] scan-time\n",
    "proc/37/stat": KSMD,
    "proc/37/comm": "ksmd\n",
}
