"""One small cohort that the tests of this room share."""

from pathlib import Path

import pytest

from brainjax.phantom import cohort
from brainjax.phantom.atlas import Atlas, build_atlas

SPACING = 6.0


@pytest.fixture(scope="session")
def atlas() -> Atlas:
    return build_atlas(SPACING)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """Four subjects, two sequences, 6 mm, made in this process."""
    out = tmp_path_factory.mktemp("small") / "cohort"
    make(out, subjects=4, sequences=("T1w", "T2w"))
    return out


def make(out: Path, **options) -> Path:
    given = {"subjects": 2, "spacing": SPACING, "workers": 1, "progress": False}
    return cohort(out, **{**given, **options})


@pytest.fixture(scope="session")
def make_cohort():
    return make
