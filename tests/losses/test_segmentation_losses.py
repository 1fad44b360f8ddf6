"""Losses of volumes: equal to plain NumPy in value and slope; unknown never counts."""

from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from brainjax.losses import (
    SEGMENTATION_LOSSES,
    coarsen,
    deep_supervised,
    region_probabilities,
    signed_distances,
)
from brainjax.models import Segmented

SHAPE = (2, 3, 4, 2)
WEIGHTS = np.array([1.0, 0.5])
# Numbers 0 to 3 and the three regions they lie in, one in the other.
REGIONS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], bool)


def case(k, numbers=4, seed=0):
    """Logits and class numbers; one voxel in four unknown, class 3 only in one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, numbers, SHAPE)
    labels[1][labels[1] == 3] = 0
    labels[rng.random(SHAPE) < 0.25] = 255
    return rng.standard_normal((*SHAPE, k)), labels.astype(np.uint8)


def twin_answers(logits, labels, regions=None, summed=False, background=True):
    """Probabilities, truth, and probability of every answer that a voxel is asked."""
    if regions is None or summed:
        chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    else:
        chances = 1 / (1 + np.exp(-logits))
    if regions is None:
        truth = labels[..., None] == np.arange(logits.shape[-1])
        right = (chances * truth).sum(-1, keepdims=True)
        answers = [chances[..., c : c + 1] for c in range(chances.shape[-1])]
        right[labels == 255] = 1
        first = 0 if background else 1
        return chances[..., first:], truth[..., first:], right, answers
    if summed:
        chances = chances @ regions
    truth = regions[np.where(labels == 255, 0, labels)] & (labels != 255)[..., None]
    right = np.where(truth, chances, 1 - chances)
    return chances, truth, right, [chances, 1 - chances]


def twin(name, logits, labels, weights, *, smoothing=0.0, dice=None, **keywords):
    chances, truth, right, answers = twin_answers(logits, labels, **keywords)
    settings = {"batch": False, "absent": False, "smooth": 1e-5} | (dice or {})
    smooth, batch, absent = settings["smooth"], settings["batch"], settings["absent"]
    known = labels != 255
    groups = [[0, 1]] if batch else [[0], [1]]
    total = share = 0.0
    for group, c in product(groups, range(chances.shape[-1])):
        both = sum(
            weights[b] * (chances * truth)[b, ..., c][known[b]].sum() for b in group
        )
        found = sum(weights[b] * chances[b, ..., c][known[b]].sum() for b in group)
        true = sum(weights[b] * truth[b, ..., c][known[b]].sum() for b in group)
        weight = 1.0 if batch else weights[group[0]]
        scale = 1.0 if batch else weight or 1.0
        value = 1 - (2 * both / scale + smooth) / ((found + true) / scale + smooth)
        if true > 0 or absent:
            total, share = total + weight * value, share + weight
    loss = total / share
    per_voxel = known * weights[:, None, None, None]
    nats = -(1 - smoothing) * np.log(right).mean(-1)
    nats -= smoothing * np.mean([np.log(a).mean(-1) for a in answers], axis=0)
    focal = -((1 - right) ** 2 * np.log(right)).mean(-1)
    if name in ("dice_ce", "dice_ce_boundary"):
        loss += (nats * per_voxel).sum() / per_voxel.sum()
    if name == "dice_focal":
        loss += (focal * per_voxel).sum() / per_voxel.sum()
    if name == "dice_ce_boundary":
        far = twin_distances(truth, reach=8)
        edges = (far * chances).mean(-1)
        loss += 0.01 * (edges * per_voxel).sum() / per_voxel.sum()
    return loss


def twin_distances(masks, *, reach):
    found = np.empty(masks.shape)
    for b, c in product(range(masks.shape[0]), range(masks.shape[-1])):
        mask = masks[b, ..., c]
        away = distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, 99)
        into = distance_transform_edt(mask) if not mask.all() else mask * 99
        away, into = np.minimum(away, reach), np.minimum(into, reach)
        found[b, ..., c] = np.where(mask, 0.5 - into, away - 0.5)
    return found


MODES = {
    "classes": (4, {}),
    "foreground": (4, {"background": False}),
    "regions": (3, {"regions": REGIONS}),
    "summed": (4, {"regions": REGIONS, "summed": True}),
    "batch": (4, {"dice": {"batch": True}}),
    "absent": (4, {"dice": {"absent": True, "smooth": 1.0}}),
    "smoothed": (4, {"smoothing": 0.2}),
    "smoothed_regions": (3, {"regions": REGIONS, "smoothing": 0.2}),
}
ROWS = [
    *(("dice_ce", mode) for mode in MODES),
    ("dice_focal", "classes"),
    ("dice_focal", "summed"),
    ("dice_ce_boundary", "classes"),
    ("dice", "regions"),
]


@cache
def compiled(name, mode):
    """One program for each row, from (logits, labels, weights) to value and slope."""
    loss = partial(SEGMENTATION_LOSSES[name], **MODES[mode][1])
    return jax.jit(jax.value_and_grad(loss))


def measure(name, mode, logits, labels, weights=WEIGHTS):
    given = np.float32(logits), np.uint8(labels), np.float32(weights)
    return map(np.asarray, compiled(name, mode)(*map(jnp.asarray, given)))


@pytest.mark.parametrize(("name", "mode"), ROWS)
def test_value_and_slope_equal_numpy(name, mode):
    k, keywords = MODES[mode]
    logits, labels = case(k)
    plain = partial(twin, name, labels=labels, weights=WEIGHTS, **keywords)
    value, slope = measure(name, mode, logits, labels)
    np.testing.assert_allclose(value, plain(logits), rtol=1e-5)
    rng = np.random.default_rng(1)
    for _ in range(3):
        way = rng.standard_normal(logits.shape)
        want = (plain(logits + 1e-5 * way) - plain(logits - 1e-5 * way)) / 2e-5
        np.testing.assert_allclose((slope * way).sum(), want, rtol=1e-4, atol=1e-5)
    assert not slope[labels == 255].any()


@pytest.mark.parametrize(("name", "mode"), ROWS)
def test_a_sample_of_weight_zero_and_unknown_voxels_do_not_count(name, mode):
    logits, labels = case(MODES[mode][0])
    want, _ = measure(name, mode, logits, labels, [1, 0])
    # Nothing of the second sample, and nothing where the first is unknown.
    logits[labels == 255] = -7
    logits[1], labels[1] = 9, 2
    got, slope = measure(name, mode, logits, labels, [1, 0])
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert not slope[1].any()


@pytest.mark.parametrize(("name", "mode"), ROWS)
def test_nothing_known_gives_zero_and_no_slope(name, mode):
    logits, labels = case(MODES[mode][0])
    value, slope = measure(name, mode, logits, np.full_like(labels, 255))
    assert value == 0
    np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize(("name", "mode"), ROWS)
def test_certain_logits_give_finite_slopes(name, mode):
    logits, labels = case(MODES[mode][0])
    value, slope = measure(name, mode, 1e4 * np.sign(logits), labels)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_region_probabilities_are_sums_of_classes():
    logits = jnp.asarray(case(4)[0], jnp.float32)
    got = jax.jit(region_probabilities)(logits, REGIONS)
    want = twin_answers(np.asarray(logits, np.float64), case(4)[1], REGIONS, True)[0]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_dice_of_the_truth_is_none_and_of_its_opposite_one():
    _, labels = case(4)
    labels[labels == 255] = 0
    sure = 50.0 * (labels[..., None] == np.arange(4))
    (right, _), (wrong, _) = (
        measure("dice_ce", "batch", sign * sure, labels) for sign in (1, -1)
    )
    np.testing.assert_allclose(right, 0, atol=1e-6)
    # The wrong answers share the probability.
    np.testing.assert_allclose(wrong, 1 + 50 + np.log(3), atol=1e-4)


@pytest.mark.parametrize("reach", [2, 5, 40])
def test_distances_are_exact_within_reach(reach):
    rng = np.random.default_rng(0)
    masks = rng.random((1, 12, 9, 10, 4)) < np.array([0.02, 0.5, 0.98, 0.002])
    masks[..., 3] = False
    got = jax.jit(partial(signed_distances, reach=reach))(jnp.asarray(masks))
    np.testing.assert_allclose(got, twin_distances(masks, reach=reach), atol=1e-5)


def test_boundary_takes_distances_that_come_with_the_labels():
    logits, labels = case(4)
    truth = labels[..., None] == np.arange(4)
    loss = jax.jit(SEGMENTATION_LOSSES["dice_ce_boundary"])
    given = np.float32(logits), labels, np.float32(WEIGHTS)
    far = jnp.asarray(twin_distances(truth, reach=8), jnp.float32)
    got = loss(*map(jnp.asarray, given), distances=far)
    want, _ = measure("dice_ce_boundary", "classes", logits, labels)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_coarse_labels_are_the_most_frequent_known_ones():
    cells = np.zeros((1, 4, 2, 3), np.uint8)
    cells[0, :2, :, :2] = np.reshape([1, 1, 1, 2, 2, 2, 0, 0], (2, 2, 2))
    cells[0, 2:, :, :2] = 255
    cells[0, 2, 0, 0] = 7
    cells[0, :2, :, 2] = 255
    got = jax.jit(coarsen)(jnp.asarray(cells))
    assert got.dtype == jnp.uint8
    # A tie goes to the higher number; an odd side is filled with unknown cells.
    np.testing.assert_array_equal(got[0, :, 0], [[2, 255], [7, 0]])


def test_deep_supervision_halves_the_weights():
    labels = case(4)[1]
    shapes = [SHAPE, (2, 2, 2, 1), (2, 1, 1, 1)]
    pyramid = [np.full((*s, 1), 2.0 + n, np.float32) for n, s in enumerate(shapes)]
    segmented = Segmented(pyramid[0], tuple(pyramid[1:]))
    seen = []

    def loss(logits, labels, weights):
        # Only shapes must fit: what is given is looked at below.
        seen.append(labels)
        return jnp.max(logits) + 0 * weights.sum()

    @jax.jit
    def both(segmented, labels, weights):
        alone = deep_supervised(loss, Segmented(segmented.logits), labels, weights)
        return alone, deep_supervised(loss, segmented, labels, weights), seen[1:]

    alone, deep, levels = both(segmented, jnp.asarray(labels), jnp.ones(2))
    np.testing.assert_allclose(alone, 2)
    np.testing.assert_allclose(deep, (2 + 3 / 2 + 4 / 4) / 1.75, rtol=1e-6)
    assert [level.shape for level in levels] == shapes
    np.testing.assert_array_equal(levels[0], labels)
    np.testing.assert_array_equal(levels[1], jax.jit(coarsen)(jnp.asarray(labels)))
