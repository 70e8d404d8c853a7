"""Texts in the form of /proc/PID/smaps."""


def mapping(size: int, rss: int, flags: str = "rd wr mr mw me ac", *, huge: int = 0, swap: int = 0) -> str:
    """Return a mapping; sizes in KiB."""
    lines = {"Size": size, "KernelPageSize": 4, "Rss": rss, "Pss": rss, "AnonHugePages": huge, "ShmemPmdMapped": 0, "Swap": swap}
    return "".join(
        [
            "7f777fe00000-7f77bfe00000 rw-p 00000000 00:00 0 \n",
            *(f"{name}:{kib:>18} kB\n" for name, kib in lines.items()),
            f"THPeligible:           1\nVmFlags: {flags} \n",
        ]
    )


def ram(size: int, rss: int, *, huge: int = 0, swap: int = 0) -> str:
    """Return a RAM block of QEMU."""
    return mapping(size, rss, "rd wr mr mw me dc ac sd hg mg", huge=huge, swap=swap)
