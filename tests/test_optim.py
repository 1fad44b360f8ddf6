"""What moves, how fast, and what must not move at all."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx
from flax.traverse_util import unflatten_dict

from brainjax.checkpoint import Checkpoints
from brainjax.errors import InputRefusedError
from brainjax.models import make_encoder, to_pure
from brainjax.optim import make_optimizer, skip_nonfinite, warmup_cosine
from brainjax.optim.layers import layer_factors


def make_params() -> dict:
    return {
        "encoder": {
            "blocks": {"mlp": {"kernel": jnp.full((2, 3, 3), 2.0)}},
            "norm": {"scale": jnp.full((2, 3), 2.0), "bias": jnp.full((2, 3), 2.0)},
            "positions": jnp.full((4, 3), 2.0),
        },
        "head": {"kernel": jnp.asarray([[-0.0, 1.0]]), "bias": jnp.ones(2)},
    }


def update(optimizer, params, grads, steps=1):
    state = optimizer.transform.init(params)

    @jax.jit
    def one(params, state):
        updates, state = optimizer.transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = one(params, state)
    return params, state


def test_schedule_at_its_corners():
    schedule = warmup_cosine(peak=2.0, warmup=10, steps=110, final=0.1)
    wanted = {0: 0.2, 9: 2.0, 10: 2.0, 60: 2.0 * 0.55, 110: 0.2, 500: 0.2}
    got = {count: float(schedule(count)) for count in wanted}
    assert got == pytest.approx(wanted)
    assert float(warmup_cosine(peak=2.0, warmup=0, steps=5)(0)) == 2.0
    with pytest.raises(InputRefusedError, match="warmup 5, steps 5"):
        warmup_cosine(peak=1.0, warmup=5, steps=5)


def test_a_frozen_parameter_does_not_move_bitwise():
    params = make_params()
    grads = jax.tree.map(jnp.ones_like, params)
    optimizer = make_optimizer(
        steps=10, weight_decay=0.5, frozen=["head", "encoder/norm"]
    )
    moved, state = update(optimizer, params, grads, steps=3)
    for name in ("kernel", "bias"):
        before, after = params["head"][name], moved["head"][name]
        assert np.asarray(before).tobytes() == np.asarray(after).tobytes()
    chex.assert_trees_all_equal(moved["encoder"]["norm"], params["encoder"]["norm"])
    assert (moved["encoder"]["positions"] != 2.0).all()
    sizes = [leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert sum(sizes) == 2 * (2 * 9 + 12)  # two moments of the trained ones alone


def test_weight_decay_acts_on_kernels_only():
    params = make_params()
    grads = jax.tree.map(jnp.zeros_like, params)
    optimizer = make_optimizer(steps=10, peak=0.1, weight_decay=0.5)
    moved, _ = update(optimizer, params, grads)
    kernel = moved["encoder"]["blocks"]["mlp"]["kernel"]
    np.testing.assert_allclose(kernel, 2.0 * (1 - 0.1 * 0.5), rtol=1e-6)
    for name in ("norm", "positions"):
        chex.assert_trees_all_equal(moved["encoder"][name], params["encoder"][name])
    chex.assert_trees_all_equal(moved["head"]["bias"], params["head"]["bias"])


def test_adamw_is_optax_adamw():
    params = {"kernel": jnp.linspace(-1, 1, 6).reshape(2, 3)}
    grads = {"kernel": jnp.linspace(3, -2, 6).reshape(2, 3)}
    ours = make_optimizer(
        steps=10, peak=0.1, warmup=3, weight_decay=0.05, clip=0.5, final=0.2
    )
    theirs = optax.chain(
        optax.clip_by_global_norm(0.5), optax.adamw(ours.schedule, weight_decay=0.05)
    )
    got, _ = update(ours, params, grads, steps=4)
    wanted, _ = update(ours._replace(transform=theirs), params, grads, steps=4)
    chex.assert_trees_all_close(got, wanted, rtol=1e-6)


def test_frozen_gradients_do_not_count_in_the_clipping():
    params = {"a": {"kernel": jnp.zeros(2)}, "b": {"kernel": jnp.zeros(2)}}
    huge = {"a": {"kernel": jnp.full(2, 1e6)}, "b": {"kernel": jnp.full(2, 0.1)}}
    still = {"a": {"kernel": jnp.zeros(2)}, "b": {"kernel": jnp.full(2, 0.1)}}
    optimizer = make_optimizer(steps=10, frozen=["a"])
    _, with_huge = update(optimizer, params, huge)
    _, without = update(optimizer, params, still)
    chex.assert_trees_all_equal(with_huge, without)


def test_multipliers_scale_the_learning_rate_and_the_longest_counts():
    params = make_params()
    grads = jax.tree.map(jnp.ones_like, params)
    plain = make_optimizer(steps=10, name="adam", clip=None)
    scaled = make_optimizer(
        steps=10,
        name="adam",
        clip=None,
        multipliers={"encoder": 0.1, "encoder/norm": 0.5},
    )
    one, _ = update(plain, params, grads)
    other, _ = update(scaled, params, grads)
    ratio = jax.tree.map(lambda a, b, p: (b - p) / (a - p), one, other, params)
    for tree, wanted in [
        (ratio["encoder"]["blocks"], 0.1),
        (ratio["encoder"]["norm"], 0.5),
        (ratio["head"], 1.0),
    ]:
        for leaf in jax.tree.leaves(tree):
            np.testing.assert_allclose(leaf, wanted, rtol=1e-3)


@pytest.mark.parametrize("keyword", ["frozen", "multipliers"])
def test_an_unknown_prefix_names_the_near_miss(keyword):
    values = {"frozen": ["encodr"], "multipliers": {"encodr": 0.1}}
    optimizer = make_optimizer(steps=10, **{keyword: values[keyword]})
    with pytest.raises(InputRefusedError, match=r"encodr,.* did you mean encoder\?"):
        optimizer.transform.init(make_params())


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(InputRefusedError, match="got sgd"):
        make_optimizer(steps=10, name="sgd")
    with pytest.raises(InputRefusedError, match=r"got 0\.1; use adamw"):
        make_optimizer(steps=10, name="adam", weight_decay=0.1)


def counters(step: int, skipped: int, row: int) -> dict:
    values = {"step": step, "skipped": skipped, "skipped_in_a_row": row}
    return {name: jnp.asarray(value, jnp.int32) for name, value in values.items()}


def test_a_nonfinite_step_changes_nothing_and_is_counted():
    old = {"params": {"w": jnp.ones(2)}, **counters(4, 2, 1)}
    new = {"params": {"w": jnp.asarray([jnp.nan, 3.0])}, **counters(5, 2, 1)}
    got = jax.jit(skip_nonfinite)(new, old, jnp.asarray(False))
    chex.assert_trees_all_equal(got, {"params": old["params"], **counters(5, 3, 2)})
    new["params"]["w"] = jnp.zeros(2)
    got = jax.jit(skip_nonfinite)(new, old, jnp.asarray(True))
    chex.assert_trees_all_equal(got, {"params": new["params"], **counters(5, 2, 0)})


def test_the_optimiser_state_survives_a_checkpoint(tmp_path):
    params = make_params()
    optimizer = make_optimizer(steps=10, frozen=["head"])
    _, state = update(optimizer, params, jax.tree.map(jnp.ones_like, params))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"opt": state}, {}, wait=True)
    fresh = jax.eval_shape(lambda: {"opt": optimizer.transform.init(params)})
    back = checkpoints.restore(fresh).state
    chex.assert_trees_all_equal(back["opt"], state)
    checkpoints.close()


def stack_of_blocks(seed: int) -> dict:
    """Three blocks, whose kernels have lengths far apart, and what is not a block's."""
    keys = iter(jax.random.split(jax.random.key(seed), 9))
    lengths = jnp.asarray([0.1, 1.0, 30.0])[:, None, None]

    def draw(*shape):
        return jax.random.normal(next(keys), shape)

    blocks = {
        "qkv": {"kernel": lengths * draw(3, 6, 18), "bias": draw(3, 18)},
        "mlp1": {"kernel": lengths * draw(3, 6, 10)},
        "norm1": {"scale": draw(3, 6)},
    }
    encoder = {"embed": {"kernel": draw(8, 6)}, "positions": draw(1, 4, 6)}
    return {
        "encoder": {"blocks": blocks, **encoder},
        "projector": {"linear1": {"kernel": draw(6, 5)}},
    }


def unstack(tree: dict) -> dict:
    encoder = dict(tree["encoder"])
    blocks = encoder.pop("blocks")
    layers = {str(i): jax.tree.map(lambda leaf, i=i: leaf[i], blocks) for i in range(3)}
    return {**tree, "encoder": {**encoder, "blocks": layers}}


@pytest.mark.parametrize("name", ["lars", "muon"])
def test_a_stack_moves_as_its_layers_would_one_by_one(name):
    params, grads = stack_of_blocks(1), stack_of_blocks(2)
    optimizer = make_optimizer(steps=10, name=name, peak=0.3, clip=None)
    stacked, state = update(optimizer, params, grads, steps=3)
    apart, _ = update(optimizer, unstack(params), unstack(grads), steps=3)
    chex.assert_trees_all_close(unstack(stacked), apart, rtol=2e-5, atol=1e-6)
    # As the state is sharded, so it must have the shapes of arrays, not of layers.
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


def test_lars_is_optax_lars_on_plain_matrices():
    params, grads = unstack(stack_of_blocks(1)), unstack(stack_of_blocks(2))
    ours = make_optimizer(
        steps=10, warmup=3, name="lars", peak=0.5, weight_decay=0.1, clip=None
    )

    def is_matrix(tree):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: path[-1].key == "kernel", tree
        )

    theirs = optax.lars(
        ours.schedule,
        weight_decay=0.1,
        weight_decay_mask=is_matrix,
        trust_ratio_mask=is_matrix,
    )
    got, _ = update(ours, params, grads, steps=5)
    wanted, _ = update(ours._replace(transform=theirs), params, grads, steps=5)
    chex.assert_trees_all_close(got, wanted, rtol=1e-5, atol=1e-7)


def test_lars_moves_a_matrix_by_its_own_length():
    params = {"a": {"kernel": jnp.full((2, 2), 3.0)}, "b": {"bias": jnp.ones(2)}}
    grads = jax.tree.map(lambda leaf: 7.0 * jnp.ones_like(leaf), params)
    optimizer = make_optimizer(
        steps=10, name="lars", peak=2.0, weight_decay=0.0, clip=None
    )
    moved, _ = update(optimizer, params, grads)
    step = params["a"]["kernel"] - moved["a"]["kernel"]
    np.testing.assert_allclose(step, 2.0 * 0.001 * 3.0, rtol=1e-3)
    np.testing.assert_allclose(params["b"]["bias"] - moved["b"]["bias"], 14, rtol=1e-5)


def test_muon_is_optax_muon_on_plain_matrices():
    params, grads = (
        {"encoder": {"mlp": t["projector"]}} for t in map(stack_of_blocks, (1, 2))
    )
    ours = make_optimizer(steps=10, warmup=3, name="muon", peak=0.1, clip=None)
    theirs = optax.contrib.muon(ours.schedule, weight_decay=0.05, consistent_rms=0.2)
    got, _ = update(ours, params, grads, steps=4)
    wanted, _ = update(ours._replace(transform=theirs), params, grads, steps=4)
    chex.assert_trees_all_close(got, wanted, rtol=1e-5, atol=1e-7)


def test_muon_leaves_to_adamw_what_is_not_a_hidden_matrix():
    params, grads = stack_of_blocks(1), stack_of_blocks(2)
    muon, adamw = (
        update(make_optimizer(steps=10, name=name), params, grads, steps=2)[0]
        for name in ("muon", "adamw")
    )
    same = jax.tree.map(lambda a, b: bool(jnp.allclose(a, b, atol=1e-7)), muon, adamw)
    blocks = same["encoder"].pop("blocks")
    assert jax.tree.all(same)
    assert blocks["qkv"] == {"kernel": False, "bias": True}
    assert blocks["mlp1"] == {"kernel": False}
    assert blocks["norm1"] == {"scale": True}


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("segmenter/stages/0/down/kernel", True),
        ("segmenter/up_blocks/0/0/conv1/kernel", True),
        ("segmenter/beside/kernel", True),
        ("segmenter/encoder/blocks/out/kernel", True),
        ("segmenter/stem/kernel", False),
        ("segmenter/out/kernel", False),
        ("segmenter/deep_outs/0/kernel", False),
        ("segmenter/encoder/embed/kernel", False),
        ("segmenter/norm/scale", False),
        ("head/hidden/kernel", False),
    ],
)
def test_the_matrices_of_muon(path, hidden):
    leaf = jax.random.normal(jax.random.key(0), (3, 3, 3, 4, 6))
    params = unflatten_dict({tuple(path.split("/")): leaf})
    muon, adamw = (
        update(make_optimizer(steps=10, name=name), params, params, steps=2)[0]
        for name in ("muon", "adamw")
    )
    (a,), (b,) = jax.tree.leaves(muon), jax.tree.leaves(adamw)
    assert bool(jnp.allclose(a, b, atol=1e-7)) != hidden


@pytest.mark.parametrize("name", ["lars", "muon"])
def test_every_row_freezes_and_multiplies(name):
    params, grads = stack_of_blocks(1), stack_of_blocks(2)
    make = partial(make_optimizer, steps=10, name=name, peak=0.1, weight_decay=0.0)
    frozen, state = update(make(frozen=["encoder/blocks/mlp1"]), params, grads)
    assert np.array_equal(
        frozen["encoder"]["blocks"]["mlp1"]["kernel"],
        params["encoder"]["blocks"]["mlp1"]["kernel"],
    )
    assert not any(leaf.shape == (3, 6, 10) for leaf in jax.tree.leaves(state))
    whole, _ = update(make(clip=None), params, grads)
    part, _ = update(make(clip=None, multipliers={"encoder": 0.5}), params, grads)
    steps, halves = (
        jax.tree.map(jnp.subtract, moved["encoder"], params["encoder"])
        for moved in (whole, part)
    )
    wanted = jax.tree.map(lambda step: 0.5 * step, steps)
    chex.assert_trees_all_close(halves, wanted, atol=5e-6)
    assert jax.tree.all(jax.tree.map(lambda step: jnp.abs(step).max() > 1e-5, steps))


def test_momentum_where_there_is_none_is_refused():
    with pytest.raises(InputRefusedError, match=r"adamw: wanted no momentum .*0\.9"):
        make_optimizer(steps=10, momentum=0.9)


def factors_of(name: str, **words) -> dict:
    """What the rate of every parameter of an encoder and a head is multiplied by."""
    encoder = nnx.eval_shape(lambda: make_encoder(name, **words, rngs=nnx.Rngs(0)))
    head = {"linear": {"kernel": jax.ShapeDtypeStruct((4, 1), jnp.float32)}}
    return layer_factors({"encoder": to_pure(encoder).params, "head": head}, 0.5)


def test_layers_further_from_the_head_learn_more_slowly():
    factors = factors_of("vit", shape=16, patch=8, width=12, depth=3, heads=3)
    encoder = factors["encoder"]
    assert float(factors["head"]["linear"]["kernel"]) == 1
    assert float(encoder["norm"]["scale"]) == 1
    blocks = encoder["blocks"]["qkv"]["kernel"]
    assert blocks.shape == (3, 1, 1)
    np.testing.assert_allclose(blocks.ravel(), [0.125, 0.25, 0.5])
    assert encoder["blocks"]["norm1"]["scale"].shape == (3, 1)
    assert float(encoder["embed"]["kernel"]) == float(encoder["positions"]) == 0.0625


@pytest.mark.parametrize(
    ("name", "words", "wanted"),
    [
        ("cnn", {}, {"stem": 0, "stages/0": 1, "stages/3": 4, "norm": 5}),
        ("plain_cnn", {}, {"stem": 0, "norms/0": 0, "norms/1": 1, "convs/3": 4}),
        ("resnet", {}, {"stem": 0, "norm": 0, "stages/0": 1, "stages/3": 4}),
        ("segresnet", {}, {"stem": 0, "levels/1": 2, "downs/0": 2, "levels/4": 5}),
        ("densenet", {}, {"norm0": 0, "blocks/0": 1, "transitions/2": 3, "norm": 5}),
    ],
)
def test_a_convolutional_network_has_its_layers_in_the_order_of_its_stages(
    name, words, wanted
):
    factors = factors_of(name, shape=32, **words)["encoder"]
    depth = max(wanted.values()) - ("norm" in wanted and wanted["norm"] > 0)
    for path, layer in wanted.items():
        part = factors
        for key in path.split("/"):
            part = part[key]
        for leaf in jax.tree.leaves(part):
            np.testing.assert_allclose(leaf, 0.5 ** (depth + 1 - layer))


def test_layer_decay_multiplies_the_step_decay_of_weights_included():
    params, grads = stack_of_blocks(1), stack_of_blocks(2)
    steps = []
    for decay in (1.0, 0.5):
        optimizer = make_optimizer(
            steps=10, peak=0.1, weight_decay=0.3, layer_decay=decay
        )
        moved, _ = update(optimizer, params, grads)
        steps.append(jax.tree.map(jnp.subtract, moved, params))
    wanted = jax.tree.map(jnp.multiply, steps[0], layer_factors(params, 0.5))
    chex.assert_trees_all_close(steps[1], wanted, atol=1e-5)
    chex.assert_trees_all_close(steps[1]["projector"], steps[0]["projector"])


def test_layers_without_an_order_and_a_decay_that_is_none_are_refused():
    odd = {"encoder": {"mixers": {"0": {"kernel": jnp.zeros((2, 2))}}}}
    with pytest.raises(InputRefusedError, match=r"got one with encoder/mixers/0/kern"):
        make_optimizer(steps=10, layer_decay=0.5).transform.init(odd)
    with pytest.raises(InputRefusedError, match=r"over 0, up to 1, got 1\.5"):
        make_optimizer(steps=10, layer_decay=1.5).transform.init(make_params())
