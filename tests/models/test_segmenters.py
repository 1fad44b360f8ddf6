"""Segmenters: pinned sizes, one interface, no dead parameter, what they refuse."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.models import (
    SEGMENTERS,
    Segmented,
    count_parameters,
    make_segmenter,
    run,
    to_pure,
)
from brainjax.models.cnn import fold
from brainjax.models.segmented import crop, interpolate, repeat, unfold

TINY = {"width": 16, "heads": 2, "mlp_width": 16}
VIT8 = {**TINY, "depth": 4, "patch": 8}
SMALL = {
    "unet": {
        "widths": (4, 8, 16),
        "blocks": (1, 1, 1),
        "decoder_blocks": (1, 1),
        "deep": 1,
    },
    "unetr": {"encoder": VIT8, "feature_size": 4, "deep": 1},
    "segresnet": {"encoder": {"init_filters": 4, "blocks": (1, 1, 1, 1)}, "deep": 1},
}
MASK = {"widths": (24, 40, 64, 80), "blocks": (1, 1, 1, 1), "head": 0}
# Parameters of one input and one output channel.
COUNTS = [
    ("unet", {}, 5_373_992),
    ("unet", {"deep": 2, "outputs": 8}, 5_393_632),
    ("unet", MASK, 1_102_856),
    ("unetr", {}, 91_149_448),
    ("unetr", {"encoder": {"size": "Ti"}}, 8_784_328),
    ("unetr", {"encoder": {"size": "Ti", "patch": 8}}, 6_349_256),
    ("segresnet", {}, 82_607_080),
    ("segresnet", {"encoder": {"init_filters": 16}}, 20_659_768),
]


def abstract(name, **keywords):
    keywords = {"shape": 96, **keywords}
    return nnx.eval_shape(lambda: make_segmenter(name, rngs=nnx.Rngs(0), **keywords))


def shapes_of(name, volumes, **keywords):
    """What the network would give; nothing is computed."""
    graphdef, params, stats = to_pure(abstract(name, **keywords))
    call = partial(run, graphdef, train=True)
    return jax.eval_shape(call, params, stats, jnp.zeros(volumes))[0]


def filled(name, **keywords):
    """A network of random parameters; flax's own initialisation compiles slowly."""
    graphdef, params, stats = to_pure(abstract(name, **keywords))
    random = np.random.default_rng(0)

    def fill(leaf):
        if leaf.ndim == 1:
            return jnp.asarray(random.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        fan_in = np.prod(leaf.shape[:-1])
        found = random.standard_normal(leaf.shape, np.float32) * fan_in**-0.5
        return jnp.asarray(found, jnp.float32)

    return graphdef, jax.tree.map(fill, params), jax.tree.map(fill, stats)


@pytest.mark.parametrize(("name", "keywords", "count"), COUNTS)
def test_parameter_counts_are_pinned(name, keywords, count):
    assert count_parameters(to_pure(abstract(name, **keywords)).params) == count


def test_every_segmenter_has_a_pinned_count_and_a_small_form():
    assert {row[0] for row in COUNTS} == set(SMALL) == set(SEGMENTERS)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_one_interface(name):
    keywords = {"shape": 16, "channels": 2, "outputs": 3, **SMALL[name]}
    found = shapes_of(name, (2, 16, 16, 16, 2), **keywords)
    assert isinstance(found, Segmented)
    assert [out.shape for out in (found.logits, *found.deep)] == [
        (2, 16, 16, 16, 3),
        (2, 8, 8, 8, 3),
    ]
    assert {out.dtype for out in jax.tree.leaves(found)} == {jnp.float32.dtype}


@pytest.mark.slow  # compiling; test_unet.py is the quick one
@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_parameter_learns_and_samples_are_apart(name):
    given = {"shape": 16, "channels": 2, "outputs": 3, **SMALL[name]}
    graphdef, params, stats = filled(name, **given)

    @jax.jit
    def slopes(params, volumes, weights):
        def loss(params):
            # As used: batch norms of encoders would tie samples in training.
            found = run(graphdef, params, stats, volumes, train=False)[0]
            sums = [(jnp.square(out) * weights).sum() for out in found[:1] + found[1]]
            return sum(sums), found

        return jax.grad(loss, has_aux=True)(params)

    volumes = jax.random.normal(jax.random.key(1), (2, 16, 16, 16, 2))
    both = jnp.ones((2, 1, 1, 1, 1))
    slope, found = slopes(params, volumes, both)
    dead = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(slope)
        if not (np.isfinite(leaf).all() and np.any(leaf))
    ]
    assert dead == []
    _, again = slopes(params, volumes.at[1].set(0.5), both)
    np.testing.assert_allclose(again.logits[0], found.logits[0], atol=1e-4)
    assert not np.allclose(again.logits[1], found.logits[1], atol=1e-3)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_bfloat16_computes_inside_and_gives_float32(name):
    keywords = dict(SMALL[name])
    if name == "unet":
        keywords["dtype"] = "bfloat16"
    else:
        keywords["encoder"] = {**keywords["encoder"], "dtype": "bfloat16"}
    graphdef, params, stats = to_pure(abstract(name, shape=16, **keywords))
    call = partial(run, graphdef, train=False)
    traced = jax.make_jaxpr(call)(params, stats, jnp.zeros((1, 16, 16, 16, 1)))
    assert "bf16" in str(traced.jaxpr)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.float32.dtype}
    assert {aval.dtype for aval in traced.out_avals} == {jnp.float32.dtype}


@pytest.mark.parametrize("name", ["unet", "segresnet"])
def test_odd_sides_are_covered_with_the_same_parameters(name):
    odd = (13, 18, 9)
    found = shapes_of(name, (1, *odd, 1), shape=odd, outputs=2, **SMALL[name])
    assert found.logits.shape == (1, *odd, 2)
    assert found.deep[0].shape == (1, 7, 9, 5, 2)
    one, other = (to_pure(abstract(name, shape=s, **SMALL[name])) for s in (odd, 16))
    same = jax.tree.map(lambda a, b: a.shape == b.shape, one.params, other.params)
    assert all(jax.tree.leaves(same))


@pytest.mark.parametrize("patch", [4, 8, 16, 32])
def test_unetr_takes_patches_of_powers_of_two(patch):
    encoder = {**TINY, "patch": patch, "depth": 4}
    shape = (96, 64, 32)
    most = patch.bit_length() - 3
    found = shapes_of(
        "unetr", (1, *shape, 1), shape=shape, encoder=encoder, deep=most, feature_size=2
    )
    assert found.logits.shape == (1, *shape, 1)
    sides = [(96 >> n, 64 >> n, 32 >> n) for n in range(1, most + 1)]
    assert [out.shape[1:4] for out in found.deep] == sides


def test_unetr_taps_are_spread_over_the_depth():
    taps = [
        abstract("unetr", encoder={**TINY, "patch": patch, "depth": depth}).taps
        for patch, depth in [(16, 12), (8, 12), (4, 12), (32, 4)]
    ]
    assert taps == [(4, 8), (6,), (), (1, 2, 3)]


@pytest.mark.parametrize("name", SEGMENTERS)
def test_encode_gives_a_vector_of_the_width(name):
    module = abstract(name, shape=16, **SMALL[name])
    graphdef, params, stats = to_pure(module)
    call = partial(run, graphdef, train=False, method="encode")
    found, _ = jax.eval_shape(call, params, stats, jnp.zeros((2, 16, 16, 16, 1)))
    assert (found.shape, found.dtype) == ((2, module.width), jnp.float32.dtype)


def test_unfold_is_the_inverse_of_fold():
    cells = np.random.default_rng(0).standard_normal((2, 5, 4, 3, 2), np.float32)
    back = jax.jit(lambda x: crop(unfold(fold(x)), (5, 4, 3)))(cells)
    np.testing.assert_array_equal(back, cells)


def test_repeat_and_interpolation_double_every_side():
    cells = np.random.default_rng(0).standard_normal((2, 3, 1, 4, 2), np.float32)
    want = cells.repeat(2, 1).repeat(2, 2).repeat(2, 3)
    np.testing.assert_array_equal(jax.jit(repeat)(cells), want)
    resize = partial(jax.image.resize, shape=want.shape, method="linear")
    got = jax.jit(interpolate)(cells)
    np.testing.assert_allclose(got, jax.jit(resize)(cells), atol=1e-6)


BAD = [
    ("unet", {"widths": (8, 8), "blocks": (1, 1, 1)}, r"n - 1 levels .*got 2, 3 and 3"),
    ("unet", {"deep": 3}, "deep: .*at most 2 .*got 3"),
    ("unet", {"outputs": 0}, "outputs: .*got 0"),
    ("unet", {"channels": 0}, "channels: .*got 0"),
    ("unet", {"dtype": "float16"}, "dtype: .*got float16"),
    ("unetr", {"encoder": {**TINY, "patch": 6}}, r"power of two .*got \(6, 6, 6\)"),
    (
        "unetr",
        {"encoder": {**TINY, "patch": (8, 8, 4)}},
        r"power of two .*got \(8, 8, 4\)",
    ),
    ("unetr", {"encoder": {**TINY, "depth": 2}}, "depth 3 or more, got 2"),
    ("unetr", {"encoder": {"name": "resnet"}}, "wanted one of .*vit.*got resnet"),
    (
        "unetr",
        {"encoder": {**VIT8, "shape": 64}},
        r"shape \(96, 96, 96\), got \(64, 64, 64\)",
    ),
    ("segresnet", {"encoder": {"channels": 2}}, "channels 1, got 2"),
    ("segresnet", {"encoder": {"blocks": (1,)}}, "2 levels or more, got 1"),
    ("unetr", {"widths": (8,)}, "segmenter unetr: there is no setting widths; did you"),
    ("unet", {"widths": 8}, "segmenter unet: widths: wanted several numbers, got 8"),
]


@pytest.mark.parametrize(("name", "keywords", "message"), BAD)
def test_bad_settings_are_refused_in_one_line(name, keywords, message):
    with pytest.raises(InputRefusedError, match=message) as caught:
        abstract(name, **keywords)
    assert "\n" not in str(caught.value)


def test_unknown_segmenter_and_wrong_volumes_are_refused():
    with pytest.raises(InputRefusedError, match=r"segmenter: .*unet.*got une"):
        abstract("une")
    with pytest.raises(InputRefusedError, match=r"16, 16, 16, 1\], got \[2, 24, 24"):
        shapes_of("unet", (2, 24, 24, 24, 1), shape=16, **SMALL["unet"])
