"""The web page: a document and its modules, which ask the API for what they show."""
