"""Gain and cost of mom: accounts by the hour, and reports of them."""
