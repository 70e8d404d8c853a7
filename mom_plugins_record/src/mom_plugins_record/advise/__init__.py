"""Subcommand `mom advise`: how many more guests fit."""
