"""Real guests for benchmarks, on a libvirtd of their own (tests/real)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from guest_image import GuestImage, build, cache_folder
from private_libvirtd import PrivateLibvirtd
from real_guests import Lab


@contextmanager
def guest_lab(image: GuestImage | None = None, controllers: Sequence[str] = ()) -> Iterator[Lab]:
    """Start a libvirtd for guests of this image. It ends with the block, and its guests with it.

    :param controllers: cgroup controllers in which each guest has a group
    """
    libvirtd = PrivateLibvirtd(cache_folder(), controllers=controllers)
    try:
        libvirtd.start()
        yield Lab(libvirtd, image or build())
    finally:
        libvirtd.stop()
