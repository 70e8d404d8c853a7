"""How many more guests fit: the verb `mom advise`."""
