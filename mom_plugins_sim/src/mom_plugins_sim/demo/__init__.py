"""`mom demo`: a simulated host with and without mom."""
