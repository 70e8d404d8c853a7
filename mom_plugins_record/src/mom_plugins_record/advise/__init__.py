"""Subcommand `mom advise`: how much memory can be sold, or how many more guests fit."""
