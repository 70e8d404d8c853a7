"""Tools for people: to explain, try, test and lay out policies."""
