"""Tables that cannot be learnt from: each is refused in one line that says why."""

import pytest

from brainjax.errors import InputRefusedError
from brainjax.records.labels import read_labels
from brainjax.tasks import make_task

GOOD = {
    "age": [20, 30, 40, 50],
    "sex": ["F", "M", "F", "M"],
    "idh": ["wildtype", "mutant", None, "wildtype"],
    "days": [10, 400, 700.5, 30],
    "event": [1, 0, 1, 0],
}
SURVIVAL = {"target": "days", "event": "event"}
YEAR = {**SURVIVAL, "horizon": 365}


def table(**columns):
    """Gives the columns as a prepared data set does."""
    known = {**GOOD, **columns}

    def labels(name):
        if name not in known:
            raise InputRefusedError(f"data: wanted a label {name}, got {list(known)}")
        return known[name]

    return labels


def learn(name, labels, **task):
    """What a fine-tuning run does with a table: reads, fits on some, encodes all."""
    task = make_task(name, **task)
    values = task.values(labels)
    return task.fit(values[:3]).encode(values)


def refused(name, task, columns, words):
    with pytest.raises(InputRefusedError, match=words) as caught:
        learn(name, table(**columns), **task)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("regression", {"target": "age"}),
        ("classification", {"target": "sex"}),
        ("classification", YEAR),
        ("survival", SURVIVAL),
        ("survival", {**SURVIVAL, "loss": "discrete", "covariates": ("age",)}),
        ("auto", {"target": "sex"}),
        ("auto", {"target": "days"}),
    ],
)
def test_the_good_table_is_learnt(name, task):
    targets, weights = learn(name, table(), **task)
    assert len(targets) == len(weights) == 4


MISSING = [
    ("regression", {"target": "height"}, "height"),
    ("classification", {"target": "height"}, "height"),
    ("auto", {"target": "height"}, "height"),
    ("survival", {"target": "height", "event": "event"}, "height"),
    ("survival", {"target": "days", "event": "died"}, "died"),
    ("survival", {**SURVIVAL, "covariates": ("age", "height")}, "height"),
    ("classification", {**YEAR, "event": "died"}, "died"),
]


@pytest.mark.parametrize(("name", "task", "column"), MISSING)
def test_a_missing_column(name, task, column):
    refused(name, task, {}, f"wanted a label {column}")


MIXED = [
    ("regression", {"target": "age"}, {"age": [20, "old", 3, 4]}, "'age'.*one type"),
    ("regression", {"target": "age"}, {"age": ["20", "old", "3", "4"]}, "1 words.*old"),
    ("regression", {"target": "sex"}, {}, "'sex'.*wanted numbers.*'F'"),
    ("classification", {"target": "sex"}, {"sex": ["F", 1, 0, 0]}, "'sex'.*one type"),
    ("classification", {"target": "age"}, {"age": [0.5, 1, 2, 3]}, "whole numbers"),
    ("auto", {"target": "age"}, {"age": [20, "old", 3, 4]}, "'age'.*one type"),
    ("survival", SURVIVAL, {"days": [10, "soon", 7, 3]}, "'days'.*numbers.*'soon'"),
    ("classification", YEAR, {"days": [10, "soon", 7, 3]}, "'days'.*numbers.*'soon'"),
]


@pytest.mark.parametrize(("name", "task", "columns", "words"), MIXED)
def test_mixed_types(name, task, columns, words):
    refused(name, task, columns, words)


def test_a_table_whose_column_has_one_word_names_it(tmp_path):
    # Reading makes text of the whole column; the word that did it is what helps.
    path = tmp_path / "participants.tsv"
    path.write_text("participant_id\tage\nsub-1\t20\nsub-2\told\nsub-3\t40\n")
    rows = read_labels(path).rows
    ages = [row["age"] for row in rows.values()]
    refused("regression", {"target": "age"}, {"age": ages}, "2 numbers and 1 .*'old'")


TWICE = [
    {"target": "days", "event": "days"},
    {**SURVIVAL, "covariates": ("age", "days")},
    {**SURVIVAL, "covariates": "age,event"},
    {**SURVIVAL, "covariates": ("age", "age")},
]


@pytest.mark.parametrize("task", TWICE)
def test_the_target_among_the_covariates(task):
    refused("survival", task, {}, "wanted different columns .*got '[a-z]+' twice")


def test_the_times_as_their_own_event():
    refused("classification", {**YEAR, "event": "days"}, {}, "different columns")


ONE_CLASS = [
    ({"target": "sex"}, {"sex": ["F"] * 3 + ["M"]}, "3 scans of 'F' only"),
    ({"target": "idh"}, {"idh": ["mutant", None, None, None]}, "got 1 of 3"),
    ({"target": "idh", "classes": ("wildtype", "mutant")}, {"idh": ["mutant"] * 4},
     "3 scans of 'mutant' only"),
    (YEAR, {"days": [400, 500, 600, 10]}, "3 scans of 'no' only"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "columns", "words"), ONE_CLASS)
def test_one_class_only(task, columns, words):
    refused("classification", task, columns, words)


@pytest.mark.parametrize("name", ["survival", "classification"])
@pytest.mark.parametrize("row", [0, 3])
def test_negative_times(name, row):
    days = [*GOOD["days"]]
    days[row] = -2.5
    task = SURVIVAL if name == "survival" else YEAR
    refused(name, task, {"days": days}, "'days'.*at least 0, got -2.5")


@pytest.mark.parametrize("event", [2, 0.5, "dead", "", -1])
@pytest.mark.parametrize("name", ["survival", "classification"])
def test_an_event_that_is_neither_0_nor_1(name, event):
    task = SURVIVAL if name == "survival" else YEAR
    words = f"event 'event'.*0 or 1, true or false, yes or no, got {event!r}"
    refused(name, task, {"event": [1, 0, 1, event]}, words)


UNLEARNABLE = [
    ({"event": [0, 0, 0, 1]}, "whose event 'event' came, got 3 censored"),
    ({"event": [None] * 4}, "4 times and 0 events, none of both"),
    ({"days": [None] * 4}, "0 times and 4 events, none of both"),
    ({"event": [1, None, None, 1]}, "at least 2 training scans .* got 1 of 3"),
    ({"days": [7, 7, 7, 8]}, "times that differ, got 3 times 7"),
]


@pytest.mark.parametrize(("columns", "words"), UNLEARNABLE)
def test_times_without_events(columns, words):
    refused("survival", SURVIVAL, columns, words)


OUTSIDE = [
    ("regression", {"target": "age"}, {"age": [20, 30, 40, 121]}, "120 years.*121"),
    ("regression", {"target": "age"}, {"age": [-1, 30, 40, 50]}, "120 years.*-1"),
    ("regression", {"target": "days"}, {"days": [-1, 3, 4, 5]}, "43830 days, got -1"),
    ("regression", {"target": "days", "range": (0, 600)}, {}, "0 to 600 days, got 70"),
    ("regression", {"target": "age", "range": (0, 45), "loss": "bins"}, {}, "got 50"),
    ("classification", {"target": "sex", "classes": "F,X"}, {}, "one of F, X, got 'M'"),
    ("classification", {"target": "idh", "classes": ("wildtype", "mutant")},
     {"idh": ["wildtype", "mutant", "mutant", "Mutant"]}, "got 'Mutant'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "task", "columns", "words"), OUTSIDE)
def test_a_label_out_of_range(name, task, columns, words):
    refused(name, task, columns, words)


def test_another_unit_has_another_range():
    months = {"age": [240, 360, 480, 1200]}
    learn("regression", table(**months), target="age", unit="months")
    refused("regression", {"target": "age"}, months, "0 to 120 years, got 240")
