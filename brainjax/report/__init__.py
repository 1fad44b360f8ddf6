"""Tables, plots and one HTML page about runs."""

from brainjax.report.html import write_report

__all__ = ["write_report"]
