"""Reports: plain functions of a fit that return a `Report`."""

from bayesmixed.reports._report import Report
from bayesmixed.reports._shrinkage import shrinkage
from bayesmixed.reports._variance import variance_components

__all__ = ["Report", "shrinkage", "variance_components"]
