"""The resampling against scipy, its plain twin, and exactness where it is promised."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from brainjax.anatomy import AXES
from brainjax.augment import make_augmentation
from brainjax.augment.geometry import (
    draw_crop,
    resample,
    resample_plain,
    rotation,
    voxel_affine,
)

SHAPE = (9, 11, 10)
STILL = {"crop": (1, 1), "rotate": 0, "scale": 0, "stretch": 0, "translate": 0}
QUIET = {
    f"{name}_probability": 0.0
    for name in ("bias", "gamma", "brightness", "contrast", "blur", "noise")
}


def volume(shape=SHAPE, seed=0):
    """A block of random codes in a margin of outside, with a hole in it."""
    codes = np.zeros(shape, np.uint8)
    inner = tuple(n - 3 for n in shape)
    codes[1:-2, 2:-1, 1:-2] = np.random.default_rng(seed).integers(1, 256, inner)
    codes[4, 5, 4] = 0
    return jnp.asarray(codes)


def place(augmentation, codes, seed=0):
    return augmentation.apply(codes, augmentation.draw(jax.random.key(seed)))


@pytest.mark.parametrize("seed", range(3))
def test_packed_equals_plain(seed):
    augmentation = make_augmentation(view=(8, 7, 9), rotate=40, translate=0.2)
    placement = augmentation.draw(jax.random.key(seed)).placement
    affine = voxel_affine(placement, field=SHAPE, stored=SHAPE, view=(8, 7, 9))
    fast = resample(volume(), *affine, (8, 7, 9))
    plain = resample_plain(volume(), *affine, (8, 7, 9))
    chex.assert_trees_all_close(fast, plain, atol=1e-5)
    assert 0 < fast[1].mean() < 1


def test_affine_agrees_with_scipy():
    codes, view = volume(), (8, 7, 9)
    placement = make_augmentation(rotate=30, translate=0.1).draw(jax.random.key(3))
    matrix, offset = voxel_affine(
        placement.placement, field=SHAPE, stored=SHAPE, view=view
    )
    values, inside = resample(codes, matrix, offset, view)
    start = offset - matrix @ ((jnp.asarray(view) - 1) / 2)

    def scipys(array):
        return ndimage.affine_transform(
            array.astype(float), matrix, start, view, order=1, mode="grid-constant"
        )

    known = np.asarray(codes) > 0
    weight = scipys(known)
    total = scipys(np.where(known, (np.asarray(codes, float) - 1) / 254, 0))
    clear = np.abs(weight - 0.5) > 1e-4
    np.testing.assert_array_equal(inside[clear], weight[clear] > 0.5)
    expected = np.where(weight > 0.5, total / np.maximum(weight, 0.5), 0)
    np.testing.assert_allclose(values[clear], expected[clear], atol=1e-5)


def test_nothing_drawn_is_the_exact_identity():
    codes = volume()
    still = make_augmentation(view=SHAPE, flip=0, **STILL, **QUIET)
    view = jax.jit(place, static_argnums=0)(still, codes)
    np.testing.assert_array_equal(view.inside, codes > 0)
    expected = jnp.where(codes > 0, (codes.astype(jnp.float32) - 1) / 254, 0)
    np.testing.assert_allclose(view.values, expected, rtol=1e-7, atol=0)


def test_flip_moves_left_to_right_and_back():
    codes = np.zeros(SHAPE, np.uint8)
    codes[1, 3, 7] = 200  # Low x is the subject's left.
    flipping = make_augmentation(view=SHAPE, flip=1, **STILL, **QUIET)
    once = place(flipping, jnp.asarray(codes)).inside
    assert np.argwhere(once).tolist() == [[SHAPE[AXES["left_right"]] - 2, 3, 7]]
    twice = place(flipping, once.astype(jnp.uint8) * 200).inside
    np.testing.assert_array_equal(twice, codes > 0)


def test_no_other_axis_is_ever_flipped():
    # Whatever is drawn, front stays in front and the top stays on top.
    augmentation = make_augmentation()
    keys = jax.random.split(jax.random.key(0), 200)
    drawn = jax.vmap(augmentation.draw)(keys).placement
    assert set(np.asarray(drawn.flip).tolist()) == {True, False}
    shape = (96, 96, 96)
    matrices, _ = jax.vmap(
        lambda p: voxel_affine(p, field=shape, stored=shape, view=shape)
    )(drawn)
    diagonal = np.diagonal(matrices, axis1=1, axis2=2)
    assert (diagonal[:, AXES["posterior_anterior"]] > 0).all()
    assert (diagonal[:, AXES["inferior_superior"]] > 0).all()
    np.testing.assert_array_equal(diagonal[:, AXES["left_right"]] < 0, drawn.flip)


@pytest.mark.parametrize("fraction", [(0.33, 1.0), (0.9, 1.0), (0.5, 0.5)])
def test_crop_stays_within_its_fractions_and_the_field(fraction):
    keys = jax.random.split(jax.random.key(1), 500)
    crop = jax.vmap(lambda key: draw_crop(key, fraction=fraction, aspect=0.2))(keys)
    volumes = np.asarray(crop.sides).prod(axis=1)
    assert volumes.min() >= fraction[0] - 1e-5
    assert volumes.max() <= fraction[1] + 1e-5
    assert (np.abs(crop.centre) + crop.sides / 2 <= 0.5 + 1e-6).all()
    if fraction[0] < fraction[1]:
        assert np.ptp(volumes) > 0.8 * (fraction[1] - fraction[0])


def test_rotation_turns_right_handed_about_each_axis():
    quarter = jnp.eye(3) * jnp.pi / 2
    for axis in range(3):
        one, two = (axis + 1) % 3, (axis + 2) % 3
        turned = rotation(quarter[axis]) @ jnp.eye(3)[one]
        np.testing.assert_allclose(turned, jnp.eye(3)[two], atol=1e-6)


def test_rotation_is_in_millimetres_where_the_field_is_not_a_cube():
    # A line of two voxels, turned by a quarter about z, keeps its length.
    placement = make_augmentation(flip=0, **STILL).draw(jax.random.key(0)).placement
    turned = placement._replace(matrix=rotation(jnp.array([0, 0, jnp.pi / 2])))
    matrix, _ = voxel_affine(
        turned, field=(40, 20, 20), stored=(20, 20, 20), view=(40, 20, 20)
    )
    np.testing.assert_allclose(matrix[0, 1], -0.5, atol=1e-6)
    np.testing.assert_allclose(matrix[1, 0], 1, atol=1e-6)


def test_larger_scale_shows_a_larger_head():
    codes = jnp.zeros((16, 16, 16), jnp.uint8).at[4:12, 4:12, 4:12].set(100)
    still = make_augmentation(view=16, flip=0, **STILL, **QUIET)
    parameters = still.draw(jax.random.key(0))
    grown = parameters.placement._replace(matrix=jnp.eye(3) / 1.5)
    view = still.apply(codes, parameters._replace(placement=grown))
    assert view.inside.sum() == 12**3


def test_brain_edge_is_not_darkened():
    codes = jnp.zeros(SHAPE, jnp.uint8).at[3:7, 3:8, 3:7].set(255)
    view = place(make_augmentation(view=SHAPE, rotate=30, **QUIET), codes)
    assert view.inside.any()
    np.testing.assert_allclose(view.values[view.inside], 1, atol=1e-5)


def test_much_finer_volume_is_reduced_first_without_aliasing():
    # A checkerboard of one voxel is grey at a quarter of its resolution.
    board = np.where(np.indices((32, 32, 32)).sum(axis=0) % 2, 255, 1)
    still = make_augmentation(view=8, flip=0, **STILL, **QUIET)
    view = place(still, jnp.asarray(board, jnp.uint8))
    np.testing.assert_allclose(view.values, 0.5, atol=0.02)
    assert view.inside.all()
