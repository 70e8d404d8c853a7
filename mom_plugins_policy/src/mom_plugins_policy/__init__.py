"""The MOM policy language for mom: an evaluator that operators write in."""

__version__ = "0.1.0"
