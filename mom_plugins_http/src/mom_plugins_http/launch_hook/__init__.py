"""The program that a hypervisor runs before it starts a guest: it has mom make memory, and knows nothing else. Installed by `mom hook`."""
