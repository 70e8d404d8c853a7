"""The words of the language, one record each: what a word means, and all that compiling, checks, reasons and pages say of it.

A part of the language that meets a word asks its record. Where a word needs more than its record says (`and` compiles otherwise than a
call, `mul` has a range of its own), that part has a table by name, and fails at import if it lacks a word that needs an entry.
"""
