"""The policy language: reader, compiler and runtime."""
