"""Forecasts: each guest's memory use by time of day and week, learned from its statistics."""
