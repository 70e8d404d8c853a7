"""The language: from a policy's text (reader) to what an evaluation runs (runtime), with one record for each word."""
