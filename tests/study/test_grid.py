"""The grid: every combination once, nothing twice, no answer among the covariates."""

import pytest
from ml_collections import ConfigDict

from brainjax.errors import InputRefusedError
from brainjax.study.grid import clinical_columns, make_grid


def config(**blocks) -> ConfigDict:
    return ConfigDict(
        {
            "split": {"folds": 0},
            "tasks": {
                "age": {"target": "age"},
                "alive": {"target": "days", "event": "event"},
            },
            "inits": {
                "ours": {"kind": "run"},
                "table": {"kind": "clinical", "columns": ("age", "sex", "event")},
                "age_only": {"kind": "clinical", "columns": ("age",)},
            },
            "blocks": blocks,
        }
    )


def test_a_grid_has_every_run_once():
    words = {"ways": ("linear", "whole"), "per_class": (1, 5), "draws": 4}
    words |= {"fractions": (10, 100), "repeats": 3, "inits": ("ours",)}
    cells = make_grid(config(one=words, same=words))
    assert len(cells) == len(set(cells))
    # K: 2 x 4 draws; 10 %: 3; 100 %: 3, but one where nothing in it is random.
    assert len([c for c in cells if c.way == "whole"]) == 2 * (8 + 3 + 3)
    assert len([c for c in cells if c.way == "linear"]) == 2 * (8 + 3 + 1)
    assert len({c.name for c in cells}) == len(cells)


def test_folds_are_part_of_the_grid():
    made = config(one={"fractions": (100,), "inits": ("ours",), "tasks": ("age",)})
    made.split.folds = 5
    assert [cell.fold for cell in make_grid(made)] == [0, 1, 2, 3, 4]


def test_the_clinical_model_is_linear_and_never_sees_the_answer():
    made = config(one={"ways": ("linear", "whole"), "fractions": (100,)})
    assert clinical_columns(made, "age", "table") == ("sex", "event")
    assert clinical_columns(made, "alive", "table") == ("age", "sex")
    cells = [c for c in make_grid(made) if c.init != "ours"]
    assert {cell.way for cell in cells} == {"linear"}
    assert ("age", "age_only") not in {(c.task, c.init) for c in cells}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ({"fractions": (110,)}, "over 0 to 100"),
        ({"per_class": (0,)}, "1 or more"),
        ({"ways": ("hole",), "fractions": (5,)}, "did you mean 'whole'"),
        ({"tasks": ("agee",), "fractions": (5,)}, "did you mean 'age'"),
        ({"draw": 3, "fractions": (5,)}, "did you mean draws"),
        ({}, "wanted budgets"),
    ],
)
def test_blocks_that_cannot_be_are_refused(words, wanted):
    with pytest.raises(InputRefusedError, match=wanted):
        make_grid(config(one=words))
