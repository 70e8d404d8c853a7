"""Words of the language, one record each: the meaning of a word, and everything that the compiler, checks, reasons and pages need.

A part of the language that needs more than the record, such as code for `and`, has a table by name. It fails at import if the table lacks
a word.
"""
