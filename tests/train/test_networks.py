"""The network of a task: sequences that are missing, what is frozen, what is read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainjax.errors import InputRefusedError
from brainjax.models.pure import run, to_pure
from brainjax.train.networks import Predictor

VIT = {"name": "vit", "shape": 8, "patch": 4, "width": 12, "depth": 1, "heads": 3}
CNN = {"name": "plain_cnn", "shape": 8, "channels": [4, 8]}
PRESENT = np.array([[1, 1], [1, 0], [0, 1]], bool)


def network(encoder=VIT, **words):
    words = {"head": {}, "outputs": 2, "frozen": False, **words}

    def make():
        return Predictor(encoder=encoder, **words, rngs=nnx.Rngs(0))

    pure = to_pure(nnx.eval_shape(make))
    draw = jax.jit(lambda: to_pure(make())[1:])  # one program, not one an operation
    return pure._replace(**dict(zip(("params", "batch_stats"), draw(), strict=True)))


def cases():
    """Three cases of two sequences, two of which are missing."""
    drawn = jax.random.normal(jax.random.key(0), (3, 2, 8, 8, 8, 1))
    return jnp.where(PRESENT[:, :, None, None, None, None], drawn, 0)


call = jax.jit(run, static_argnums=0, static_argnames=("train", "method"))


def outputs(pure, volumes, *, train=False, params=None):
    params = pure.params if params is None else params
    return call(pure.graphdef, params, pure.batch_stats, volumes, train=train)


@pytest.mark.parametrize("fusion", ["mean", "attention", "concat"])
def test_a_case_is_answered_from_the_sequences_that_it_has(fusion):
    pure = network(inputs=2, fusion=fusion)
    together, _ = outputs(pure, cases())
    kept = {"train": False, "method": "encode"}
    args = pure.graphdef, pure.params, pure.batch_stats
    features, _ = call(*args, cases()[PRESENT], **kept)
    apart = np.full((3, 2, 12), np.nan, np.float32)
    apart[PRESENT] = features
    answers, _ = call(*args, jnp.asarray(apart), PRESENT, train=False, method="answer")
    np.testing.assert_allclose(together, answers, atol=1e-5)


def test_gradients_of_cases_are_finite_and_so_is_what_has_no_sequence_at_all():
    pure = network(inputs=2, fusion="attention")
    volumes = cases().at[2].set(0.0)

    def loss(params):
        return (outputs(pure, volumes, train=True, params=params)[0] ** 2).sum()

    slopes = jax.jit(jax.grad(loss))(pure.params)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slopes))


def test_batch_statistics_see_no_missing_sequence():
    pure = network(CNN, inputs=2)
    _, stats = outputs(pure, cases()[1:2], train=True)
    alone = jnp.repeat(cases()[1:2, :1], 2, axis=1)
    _, wanted = outputs(pure, alone, train=True)
    jax.tree.map(np.testing.assert_array_equal, stats, wanted)


@pytest.mark.parametrize("pool", ["encoder", "attention"])
def test_a_frozen_encoder_has_no_gradient_and_what_is_above_it_has(pool):
    pure = network(frozen=True, head={"pool": pool})

    def loss(params):
        return (outputs(pure, cases()[:, 0], train=True, params=params)[0] ** 2).sum()

    slopes = jax.jit(jax.grad(loss))(pure.params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(slopes["encoder"]))
    assert slopes["head"]["linear"]["kernel"].any()
    assert ("pool" in slopes) == (pool == "attention")
    assert pool == "encoder" or slopes["pool"]["queries"].any()


def test_adapters_start_as_the_network_without_them():
    plain, adapted = network(), network(adapters={"rank": 1})
    params = {**plain.params, "adapters": adapted.params["adapters"]}
    wanted, _ = outputs(plain, cases()[:, 0])
    found, _ = outputs(adapted, cases()[:, 0], params=params)
    np.testing.assert_array_equal(wanted, found)


def test_new_parts_do_not_move_the_start_of_the_others():
    plain, more = network(), network(head={"pool": "attention"}, adapters={"rank": 1})
    jax.tree.map(
        np.testing.assert_array_equal, plain.params["encoder"], more.params["encoder"]
    )


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ({"inputs": 2, "sequences": ["T1w"]}, "sequences: wanted 2, got T1w"),
        ({"inputs": 2, "fusion": "sum"}, "fusion: .* got sum"),
        ({"head": {"pool": "max"}}, r"head\.pool: .* got max"),
    ],
)
def test_what_does_not_fit_is_refused(words, wanted):
    with pytest.raises(InputRefusedError, match=wanted):
        network(**words)
