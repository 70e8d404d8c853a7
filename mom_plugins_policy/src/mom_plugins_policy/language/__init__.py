"""The policy language: reader, compiler and runtime. `words` describes each word."""
