"""Differences are paired by draw and subject, and their intervals tell the truth."""

import numpy as np
import pytest

from brainjax.study.differences import Cases, Curves, Line
from brainjax.study.verdicts import comparisons, sentences, winners

N = 60
OURS, THEIRS = Line("age", "whole", "ours"), Line("age", "whole", "theirs")


def row(line: Line, answers, *, draw=0, seed=0, fold=0, cases="all", **more) -> dict:
    made = {**line._asdict(), "budget": "p10", "draw": draw, "seed": seed, "fold": fold}
    made |= {"score_name": "mae", "unit": "years", "n_train": 24, "cases": cases}
    return made | {"answers": list(answers)} | more


def held(first: int = 0, last: int = N) -> Cases:
    names = [f"s{i}" for i in range(first, last)]
    return Cases(names, names, [0.0] * (last - first))


def curves_of(rows, **cases) -> Curves:
    return Curves(rows, cases or {"all": held()})


def noisy(shift: float, draws: int = 5, seed: int = 0) -> list[dict]:
    """Theirs is a shift worse, and cases differ far more than initialisations."""
    generator = np.random.default_rng(seed)
    hard = generator.uniform(1, 30, N)
    rows = []
    for draw in range(draws):
        common = hard + generator.normal(0, 0.3, N)
        rows.append(row(OURS, common, draw=draw))
        rows.append(row(THEIRS, common + shift, draw=draw))
    return rows


def test_a_paired_difference_is_shown_where_two_intervals_overlap():
    curves = curves_of(noisy(0.5))
    ours, theirs = (curves.point(line, "p10").score for line in (OURS, THEIRS))
    assert ours.high > theirs.low
    found = curves.difference(OURS, THEIRS, "p10")
    assert found is not None
    assert found.gain.value == pytest.approx(0.5)
    assert found.shown
    assert (found.gain.repeats, found.gain.subjects) == (5, N)


def test_no_difference_is_claimed_between_equals():
    shown = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        rows = [
            row(line, generator.normal(0, 5, N), draw=draw)
            for line in (OURS, THEIRS)
            for draw in range(3)
        ]
        found = curves_of(rows).difference(OURS, THEIRS, "p10")
        assert found is not None
        shown += found.shown
    assert shown <= 4  # of 40; one in twenty is expected


def test_draws_are_resampled_too():
    # The same subjects, but one draw of three says otherwise: that is uncertain.
    gains = [0.5, 0.5, -3.0]
    rows = [
        row(line, np.full(N, 10.0) + (line == THEIRS) * gain, draw=draw)
        for draw, gain in enumerate(gains)
        for line in (OURS, THEIRS)
    ]
    found = curves_of(rows).difference(OURS, THEIRS, "p10")
    assert found is not None
    assert found.gain.low < -2
    assert found.gain.high > 0.4


def test_only_the_same_draws_are_compared():
    rows = noisy(0.5)
    del rows[0]  # ours failed in draw 0
    found = curves_of(rows).difference(OURS, THEIRS, "p10")
    assert found is not None
    assert found.gain.repeats == 4
    assert found.gain.value == pytest.approx(0.5)


def test_a_lone_run_is_compared_with_every_seed_of_another():
    rows = [row(OURS, np.full(N, 1.0), seed=s) for s in range(3)]
    rows.append(row(THEIRS, np.full(N, 3.0)))
    found = curves_of(rows).difference(OURS, THEIRS, "p10")
    assert found is not None
    assert found.gain.repeats == 3
    assert found.gain.value == 2


def test_a_lone_run_of_several_draws_is_compared_with_its_own_draw_only():
    rows = noisy(0.5)
    rows = [r for r in rows if r["init"] == "theirs" or r["draw"] == 2]
    found = curves_of(rows).difference(OURS, THEIRS, "p10")
    assert found is not None
    assert found.gain.repeats == 1


def test_folds_are_put_together_and_a_repeat_without_all_of_them_is_left_out():
    parts = {"one": held(0, 20), "two": held(20, N)}
    rows = [
        row(line, np.full(n, value), fold=fold, cases=name)
        for line, value in ((OURS, 1.0), (THEIRS, 2.0))
        for fold, (name, n) in enumerate((("one", 20), ("two", N - 20)))
    ]
    rows.append(row(OURS, np.full(20, 50.0), seed=7, cases="one"))
    found = curves_of(rows, **parts).difference(OURS, THEIRS, "p10")
    assert found is not None
    assert found.gain.value == 1
    assert found.gain.subjects == N


def test_sentences_say_who_won_and_by_how_much():
    curves = curves_of(noisy(0.5))
    (winner,) = winners(curves)
    assert winner.startswith("age: at 10 % ours, whole won (mean absolute error")
    assert "by 0.50 years over theirs, whole" in winner
    (text,) = sentences(comparisons(curves, "ours"))
    assert text.startswith(
        "age: ours, whole against theirs, whole: better at 10 % by 0.50 years ["
    )
    assert "5 runs, 60 subjects" in text
    (text,) = sentences(comparisons(curves, "theirs"))
    assert "theirs, whole against ours, whole: worse at 10 % by 0.50 years" in text


def test_sentences_say_that_no_difference_could_be_shown():
    curves = curves_of(noisy(0.0))
    (winner,) = winners(curves)
    assert "no difference could be shown" in winner
    (text,) = sentences(comparisons(curves, "ours"))
    assert "no difference could be shown at 10 %" in text


def test_a_higher_auc_is_better():
    truth = [0, 1] * (N // 2)
    names = [f"s{i}" for i in range(N)]
    cases = {"all": Cases(names, names, truth)}
    words = {"score_name": "auc", "unit": ""}
    good = np.array(truth) + np.random.default_rng(0).normal(0, 0.5, N)
    rows = [row(OURS, good, **words), row(THEIRS, np.zeros(N), **words)]
    found = curves_of(rows, **cases).difference(OURS, THEIRS, "p10")
    assert found is not None
    assert found.gain.low > 0
