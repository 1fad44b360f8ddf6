"""Studies: grids of runs that prove or disprove a claim; audits of leaks."""

from brainjax.study.study import Study, run_study

__all__ = ["Study", "run_study"]
