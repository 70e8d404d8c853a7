"""The gain and the cost of mom, in figures that an owner reads: accounts kept by the hour, and what is said of them."""
