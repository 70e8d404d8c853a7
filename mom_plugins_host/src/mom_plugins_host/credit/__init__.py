"""Growth on credit: guests together cannot grow beyond what the host has left."""
