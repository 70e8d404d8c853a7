"""Growth on credit: while the host is short of memory, guests together cannot grow beyond what it has left."""
