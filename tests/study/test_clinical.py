"""The clinical model sees columns as numbers, learnt from training cases alone."""

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.study.clinical import covariates

TABLE = {"age": [20, 40, None, 90], "sex": ["F", "M", None, "X"], "odd": [1, "b", 2, 3]}


def test_unknown_values_are_the_training_mean_and_say_so():
    found = covariates(TABLE.__getitem__, ["age", "sex"], np.array([0, 1]))
    np.testing.assert_array_equal(found[:, :2], [[20, 0], [40, 0], [30, 1], [90, 0]])
    # A word that training never saw is none of those it knows.
    np.testing.assert_array_equal(found[:, 2:], [[1, 0], [0, 1], [0, 0], [0, 0]])


@pytest.mark.parametrize("columns", [["odd"], []])
def test_mixed_or_no_columns_are_refused(columns):
    with pytest.raises(InputRefusedError, match=r"wanted (values of one type|columns)"):
        covariates(TABLE.__getitem__, columns, np.array([0, 1]))
