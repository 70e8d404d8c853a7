"""What mom has brought and what it has cost, in figures that an owner reads: accounts kept by the hour, and what is said of them."""
