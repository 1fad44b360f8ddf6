"""Resizing: what each change of size, patch or channels preserves."""

import jax
import numpy as np
import pytest
from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.models import make_encoder, run, to_pure
from brainjax.models.convolution import convolve
from brainjax.models.resizing import (
    STEMS,
    area_weights,
    linear_weights,
    narrow_stem,
    resize_encoder,
    resize_patches,
    resize_positions,
    widen_stem,
)
from brainjax.models.vit import patchify

SMALL = {"shape": 16, "patch": 8, "width": 24, "depth": 2, "heads": 2}
PREFIX = {"class_token": True, "registers": 2, "prefix_positions": True}


def draw(*shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def split(volumes: np.ndarray, times: int) -> np.ndarray:
    """Every voxel as `times` cubed equal ones."""
    for axis in (1, 2, 3):
        volumes = np.repeat(volumes, times, axis=axis)
    return volumes


def encode(name, keywords, params, volumes):
    module = nnx.eval_shape(lambda: make_encoder(name, rngs=nnx.Rngs(0), **keywords))
    pure = to_pure(module)
    sizes = jax.tree.map(lambda leaf: leaf.shape, params)
    assert sizes == jax.tree.map(lambda leaf: leaf.shape, pure.params)
    stats = jax.tree.map(lambda leaf: np.ones(leaf.shape), pure.batch_stats)
    call = jax.jit(lambda p: run(pure.graphdef, p, stats, volumes, train=False)[0])
    return call(params)


def make_params(name, keywords):
    module = nnx.eval_shape(lambda: make_encoder(name, rngs=nnx.Rngs(0), **keywords))
    leaves, tree = jax.tree.flatten(to_pure(module).params)
    drawn = [0.3 * draw(*leaf.shape, seed=i) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(tree, drawn)


def test_same_grid_is_the_identity():
    positions = draw(1, 3 + 24, 5)
    same = resize_positions(positions, (2, 3, 4), (2, 3, 4), prefix=3)
    np.testing.assert_array_equal(same, positions)
    for weights in (linear_weights, area_weights):
        np.testing.assert_array_equal(weights(7, 7), np.eye(7))


@pytest.mark.parametrize("new", [(3, 5, 2), (12, 12, 12), (1, 1, 1)])
def test_constant_positions_stay_constant(new):
    row = draw(7)
    positions = np.broadcast_to(row, (1, 60, 7))
    got = resize_positions(positions, (3, 4, 5), new)
    assert got.shape == (1, new[0] * new[1] * new[2], 7)
    np.testing.assert_allclose(got, np.broadcast_to(row, got.shape), rtol=1e-6)


@pytest.mark.parametrize(("old", "new"), [(4, 8), (6, 9), (8, 4)])
def test_a_ramp_of_positions_stays_a_ramp_inside(old, new):
    # Cell i of n has its centre at (i + 1/2) / n of the way.
    ramp = np.stack(np.meshgrid(*[(np.arange(old) + 0.5) / old] * 3, indexing="ij"), -1)
    got = resize_positions(ramp.reshape(1, -1, 3), (old,) * 3, (new,) * 3)
    want = np.stack(np.meshgrid(*[(np.arange(new) + 0.5) / new] * 3, indexing="ij"), -1)
    inside = np.all((want >= 0.5 / old) & (want <= 1 - 0.5 / old), axis=-1)
    assert inside.sum() >= (new - 2) ** 3
    got = got.reshape(want.shape)
    np.testing.assert_allclose(got[inside], want[inside], atol=1e-6)


def test_positions_interpolate_by_hand_and_the_prefix_is_kept():
    positions = np.array([9.0, 0.0, 1.0], np.float32).reshape(1, 3, 1)
    got = resize_positions(positions, (1, 1, 2), (1, 1, 4), prefix=1)
    np.testing.assert_allclose(got[0, :, 0], [9, 0, 0.25, 0.75, 1])
    # Half of the cells, without anti-aliasing: the mean of the two at the centre.
    got = resize_positions(draw(1, 4, 1), (1, 1, 4), (1, 1, 2))
    np.testing.assert_allclose(got[0, 0], draw(1, 4, 1)[0, :2].mean(axis=0), rtol=1e-6)


def test_positions_doubled_and_halved_are_close_to_what_they_were():
    place = (np.arange(6) + 0.5) / 6
    x, y, z = np.meshgrid(place, place, place, indexing="ij")
    smooth = np.stack([np.cos(np.pi * x), np.cos(np.pi * y) * z, x * y * z], axis=-1)
    smooth = smooth.reshape(1, -1, 3).astype(np.float32)
    up = resize_positions(smooth, (6, 6, 6), (12, 12, 12))
    back = resize_positions(up, (12, 12, 12), (6, 6, 6))
    assert np.abs(back - smooth).max() < 0.11 * smooth.std()
    # Along one axis it is this smoothing, whatever the values.
    row = draw(1, 6, 1)
    up = resize_positions(row, (1, 1, 6), (1, 1, 12))
    back = resize_positions(up, (1, 1, 12), (1, 1, 6))
    want = np.convolve(row[0, :, 0], [1 / 8, 6 / 8, 1 / 8], mode="valid")
    np.testing.assert_allclose(back[0, 1:-1, 0], want, atol=1e-6)


@pytest.mark.parametrize(("old", "new"), [(4, 8), (8, 4), (4, 12), (4, 4)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_volume_and_its_split_twin_give_the_same_tokens(old, new, channels):
    kernel = draw(old**3 * channels, 5)
    got = resize_patches(kernel, (old,) * 3, (new,) * 3, channels)
    assert got.dtype == np.float32
    coarse = draw(2, 24, 24, 24, channels, seed=1)
    if new >= old:
        before, after = coarse, split(coarse, new // old)
    else:
        before, after = split(coarse, old // new), coarse
    want = patchify(before, (old,) * 3) @ kernel
    tokens = patchify(after, (new,) * 3) @ got
    np.testing.assert_allclose(tokens, want, atol=2e-4)


def test_patches_come_back_after_growing():
    kernel = draw(4**3, 5)
    grown = resize_patches(kernel, (4, 4, 4), (8, 8, 8))
    back = resize_patches(grown, (8, 8, 8), (4, 4, 4))
    np.testing.assert_allclose(back, kernel, atol=1e-6)
    same = resize_patches(kernel, (4, 4, 4), (4, 4, 4))
    np.testing.assert_array_equal(same, kernel)


def test_an_uneven_patch_grown_by_area_gives_the_same_token():
    kernel = draw(4 * 4 * 2, 5)
    got = resize_patches(kernel, (4, 4, 2), (6, 5, 3))
    patch = draw(4, 4, 2, seed=1).astype(np.float64)
    sizes = zip((4, 4, 2), (6, 5, 3), strict=True)
    a, b, c = (area_weights(old, new) for old, new in sizes)
    grown = np.einsum("ax,by,cz,xyz->abc", a, b, c, patch)
    np.testing.assert_allclose(grown.ravel() @ got, patch.ravel() @ kernel, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_a_widened_stem_answers_alike_for_equal_channels(channels):
    volume = draw(1, 8, 8, 8, 1, seed=1)
    many = np.repeat(volume, channels, axis=-1)
    patches, conv = draw(64, 5), draw(3, 3, 3, 1, 5)
    wide = widen_stem(patches, channels), widen_stem(conv, channels)
    assert wide[0].shape == (64 * channels, 5)
    assert wide[1].shape == (3, 3, 3, channels, 5)
    np.testing.assert_allclose(
        patchify(many, (4, 4, 4)) @ wide[0],
        patchify(volume, (4, 4, 4)) @ patches,
        atol=1e-4,
    )
    np.testing.assert_allclose(
        convolve(many, wide[1]), convolve(volume, conv), atol=1e-4
    )
    for kernel, widened in zip((patches, conv), wide, strict=True):
        back = narrow_stem(widened, channels)
        np.testing.assert_allclose(back, kernel, rtol=2e-7)
        if channels != 3:
            np.testing.assert_array_equal(back, kernel)


@pytest.mark.parametrize("keywords", [{}, PREFIX, {"positions": "sincos"}])
def test_nothing_asked_is_nothing_changed(keywords):
    keywords = {**SMALL, **keywords}
    params = make_params("vit", keywords)
    asked = {"shape": (16, 16, 16), "patch": 8, "channels": 1}
    for request in ({}, asked):
        got, same = resize_encoder("vit", keywords, params, **request)
        assert got["shape"] in (16, (16, 16, 16))
        jax.tree.map(np.testing.assert_array_equal, same, params)


@pytest.mark.parametrize("keywords", [{}, PREFIX, {"positions": "sincos"}])
def test_a_vit_of_split_voxels_gives_the_same_features(keywords):
    """Input and patch doubled: the same grid, so the tokens are the same."""
    keywords = {**SMALL, **keywords}
    params = make_params("vit", keywords)
    volumes = draw(2, 16, 16, 16, 1, seed=1)
    want = encode("vit", keywords, params, volumes)
    new, resized = resize_encoder("vit", keywords, params, shape=32, patch=16)
    got = encode("vit", new, resized, split(volumes, 2))
    np.testing.assert_allclose(got.tokens, want.tokens, atol=2e-5)
    back, narrowed = resize_encoder("vit", new, resized, shape=16, patch=8)
    assert (back["shape"], back["patch"]) == ((16, 16, 16), (8, 8, 8))
    np.testing.assert_allclose(
        narrowed["embed"]["kernel"], params["embed"]["kernel"], atol=1e-6
    )


def test_a_vit_on_a_larger_volume_has_more_positions():
    keywords = {**SMALL, **PREFIX}
    params = make_params("vit", keywords)
    new, resized = resize_encoder("vit", keywords, params, shape=(24, 16, 32))
    assert resized["positions"].shape == (1, 3 + 3 * 2 * 4, 24)
    np.testing.assert_array_equal(
        resized["positions"][:, :3], params["positions"][:, :3]
    )
    got = encode("vit", new, resized, draw(1, 24, 16, 32, 1))
    assert got.tokens.shape == (1, 24, 24)
    assert params["positions"].shape == (1, 3 + 8, 24)


ENCODERS = {
    "vit": SMALL,
    "resnet": {"shape": 16, "depth": 10, "init_filters": 4},
    "segresnet": {"shape": 16, "init_filters": 4, "blocks": (1, 2)},
    "densenet": {"shape": 16, "init_filters": 8, "growth": 4, "blocks": (2, 2)},
}


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_widened_answers_alike_and_comes_back(name):
    keywords = ENCODERS[name]
    params = make_params(name, keywords)
    volumes = draw(1, 16, 16, 16, 1, seed=1)
    new, wide = resize_encoder(name, keywords, params, channels=4)
    want = encode(name, keywords, params, volumes).pooled
    got = encode(name, new, wide, np.repeat(volumes, 4, axis=-1)).pooled
    np.testing.assert_allclose(got, want, atol=1e-4 * np.std(want))
    back, narrow = resize_encoder(name, new, wide, channels=1)
    assert back == {**keywords, "channels": 1}
    jax.tree.map(np.testing.assert_array_equal, narrow, params)


def test_every_encoder_that_takes_channels_is_tested():
    assert STEMS.keys() == ENCODERS.keys()


def test_a_convolutional_encoder_takes_another_shape_as_it_is():
    params = {"stem": {"kernel": np.zeros(3)}}
    new, same = resize_encoder("resnet", {"depth": 10}, params, shape=(16, 24, 16))
    assert new == {"depth": 10, "shape": (16, 24, 16)}
    assert same is params


BAD = [
    ("resnet", {}, {"patch": 8}, "patch: wanted an encoder vit, got resnet"),
    ("plain_cnn", {}, {"channels": 4}, "channels: plain_cnn takes 1, got 4"),
    ("resnet", {"channels": 2}, {"channels": 4}, "got 2 to 4"),
    ("resnet", {}, {"channels": 0}, "channels: .*1 or more, got 0"),
    ("vit", SMALL, {"shape": 20}, r"patch \(8, 8, 8\) does not divide .*20"),
]


@pytest.mark.parametrize(("name", "keywords", "request_", "message"), BAD)
def test_what_cannot_be_resized_is_refused(name, keywords, request_, message):
    with pytest.raises(InputRefusedError, match=message) as caught:
        resize_encoder(name, keywords, {}, **request_)
    assert "\n" not in str(caught.value)
