"""A scan and its labels stay together, whatever happens to them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.augment.labels import (
    Parts,
    draw_voxel,
    make_label_augmentation,
    random_labelled_views,
)
from brainjax.augment.synthesis import make_synthesis
from brainjax.errors import InputRefusedError

SHAPE = (12, 14, 10)
STILL = dict.fromkeys(
    [
        *("rotate", "scale", "stretch", "translate", "flip", "bias", "gamma"),
        *("brightness", "contrast", "blur", "noise"),
    ],
    0.0,
)
MIRRORED = np.arange(256, dtype=np.uint8)
MIRRORED[[1, 2]] = 2, 1
PARTS = Parts(np.eye(3, dtype=bool)[:, 1:], np.array([0, 1, 2], np.uint8), MIRRORED)


def case(sequences: int = 2) -> np.ndarray:
    """A head of which the left third is part 1, the right 2; codes tell them apart."""
    grid = np.indices(SHAPE).transpose(1, 2, 3, 0) - (np.array(SHAPE) - 1) / 2
    head = (np.abs(grid) < np.array(SHAPE) / 2 - 1.5).all(-1)
    labels = np.where(grid[..., 0] < -1, 1, np.where(grid[..., 0] > 2, 2, 0)) * head
    codes = np.where(head, np.array([40, 120, 250])[labels], 0)
    return np.stack([*[codes] * sequences, labels]).astype(np.uint8)


def views_of(augmentation, volumes, seed=0, parts=PARTS):
    keys = jax.random.split(jax.random.key(seed), len(volumes))
    call = jax.jit(partial(random_labelled_views, augmentation, parts=parts))
    views, labels = call(jnp.asarray(volumes), keys)
    return np.asarray(views), np.asarray(labels)


def z_scores(codes):
    inside = codes > 0
    values = codes[inside].astype(float)
    return np.where(inside, (codes - values.mean()) / values.std(), 0)


def test_zero_strength_is_the_identity():
    augmentation = make_label_augmentation(view=SHAPE, **STILL)
    views, labels = views_of(augmentation, case()[None])
    np.testing.assert_array_equal(labels[0], case()[-1])
    for number in range(2):
        np.testing.assert_allclose(
            views[0, ..., number], z_scores(case()[0]), atol=1e-5
        )


def test_a_crop_is_a_part_of_the_volume_and_a_larger_view_has_nothing_round_it():
    volume = np.random.default_rng(0).integers(1, 256, (2, *SHAPE)).astype(np.uint8)
    volume[-1] = volume[0] % 3  # a label that says which voxel it lies on
    crop = make_label_augmentation(view=(6, 6, 6), **STILL)
    _, labels = views_of(crop, volume[None])
    windows = np.lib.stride_tricks.sliding_window_view(volume[-1], (6, 6, 6))
    assert (windows == labels[0]).all((3, 4, 5)).sum() == 1
    large = make_label_augmentation(view=(14, 14, 16), **STILL)
    views, labels = views_of(large, volume[None])
    np.testing.assert_array_equal(labels[0, 1:13, :, 3:13], volume[-1])
    assert labels[0].sum() == volume[-1].sum()
    assert (views[0, :, :, :3] == 0).all()


def test_a_crop_is_scored_as_the_part_of_its_volume_that_it_is():
    # As in `segment`, which z-scores the volume and then cuts windows out of it.
    volume = np.random.default_rng(1).integers(0, 256, (2, *SHAPE)).astype(np.uint8)
    volume[0, :6] //= 4  # a dark side, so that a crop's own mean is another
    crop = make_label_augmentation(view=(6, 6, 6), **STILL)
    views, _ = views_of(crop, volume[None])
    whole = z_scores(volume[0])
    windows = np.lib.stride_tricks.sliding_window_view(whole, (6, 6, 6))
    away = np.abs(windows - views[0, ..., 0]).max((3, 4, 5))
    assert away.min() < 1e-5
    own = views[0, ..., 0][views[0, ..., 0] != 0]
    assert abs(own.mean()) > 0.1, "a crop like its volume shows nothing"


def test_a_crop_of_one_value_and_one_of_nothing_stay_numbers():
    volume = np.zeros((2, *SHAPE), np.uint8)
    volume[0, :4], volume[0, 4:8] = 40, 120
    crop = make_label_augmentation(view=(4, 4, 4), **STILL)
    expected = {*np.unique(np.round(z_scores(volume[0]), 4))}
    for seed in range(6):
        views, _ = views_of(crop, volume[None], seed)
        assert {*np.unique(np.round(views, 4))} <= expected


def test_scan_and_labels_are_placed_alike():
    words = {**STILL, "rotate": 30.0, "scale": 0.2, "translate": 0.1, "flip": 0.5}
    augmentation = make_label_augmentation(view=SHAPE, **words)
    mirrors = Parts(*PARTS[:2], np.arange(256, dtype=np.uint8))
    volumes = np.stack([case()] * 6)
    views, labels = views_of(augmentation, volumes, parts=mirrors)
    np.testing.assert_array_equal(views[..., 0], views[..., 1])
    assert len({view.tobytes() for view in views}) == 6
    for view, label in zip(views[..., 0], labels, strict=True):
        # Voxels amid a part, whose neighbours are of it too, have its brightness.
        ordered = [np.median(view[label == part]) for part in (0, 1, 2)]
        assert ordered[1] < ordered[2]
        bright = view > (ordered[1] + ordered[2]) / 2
        both = (bright & (label == 2)).sum()
        assert 2 * both / (bright.sum() + (label == 2).sum()) > 0.8


def test_a_mirrored_head_has_its_left_on_the_left():
    augmentation = make_label_augmentation(view=SHAPE, **{**STILL, "flip": 1.0})
    views, labels = views_of(augmentation, case()[None])
    np.testing.assert_array_equal(labels[0], PARTS.mirrored[case()[-1]][::-1])
    np.testing.assert_allclose(views[0, ..., 0], z_scores(case()[0])[::-1], atol=1e-5)


def test_sequences_draw_their_intensities_apart_and_missing_ones_stay_missing():
    augmentation = make_label_augmentation(
        view=SHAPE, **{**STILL, "gamma": 1.0, "gamma_probability": 1.0}
    )
    volume = case(3)
    volume[1] = 0
    views, _ = views_of(augmentation, volume[None])
    assert np.abs(views[0, ..., 0] - views[0, ..., 2]).max() > 0.01
    assert (views[0, ..., 1] == 0).all()


def test_a_crop_round_a_structure_holds_it():
    volume = np.zeros((2, *SHAPE), np.uint8)
    volume[0] = 9
    volume[1, 10, 1, 8] = 2  # one voxel, near a corner
    crop = make_label_augmentation(view=(4, 4, 4), foreground=1.0, **STILL)
    _, labels = views_of(crop, np.stack([volume] * 8))
    assert (labels == 2).any((1, 2, 3)).all()
    never = make_label_augmentation(view=(4, 4, 4), foreground=0.0, **STILL)
    _, labels = views_of(never, np.stack([volume] * 8))
    assert not (labels == 2).any((1, 2, 3)).all()


def test_structures_are_drawn_as_often_however_large_they_are():
    labels = np.ones((6, 6, 6), np.uint8)
    labels[0, 0, :2] = 2
    keys = jax.random.split(jax.random.key(0), 400)
    draw = jax.jit(partial(draw_voxel, regions=PARTS.regions))
    there, voxels = jax.vmap(draw, in_axes=(0, None))(keys, labels)
    assert there.all()
    drawn = labels[tuple(np.asarray(voxels).astype(int).T)]
    assert 0.4 < (drawn == 2).mean() < 0.6
    assert len(np.unique(voxels[drawn == 2], axis=0)) == 2
    there, _ = jax.vmap(draw, in_axes=(0, None))(keys, np.zeros_like(labels))
    assert not there.any()


def test_contrasts_are_made_up_of_tissues_and_labels_stay_true():
    contrasts = make_synthesis(
        families=(0, 1), probability=1.0, painted=1.0, cut=0, strip=0, loose=0, air=0
    )
    augmentation = make_label_augmentation(view=SHAPE, contrasts=contrasts, **STILL)
    volumes = np.stack([case(1)] * 4)
    views, labels = views_of(augmentation, volumes)
    np.testing.assert_array_equal(labels, volumes[:, -1])
    plain = z_scores(case()[0])
    assert all(np.abs(view[..., 0] - plain).max() > 0.1 for view in views)
    again, _ = views_of(augmentation, volumes)
    np.testing.assert_array_equal(views, again)


def test_a_missing_sequence_stays_missing_where_contrasts_are_made_up():
    volume = case(2)
    volume[1] = 0
    contrasts = make_synthesis(families=(0, 1), probability=1.0, painted=1.0)
    augmentation = make_label_augmentation(view=SHAPE, contrasts=contrasts, **STILL)
    views, _ = views_of(augmentation, volume[None])
    assert views[..., 0].any()
    assert not views[..., 1].any()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ({"crop": (0.5, 1.0)}, "augment.crop: .*a view smaller than the volume"),
        ({"rotat": 1.0}, "augment.rotat: .*did you mean rotate"),
        ({"foreground": 2.0}, "augment.foreground: wanted 0..1, got 2.0"),
    ],
)
def test_refused_strengths(words, wanted):
    with pytest.raises(InputRefusedError, match=wanted):
        make_label_augmentation(view=8, **words)
