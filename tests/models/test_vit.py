"""The vision transformer's variants: tokens before the patches, positions, channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.models import ViT, run, to_pure
from brainjax.models.positions import is_sincos, sincos_positions
from brainjax.models.vit import patchify

SMALL = {"shape": 16, "patch": 8, "width": 24, "depth": 3, "heads": 2}


def volumes(b=2, side=16, channels=1, seed=1):
    return jax.random.normal(jax.random.key(seed), (b, side, side, side, channels))


def make(**keywords) -> ViT:
    return ViT(rngs=nnx.Rngs(0), **{**SMALL, **keywords})


def paths(module) -> set[str]:
    leaves = jax.tree_util.tree_leaves_with_path(to_pure(module).params)
    return {".".join(key.key for key in path) for path, _ in leaves}


def test_defaults_have_no_parameter_that_a_variant_brings():
    variant = make(class_token=True, registers=3)
    assert paths(variant) - paths(make()) == {"class_token", "registers"}
    assert paths(make()) - paths(make(positions="sincos")) == {"positions"}
    # What both have starts from the same draws.
    np.testing.assert_array_equal(
        variant.blocks.qkv.kernel[...], make().blocks.qkv.kernel[...]
    )


@pytest.mark.parametrize("prefix_positions", [False, True])
def test_prefix_goes_class_token_registers_patches(prefix_positions):
    module = make(
        depth=1, class_token=True, registers=3, prefix_positions=prefix_positions
    )
    stream = module._embed(volumes())
    assert stream.shape == (2, 4 + 8, 24)
    table = module.positions[...]
    assert table.shape == (1, 12 if prefix_positions else 8, 24)
    own = jnp.concatenate([module.class_token[...], module.registers[...]], axis=1)
    want = own + table[:, :4] if prefix_positions else own
    np.testing.assert_array_equal(stream[:1, :4], want)
    patches = module.embed(patchify(volumes(), (8, 8, 8))) + table[:, -8:]
    np.testing.assert_array_equal(stream[:, 4:], patches)


def test_tokens_and_mean_are_of_the_patches_alone():
    module = make(class_token=True, registers=2)
    got = module(volumes())
    assert got.tokens.shape == (2, 8, 24)
    np.testing.assert_array_equal(got.pooled, got.tokens.mean(axis=1))


def test_pools_read_different_tokens_of_one_stream():
    keywords = {"class_token": True, "registers": 2}
    stream = make(**keywords).norm(make(**keywords).hidden(volumes())[-1])
    for pool, index in (("class_token", 0), ("first_token", 3)):
        got = make(pool=pool, **keywords)(volumes())
        np.testing.assert_allclose(got.pooled, stream[:, index], atol=2e-6)


@pytest.mark.parametrize("remat", ["none", "block"])
def test_hidden_is_the_stream_after_every_block(remat):
    module = make(class_token=True, remat=remat)
    pure = to_pure(module)
    streams, _ = run(
        pure.graphdef, pure.params, {}, volumes(), train=False, method="hidden"
    )
    assert streams.shape == (3, 2, 9, 24)
    got = module(volumes())
    again = module.finish(streams[-1])
    np.testing.assert_allclose(again.tokens, got.tokens, atol=2e-6)
    # A network of the first block alone ends where the first block of three does.
    first = nnx.merge(nnx.graphdef(make(class_token=True, depth=1)), _first(module))
    np.testing.assert_allclose(first.hidden(volumes())[0], streams[0], atol=2e-6)


def _first(module: ViT) -> nnx.State:
    state = nnx.state(module)
    state["blocks"] = jax.tree.map(lambda leaf: leaf[:1], state["blocks"])
    return state


def test_sincos_positions_by_hand():
    table = sincos_positions((2, 3, 4), 12)
    assert table.shape == (1, 24, 12)
    assert table.dtype == np.float32
    x, y, z = 1, 2, 3
    slow = 10000**-0.5
    angles = [y, y * slow, x, x * slow, z, z * slow]
    want = [
        f(a) for i in (0, 2, 4) for f in (np.sin, np.cos) for a in angles[i : i + 2]
    ]
    np.testing.assert_allclose(table[0, (x * 3 + y) * 4 + z], want, atol=1e-6)


def test_sincos_is_known_by_value():
    table = sincos_positions((2, 3, 4), 12)
    assert is_sincos(table, (2, 3, 4))
    assert not is_sincos(table, (3, 2, 4))
    assert not is_sincos(table, (2, 3, 3))
    assert not is_sincos(table + np.float32(1e-3), (2, 3, 4))
    assert not is_sincos(np.zeros((1, 24, 10), np.float32), (2, 3, 4))


def test_sincos_encoder_adds_the_table():
    module = make(positions="sincos")
    bare = module.embed(patchify(volumes(), (8, 8, 8)))
    want = bare + sincos_positions((2, 2, 2), 24)
    np.testing.assert_array_equal(module._embed(volumes()), want)
    assert make(positions="sincos", dtype="bfloat16")(volumes()).tokens.dtype == (
        jnp.bfloat16
    )


def test_channels_of_a_voxel_lie_side_by_side():
    x = jnp.arange(4 * 4 * 4 * 2.0).reshape(1, 4, 4, 4, 2)
    patches = patchify(x, (2, 2, 2))
    assert patches.shape == (1, 8, 16)
    np.testing.assert_array_equal(patches[0, 1], x[0, :2, :2, 2:].ravel())


def test_channels_are_read_and_checked():
    module = make(channels=2)
    assert module.embed.kernel.shape == (2 * 8**3, 24)
    one = volumes(channels=2)
    other = one.at[..., 1].add(1.0)
    assert not np.allclose(module(one).pooled, module(other).pooled, atol=1e-3)
    with pytest.raises(InputRefusedError, match=r"16, 16, 16, 2\], got \[2, 16, 16"):
        module(volumes())


BAD = [
    ({"pool": "class_token"}, "pool: class_token wants class_token=True, got .*False"),
    ({"positions": "fourier"}, "positions: .*sincos.*got fourier"),
    ({"positions": "sincos", "width": 16}, "positions: .*6 divides, got 16"),
    ({"positions": "sincos", "prefix_positions": True}, "prefix_positions: .*sincos"),
    ({"channels": 0}, "channels: .*1 or more, got 0"),
    ({"registers": -1}, "registers: .*0 or more, got -1"),
    ({"registers": 1.5}, "registers: .*got 1.5"),
]


@pytest.mark.parametrize(("keywords", "message"), BAD)
def test_bad_settings_are_refused_in_one_line(keywords, message):
    with pytest.raises(InputRefusedError, match=message) as caught:
        nnx.eval_shape(lambda: make(**keywords))
    assert "\n" not in str(caught.value)
