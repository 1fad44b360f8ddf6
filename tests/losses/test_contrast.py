"""The forms of the contrastive loss on one device, against the plain twin."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainjax.errors import InputRefusedError
from brainjax.losses import contrast, contrastive_metrics, has_negatives, ntxent
from brainjax.losses.contrast import choose_form

N, D = 7, 5


def embeddings(n=N, d=D, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=(n, d)), jnp.float32) for _ in "12")


@partial(jax.jit, static_argnames=("temperature", "negatives", "form", "block"))
def descend(first, second, subjects, **choices):
    """The loss, its metrics and its two gradients."""

    def loss(first, second):
        return contrast(first, second, subjects, **choices)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(first, second)


def within_loop(first, second, scans, temperature):
    """CT-FM's loss by the book: crops of one scan against each other."""
    views = np.concatenate([first, second]).astype(np.float64)
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    n, losses = len(first), []
    for i in range(2 * n):
        own = np.exp(views[i] @ views[(i + n) % (2 * n)] / temperature)
        rivals = sum(
            np.exp(views[i] @ views[j] / temperature)
            for j in range(2 * n)
            if scans[j % n] == scans[i % n] and j % n != i % n
        )
        losses.append(-np.log(own / (own + rivals)))
    return np.mean(losses)


@pytest.mark.parametrize("form", ["plain", "blocks"])
def test_within_a_scan_equals_double_loop(form):
    first, second = embeddings()
    scans = np.array([4, 4, 4, 9, 9, 9, 2])
    (got, _), _ = descend(first, second, scans, negatives="within", form=form, block=4)
    np.testing.assert_allclose(got, within_loop(first, second, scans, 0.1), rtol=2e-6)
    value = ntxent(first, second, jnp.asarray(scans), negatives="within")
    np.testing.assert_allclose(got, value, rtol=2e-6)


@settings(max_examples=25, deadline=None)
@given(
    subjects=st.lists(st.integers(-2, 3), min_size=N, max_size=N),
    negatives=st.sampled_from(["between", "within"]),
    seed=st.integers(0, 99),
)
def test_blocks_equal_plain_for_any_subjects(subjects, negatives, seed):
    first, second = embeddings(seed=seed)
    subjects = np.array(subjects, np.int32)
    answers = [
        descend(first, second, subjects, negatives=negatives, form=form, block=4)
        for form in ("blocks", "plain")
    ]
    chex.assert_trees_all_close(*answers, atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("block", [1, 5, 14, 1000])
def test_any_block_gives_the_same(block):
    first, second = embeddings()
    subjects = np.array([0, 1, 2, 1, 5, 5, 0])
    got = descend(first, second, subjects, form="blocks", block=block)
    want = descend(first, second, subjects, form="plain")
    chex.assert_trees_all_close(got, want, atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("form", ["plain", "blocks"])
def test_hard_cases_at_the_smallest_temperature(form):
    first, second = embeddings()
    zero = jnp.zeros_like(first)
    cases = [
        (first, first),
        (first, -first),
        (zero, second),
        (zero, zero),
        (1e-15 * first, 1e15 * second),
        (jnp.ones_like(first), jnp.ones_like(first)),
    ]
    for case in cases:
        for subjects in (np.arange(N), np.zeros(N, int)):
            got = descend(*case, subjects, temperature=0.01, form=form, block=4)
            chex.assert_tree_all_finite(got)
            (loss, _), gradients = got
            if not subjects.any():
                chex.assert_trees_all_equal((loss, *gradients), (0, zero, zero))


def test_identical_views_give_log_of_2n_minus_1():
    same = jnp.ones((N, D))
    (loss, _), _ = descend(same, same, np.arange(N), form="blocks", block=4)
    np.testing.assert_allclose(loss, np.log(2 * N - 1), rtol=1e-6)


def test_blocks_lift_bfloat16_to_float32():
    half = [e.astype(jnp.bfloat16) for e in embeddings()]
    lifted = [e.astype(jnp.float32) for e in half]
    options = {"temperature": 0.01, "form": "blocks", "block": 4}
    (loss, _), gradients = descend(*half, np.arange(N), **options)
    (want, _), _ = descend(*lifted, np.arange(N), **options)
    assert loss == want
    assert loss.dtype == jnp.float32
    assert {g.dtype for g in gradients} == {jnp.dtype(jnp.bfloat16)}


def test_a_nan_is_not_hidden():
    first, second = embeddings()
    (loss, _), _ = descend(
        first.at[2, 1].set(jnp.nan), second, np.arange(N), form="blocks", block=4
    )
    assert np.isnan(loss)


@pytest.mark.parametrize("form", ["plain", "blocks"])
def test_metrics_are_those_of_contrastive_metrics(form):
    first, second = embeddings(seed=3)
    subjects = jnp.array([0, 1, 2, 1, 5, 5, 0])
    _, metrics = contrast(first, second, subjects, form=form, block=4)
    want = contrastive_metrics(first, second, subjects)
    assert 0 < want["top1"] < 1
    chex.assert_trees_all_close(metrics, want, atol=1e-6)
    slopes = jax.grad(
        lambda f: sum(contrast(f, second, subjects, form=form).metrics.values())
    )(first)
    assert not slopes.any()


@pytest.mark.parametrize("form", ["plain", "blocks"])
def test_a_collapsed_encoder_finds_nothing(form):
    # All views alike, to rounding: nobody's other view is nearer than the others.
    one = np.random.default_rng(0).normal(size=128)
    first = jnp.asarray(np.outer(np.linspace(1, 3, N), one), jnp.float32)
    metrics = contrast(first, first[::-1], jnp.arange(N), form=form, block=4).metrics
    assert metrics["top1"] == 0
    np.testing.assert_allclose(metrics["negative_similarity"], 1, rtol=1e-5)


def test_auto_chooses_by_views_and_devices():
    batches = [(1024, None), (1024, 1), (1026, 1), (16, 8), (65536, 8), (65552, 8)]
    chosen = [choose_form("auto", views, devices) for views, devices in batches]
    assert chosen == ["plain", "plain", "blocks", "gather", "gather", "ring"]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"form": "rings"}, "form: wanted one of .*got rings"),
        ({"negatives": "none"}, "negatives: wanted one of .*got none"),
        ({"temperature": 0.0}, "temperature: wanted > 0, got 0.0"),
        ({"temperature": float("nan")}, "temperature: wanted > 0, got nan"),
        ({"form": "ring"}, "form ring: wanted a mesh, got none"),
        ({"form": "blocks", "block": 0}, "block.*0"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(choices, message):
    with pytest.raises(InputRefusedError, match=message) as refusal:
        contrast(*embeddings(), jnp.arange(N), **choices)
    assert "\n" not in str(refusal.value)


def test_devices_must_suit_the_form():
    with pytest.raises(InputRefusedError, match="wanted one device, got 8"):
        choose_form("blocks", 32, 8)
    with pytest.raises(InputRefusedError, match="8 devices do not divide 12 pairs"):
        choose_form("auto", 24, 8)


def test_has_negatives_within_a_scan():
    assert has_negatives([1, 1, 2], "within")
    assert not has_negatives([1, 2, 3], "within")


def compiled(form, n=1024):
    rows = jax.ShapeDtypeStruct((n, 16), jnp.float32)
    ids = jax.ShapeDtypeStruct((n,), jnp.int32)
    return descend.lower(rows, rows, ids, form=form, block=128).compile()


def test_blocks_hold_no_matrix_of_all_views():
    plain, blocks = compiled("plain"), compiled("blocks")
    matrix = "f32[2048,2048]"
    assert matrix in plain.as_text()
    assert matrix not in blocks.as_text()
    held = [c.memory_analysis().temp_size_in_bytes for c in (plain, blocks)]
    assert held[1] < held[0] / 5
