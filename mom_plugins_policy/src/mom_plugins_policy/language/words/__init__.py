"""Words of the language, one record each, for compiler, checks, reasons and documentation."""
