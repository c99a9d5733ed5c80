"""A fit as one self-contained HTML page."""

from bayesmixed.page._page import report

__all__ = ["report"]
