"""Subjects by quartile of risk: each counted once, and ratios as lifelines has them."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from brainjax.errors import InputRefusedError
from brainjax.evaluate.quartiles import (
    covariate_columns,
    one_a_subject,
    quartiles,
    survival_tables,
    top_against_bottom,
)

RNG = np.random.default_rng(0)
N = 120
RISKS = RNG.normal(size=N)
TIMES = RNG.exponential(np.exp(-RISKS))
LIMITS = RNG.exponential(2.0, N)
EVENTS, TIMES = TIMES <= LIMITS, np.minimum(TIMES, LIMITS)
COVARIATES = {
    "age": list(RNG.normal(60, 10, N)),
    "site": [("Guys", "HH", "IOP")[i % 3] for i in range(N)],
}
SUBJECTS = one_a_subject(TIMES, EVENTS, RISKS, range(N))


def test_quartiles_are_of_equal_size_and_ties_go_down():
    np.testing.assert_array_equal(np.bincount(quartiles(RISKS))[1:], [30] * 4)
    np.testing.assert_array_equal(quartiles(np.zeros(9)), np.ones(9))
    assert quartiles(np.zeros(0)).shape == (0,)
    np.testing.assert_array_equal(quartiles(np.arange(3.0)), [1, 2, 4])


def test_a_subject_counts_once_with_the_mean_risk_of_its_scans():
    got = one_a_subject(
        [5, 9, 5], [True, False, False], [1.0, 4.0, 3.0], ["a", "b", "a"]
    )
    np.testing.assert_array_equal(got.times, [5, 9])
    np.testing.assert_array_equal(got.events, [True, False])
    np.testing.assert_array_equal(got.risks, [2, 4])
    np.testing.assert_array_equal(got.first, [0, 1])


@pytest.mark.parametrize("adjusted", [False, True])
def test_the_ratio_is_that_of_lifelines(adjusted):
    groups = quartiles(RISKS)
    kept = (groups == 1) | (groups == 4)
    frame = pd.DataFrame({"t": TIMES, "e": EVENTS, "top": 1.0 * (groups == 4)})
    if adjusted:
        frame["age"] = COVARIATES["age"]
        frame["hh"] = [1.0 * (site == "HH") for site in COVARIATES["site"]]
        frame["iop"] = [1.0 * (site == "IOP") for site in COVARIATES["site"]]
    fitted = CoxPHFitter().fit(frame[kept], "t", "e").summary.loc["top"]
    columns = covariate_columns(COVARIATES) if adjusted else None
    got = top_against_bottom(SUBJECTS, columns)
    assert got.value == pytest.approx(fitted["exp(coef)"], rel=1e-5)
    assert got.low == pytest.approx(fitted["exp(coef) lower 95%"], rel=1e-5)
    assert got.n == 60


def test_tables_are_json_and_hold_every_quartile():
    found = survival_tables(SUBJECTS, COVARIATES)
    text = json.dumps(found)
    assert json.dumps(json.loads(text)) == text
    assert [row["subjects"] for row in found["risk_quartiles"]] == [30] * 4
    assert found["log_rank"]["p"] < 0.001
    assert found["hazard_ratio"]["low"] > 1
    assert found["hazard_ratio_adjusted"]["covariates"] == ["age", "site"]


def test_subjects_without_a_covariate_are_left_out_of_its_ratio_only():
    ages = [None, *COVARIATES["age"][1:]]
    ages[int(np.argmax(RISKS))] = None
    found = survival_tables(SUBJECTS, {"age": ages})
    assert found["hazard_ratio"]["n"] == 60
    assert found["hazard_ratio_adjusted"]["n"] < 60


def test_a_covariate_without_values_or_that_never_differs_adjusts_for_nothing():
    nobody = survival_tables(SUBJECTS, {"age": [None] * N})
    assert math.isnan(nobody["hazard_ratio_adjusted"]["value"])
    same = survival_tables(SUBJECTS, {"sex": ["F"] * N, "dose": [1.0] * N})
    want = same["hazard_ratio"]["value"]
    assert same["hazard_ratio_adjusted"]["value"] == pytest.approx(want)


def test_equal_risks_have_one_group_and_no_ratio():
    found = survival_tables(one_a_subject(TIMES, EVENTS, np.zeros(N), range(N)))
    assert len(found["risk_quartiles"]) == 1
    assert math.isnan(found["log_rank"]["p"])
    assert math.isnan(found["hazard_ratio"]["value"])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([1.0, "a"], "wanted values of one type"), (list("abcdefghijkl"), "got 12")],
    ids=["mixed", "names"],
)
def test_a_covariate_that_is_none_is_refused(values, wanted):
    with pytest.raises(InputRefusedError, match=wanted):
        covariate_columns({"site": values})
