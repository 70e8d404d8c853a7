"""Growth on credit: together, guests cannot outgrow the memory that the host has left."""
