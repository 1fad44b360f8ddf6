"""A generated cohort with known answers, from an atlas that a dependency ships."""

from brainjax.phantom.cohort import cohort

__all__ = ["cohort"]
