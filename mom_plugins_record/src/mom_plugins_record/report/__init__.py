"""Gain and cost of mom: hourly accounts, and reports."""
