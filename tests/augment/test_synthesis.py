"""Made-up contrasts: nothing at zero, the brain never lost, means as drawn."""

import itertools
from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from brainjax.augment import Synthesis, View, make_synthesis, synthesise
from brainjax.augment.curves import KNOTS, apply_curve, draw_curve
from brainjax.augment.lots import Lots
from brainjax.augment.noise import gaussian_noise
from brainjax.augment.removal import RIM, draw_removal, remove
from brainjax.augment.synthesis import DLMUSE_TISSUES, draw_paint, paint_tissues
from brainjax.errors import InputRefusedError

SHAPE = (20, 22, 18)
ALWAYS = Synthesis(probability=1.0)

draw = jax.jit(ALWAYS.draw)
apply = jax.jit(synthesise)


def lots(seed: int) -> Lots:
    return Lots(jax.random.key(seed), 99)


def ellipsoid(radius: float) -> np.ndarray:
    at = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    return (at**2).sum(0) < radius**2


@pytest.fixture(scope="module")
def head() -> tuple[View, jnp.ndarray]:
    """A head with a brain of eight tissues in layers, and a texture everywhere."""
    inside, brain = ellipsoid(8.0), ellipsoid(5.5)
    layers = 1 + np.indices(SHAPE).sum(0) % 8
    labels = np.where(brain, layers, 0).astype(np.uint8)
    texture = np.random.default_rng(0).uniform(0.1, 0.9, SHAPE)
    values = np.where(inside, texture, 0).astype(np.float32)
    return View(jnp.asarray(values), jnp.asarray(inside)), jnp.asarray(labels)


def test_what_is_not_drawn_changes_nothing(head):
    view, labels = head
    never = jax.jit(replace(ALWAYS, probability=0.0).draw)
    for seed in range(3):
        contrast = never(jax.random.key(seed))
        assert not contrast.active
        chex.assert_trees_all_equal(apply(view, labels, contrast), view)


def test_every_draw_keeps_the_brain_and_the_range(head):
    view, labels = head
    results = []
    for seed in range(12):
        contrast = draw(jax.random.key(seed))
        values, inside = apply(view, labels, contrast)
        assert bool(inside[labels > 0].all())
        assert bool((values[~inside] == 0).all())
        assert 0 <= values.min() <= values.max() <= 1
        results.append(np.asarray(values))
        again = apply(view, labels, draw(jax.random.key(seed)))
        chex.assert_trees_all_equal(again.values, values)
    differences = [np.abs(a - b).max() for a, b in itertools.pairwise(results)]
    assert min(differences) > 0.05


def test_numbers_that_are_no_tissue_are_not_painted(head):
    view, labels = head
    contrast = draw(jax.random.key(5))
    contrast = contrast._replace(painted=jnp.array(True))
    unknown = jnp.where(labels == 3, 255, labels).astype(jnp.uint8)
    none = jnp.where(labels == 3, 0, labels).astype(jnp.uint8)
    chex.assert_trees_all_equal(
        apply(view, unknown, contrast), apply(view, none, contrast)
    )


def test_tissues_get_the_mean_and_spread_that_were_drawn(head):
    values, labels = head[0].values, head[1].astype(jnp.int32)
    paint = draw_paint(lots(0), ALWAYS)
    paint = paint._replace(mean=jnp.linspace(0.2, 0.8, 9), spread=jnp.full(9, 0.05))
    noise = gaussian_noise(jnp.array([1, 2], jnp.uint32), SHAPE)
    found = np.asarray(paint_tissues(values, labels, paint, noise))
    for number in range(1, 9):
        here = found[np.asarray(labels) == number]
        error = 0.05 / np.sqrt(here.size)
        assert abs(here.mean() - paint.mean[number]) < 4 * error
        assert 0.035 < here.std() < 0.065


@pytest.mark.parametrize("share", [1.0, -1.0])
def test_all_the_detail_is_the_scans_own_or_its_inverse(share, head):
    values, labels = head[0].values, head[1].astype(jnp.int32)
    paint = draw_paint(lots(1), ALWAYS)._replace(share=jnp.full(9, share))
    found = paint_tissues(values, labels, paint, jnp.zeros(SHAPE))
    here = np.asarray(labels) == 4
    both = np.corrcoef(np.asarray(found)[here], np.asarray(values)[here])
    assert both[0, 1] == pytest.approx(share, abs=1e-3)


def test_tissues_of_one_family_look_alike_but_for_what_sets_them_apart():
    paints = jax.vmap(lambda key: draw_paint(Lots(key, 99), ALWAYS))(
        jax.random.split(jax.random.key(0), 200)
    )
    means = np.asarray(paints.mean)
    grey, deep, white = means[:, 1], means[:, 2], means[:, 3]
    assert np.abs(grey - deep).max() <= 2 * ALWAYS.apart + 1e-6
    assert (white > grey).mean() == pytest.approx(0.5, abs=0.12)  # Inverted as often.


def test_a_curve_is_straight_between_its_knots():
    curve = draw_curve(lots(3))
    at = np.linspace(0, 1, 501, dtype=np.float32).reshape(3, 167, 1)
    expected = np.interp(at, curve.x, curve.y)
    np.testing.assert_allclose(apply_curve(jnp.asarray(at), curve), expected, atol=1e-5)
    curves = jax.vmap(lambda key: draw_curve(Lots(key, 20)))(
        jax.random.split(jax.random.key(0), 300)
    )
    assert (np.diff(curves.x, axis=1) > 0).all()
    assert (np.asarray(curves.x)[:, [0, -1]] == KNOTS[[0, -1]]).all()
    assert (np.diff(curves.y, axis=1) < 0).any(axis=1).mean() > 0.9  # Few only rise.
    assert np.median(curves.y[:, 0]) < 0.2  # Air stays dark.


@pytest.fixture(scope="module")
def removed():
    return jax.jit(remove)


@pytest.fixture(scope="module")
def nothing():
    return draw_removal(lots(0), cut=0.0, strip=0.0, loose=0.0, air=0.0)


def test_a_cut_takes_a_part_off_beyond_the_brain(head, removed, nothing):
    view, brain = head[0], head[1] > 0
    down = jnp.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    cut = nothing._replace(
        cut=jnp.array([True, False]), normals=down, room=jnp.array([0.06, 0.06])
    )
    gone = np.asarray(view.inside & ~removed(view, brain, cut, view.values).inside)
    lowest = np.argwhere(np.asarray(brain))[:, 2].min()
    assert gone.any()
    assert np.argwhere(gone)[:, 2].max() < lowest


def test_stripping_leaves_the_brain_and_a_rim(head, removed, nothing):
    view, brain = head[0], np.asarray(head[1]) > 0
    strip = nothing._replace(strip=jnp.array(True), rim=jnp.float32(0.3))
    inside = np.asarray(removed(view, head[1] > 0, strip, view.values).inside)
    far = np.asarray(ndimage.distance_transform_edt(~brain))
    assert brain[inside].mean() < 1
    assert far[inside].max() < 2 * RIM


def test_borders_move_and_air_fills(head, removed, nothing):
    view, brain = head[0], head[1] > 0
    noise = jnp.ones(SHAPE)
    sizes = {}
    for border in (0.15, 0.6):
        loose = nothing._replace(loose=jnp.array(True), border=jnp.float32(border))
        sizes[border] = int(removed(view, brain, loose, noise).inside.sum())
    assert sizes[0.6] < int(view.inside.sum()) < sizes[0.15]
    air = nothing._replace(air=jnp.array(True), level=jnp.float32(0.05))
    found = removed(view, brain, air, noise)
    assert found.inside.all()
    np.testing.assert_allclose(found.values[~view.inside], 0.05)
    np.testing.assert_array_equal(found.values[view.inside], view.values[view.inside])


def test_probabilities_are_how_often():
    synthesis = Synthesis(probability=0.75, painted=0.5, cut=0.2)
    found = jax.vmap(synthesis.draw)(jax.random.split(jax.random.key(0), 400))
    assert 0.69 < found.active.mean() < 0.81
    assert 0.42 < found.painted.mean() < 0.58
    assert 0.15 < found.removal.cut.mean() < 0.25


def test_views_do_not_depend_on_the_batch(head):
    view, labels = head
    keys = jax.random.split(jax.random.key(0), 3)
    contrasts = jax.vmap(ALWAYS.draw)(keys)
    together = jax.jit(jax.vmap(synthesise, in_axes=(None, None, 0)))
    found = together(view, labels, contrasts)
    alone = apply(view, labels, jax.tree.map(lambda leaf: leaf[1], contrasts))
    chex.assert_trees_all_close(found.values[1], alone.values, atol=1e-5)


def test_regions_of_muse_are_of_one_tissue():
    ids = [number for group in DLMUSE_TISSUES.values() for number in group]
    assert len(ids) == len(set(ids))
    assert len(DLMUSE_TISSUES) == ALWAYS.tissues


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(InputRefusedError, match="did you mean detail"):
        make_synthesis(detial=1.0)
    with pytest.raises(InputRefusedError, match=r"strip: wanted 0\.\.1, got 1\.5"):
        make_synthesis(strip=1.5)
    with pytest.raises(InputRefusedError, match=r"families: .* got \(0, 7\)"):
        make_synthesis(families=[0, 7])
    assert make_synthesis(families=[0, 1], cut=0).families == (0, 1)
