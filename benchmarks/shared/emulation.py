"""Figures of guests without KVM, measured by compare_real.py (resident memory) and measure_guests.py in benchmarks/simulator."""

EMULATOR_MIB = 128
"""QEMU's own memory."""

EMULATED_BALLOON = "1.3GiB"
"""Speed of QEMU's balloon per second."""
