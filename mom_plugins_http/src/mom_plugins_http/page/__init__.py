"""The web page: a document and its modules, which ask the API for what they show."""

from mom_plugins_http.page.document import WebPage

__all__ = ["WebPage"]
