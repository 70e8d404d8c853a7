"""Growth on credit: limits that keep guests from growing together beyond the memory that the host has left."""
