"""Web page: a document and its modules."""
