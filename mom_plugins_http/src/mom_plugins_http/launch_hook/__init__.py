"""Program that a hypervisor runs before it starts a guest: it asks mom to make memory available."""
