"""Program that asks mom for memory before a hypervisor starts a guest."""
