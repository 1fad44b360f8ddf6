"""Structures of a label map: parts, sides, weights and what an answer means."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.augment.synthesis import DLMUSE_TISSUES
from brainjax.errors import InputRefusedError
from brainjax.models.segmented import Segmented
from brainjax.records.classes import UNKNOWN
from brainjax.tasks import make_task, task_from_dict

TUMOUR = {"core": (9, 11), "whole": (9, 10, 11)}
SIDES = {"left_a": (3,), "right_a": (5, 6), "stem": (7,)}


def make(**words):
    return make_task("segmentation", **words)


@pytest.mark.parametrize(
    ("words", "outputs", "sigmoid"),
    [
        ({"classes": {"brain": "any"}}, 1, True),
        ({"classes": SIDES}, 4, False),
        ({"classes": TUMOUR, "overlapping": True}, 2, True),
    ],
)
def test_one_class_or_overlapping_ones_are_yes_or_no_each(words, outputs, sigmoid):
    task = make(**words)
    assert (task.outputs, task.sigmoid) == (outputs, sigmoid)
    assert task_from_dict(json.loads(json.dumps(task.to_dict()))) == task
    hash(task)


def test_structures_without_tissues_are_numbered_as_they_come():
    task = make(classes=tuple(SIDES.items()), ignore=(9,))
    table = task.partition.table
    assert table[[0, 3, 4, 5, 6, 7, 9]].tolist() == [0, 1, 0, 2, 2, 3, UNKNOWN]
    assert task.partition.answers.tolist() == [0, 1, 2, 3]


def test_tissues_cut_a_structure_into_parts_and_change_no_answer():
    task = make(classes={"brain": "any"}, tissues=tuple(DLMUSE_TISSUES.items()))
    part = task.partition.table[[0, 100, 81, 99]]
    assert part[0] == 0
    assert len(set(part.tolist())) == 4
    assert task.partition.tissues[part].tolist() == [0, 1, 3, 0]
    assert task.regions(part)[:, 0].tolist() == [False, True, True, True]


def test_a_mirror_swaps_left_and_right_and_nothing_else():
    task = make(classes=tuple(SIDES.items()))
    mirrored = task.partition.mirrored
    assert mirrored[[0, 1, 2, 3, UNKNOWN]].tolist() == [0, 2, 1, 3, UNKNOWN]
    assert task.pairs() == ((0, 1),)


@pytest.mark.parametrize(
    ("names", "pairs", "alone"),
    [
        (("Left-Hippocampus", "Right-Hippocampus"), ((0, 1),), ()),
        (("stem", "thalamus_right", "thalamus_left"), ((2, 1),), ()),
        (("left_a", "b"), (), ("left_a",)),
        (("left_right_border", "b"), (), ()),
    ],
)
def test_sides_are_told_however_a_name_says_them(names, pairs, alone):
    task = make(classes=[(name, (n,)) for n, name in enumerate(names, 1)])
    assert (task.pairs(), task.one_sided()) == (pairs, alone)


def test_a_mirrored_combination_that_no_id_has_gets_a_part():
    classes = {"left_a": (3,), "right_a": (5,), "all": (3, 4, 5, 6), "b": (3,)}
    found = make(classes=classes, overlapping=True).partition
    left = int(found.table[3])  # left_a, all and b: on the right no id is all three
    row = found.regions[found.mirrored[left]].tolist()
    assert row == [False, True, True, True]
    assert (found.mirrored[found.mirrored] == np.arange(256)).all()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ({"classes": {}}, "task.classes: wanted names with raw ids, got none"),
        ({"classes": TUMOUR}, "wanted id 9 in one class"),
        ({"classes": {"a": (0,)}}, "class a: wanted ids of 1 to 65535"),
        ({"classes": SIDES, "loss": "dice_cx"}, "did you mean 'dice_ce'"),
        ({"classes": SIDES, "smoothing": 1.0}, "wanted 0 to under 1, got 1.0"),
        (
            {"classes": SIDES, "smoothing": 0.1, "loss": "dice_focal"},
            "wanted 0 with loss dice_focal, got 0.1",
        ),
        ({"classes": SIDES, "target": "age"}, "wanted one of label_map, got 'age'"),
        ({"clases": SIDES}, "did you mean 'classes'"),
        ({"classes": "brain"}, "wanted names with raw ids, got 'brain'"),
        ({"classes": [("a", (1,)), ("a", (2,))]}, "wanted a once, got it twice"),
        ({"classes": {"../a": (1,)}}, "wanted names of letters"),
        ({"classes": {"mean": (1,)}}, "not 'mean', got 'mean'"),
        ({"classes": {"a": (4.7,)}}, r"task.classes.a: wanted ids .* got 4.7"),
        ({"classes": {"a": None}}, "wanted ids .* got None"),
        ({"classes": {"a": "all"}}, "or 'any', got 'all'"),
        ({"classes": SIDES, "ignore": "any"}, "task.ignore: wanted ids"),
    ],
)
def test_refused_settings(words, wanted):
    with pytest.raises(InputRefusedError, match=wanted):
        make(**words)


def test_weights_come_from_a_column_and_are_1_without_one():
    def labels(name):
        return {"subject": ["a", "b", "c"], "trust": [0.5, None, "2"]}[name]

    assert make(classes=SIDES).values(labels) == [1.0, 1.0, 1.0]
    task = make(classes=SIDES, weight="trust")
    assert task.columns_read == ("trust",)
    assert task.values(labels) == [0.5, None, 2.0]
    assert task.encode(task.values(labels))[1].tolist() == [0.5, 1.0, 2.0]
    with pytest.raises(InputRefusedError, match="trust: wanted weights of 0 or more"):
        task.values(lambda _: [-1.0])


@pytest.mark.parametrize("loss", ["dice", "dice_ce", "dice_focal", "dice_ce_boundary"])
@pytest.mark.parametrize("overlapping", [False, True])
def test_right_answers_lose_least_and_unknown_voxels_nothing(loss, overlapping):
    classes = TUMOUR if overlapping else SIDES
    task = make(classes=classes, overlapping=overlapping, loss=loss)
    rng = np.random.default_rng(0)
    count = len(task.partition.regions)
    parts = jnp.asarray(rng.integers(0, count, (1, 4, 4, 4)), jnp.uint8)
    if task.sigmoid:
        right = 12.0 * task.regions(parts) - 6
    else:
        right = 12.0 * jax.nn.one_hot(task.answers(parts), task.outputs)
    ones = jnp.ones(1)
    best = task.loss(Segmented(right), parts, ones)
    assert best < task.loss(Segmented(-right), parts, ones) - 0.5
    assert (task.decide(right) == task.regions(parts)).all()
    # Where nobody knows, anything may be said.
    hidden = parts.at[0, 0].set(UNKNOWN)
    noise = right.at[0, 0].add(100.0)
    same = [task.loss(Segmented(x), hidden, ones) for x in (right, noise)]
    assert same[0] == same[1]


def test_probabilities_leave_the_background_of_a_softmax():
    task = make(classes=SIDES)
    found = task.probabilities(jnp.zeros((2, 4)))
    np.testing.assert_allclose(found, np.full((2, 3), 0.25))
