"""NT-Xent against a double loop, and at its corners."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.losses import contrastive_metrics, has_negatives, ntxent


def ntxent_loop(first, second, subjects, temperature):
    """NT-Xent by the book, one pair at a time."""
    views = np.concatenate([first, second]).astype(np.float64)
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    n, losses = len(first), []
    for i in range(2 * n):
        own = np.exp(views[i] @ views[(i + n) % (2 * n)] / temperature)
        rivals = 0.0
        for j in range(2 * n):
            if subjects[i % n] != subjects[j % n]:
                rivals += np.exp(views[i] @ views[j] / temperature)
        losses.append(-np.log(own / (own + rivals)))
    return np.mean(losses)


def embeddings(n=5, d=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(n, d))


SUBJECTS = {
    "distinct": np.array([0, 1, 2, 3, 4]),
    "repeated": np.array([7, 1, 7, 1, 7]),
    "one pair": np.array([3, 3, 3, 3, 9]),
}


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_value_equals_double_loop(name, temperature):
    first, second = embeddings()
    got = ntxent(
        jnp.asarray(first, jnp.float32),
        jnp.asarray(second, jnp.float32),
        jnp.asarray(SUBJECTS[name]),
        temperature=temperature,
    )
    want = ntxent_loop(first, second, SUBJECTS[name], temperature)
    np.testing.assert_allclose(got, want, rtol=2e-6)


def test_gradient_equals_finite_differences():
    first, second = embeddings(n=4, d=3)
    subjects = np.array([0, 1, 0, 2])
    got = jax.grad(ntxent)(
        jnp.asarray(first, jnp.float32),
        jnp.asarray(second, jnp.float32),
        jnp.asarray(subjects),
        temperature=0.2,
    )
    want, step = np.zeros_like(first), 1e-6
    for index in np.ndindex(*first.shape):
        nudge = np.zeros_like(first)
        nudge[index] = step
        above = ntxent_loop(first + nudge, second, subjects, 0.2)
        below = ntxent_loop(first - nudge, second, subjects, 0.2)
        want[index] = (above - below) / (2 * step)
    np.testing.assert_allclose(got, want, atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize("n", [2, 6])
def test_identical_views_give_log_of_2n_minus_1(n):
    same = jnp.ones((n, 4))
    for temperature in (0.01, 0.1, 1.0):
        got = ntxent(same, same, jnp.arange(n), temperature=temperature)
        np.testing.assert_allclose(got, np.log(2 * n - 1), rtol=1e-5)


def test_one_subject_gives_zero_and_zero_gradient():
    first, second = map(jnp.asarray, embeddings())
    value, gradient = jax.value_and_grad(ntxent)(first, second, jnp.zeros(5, int))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_finite_at_smallest_temperature():
    first, second = map(jnp.asarray, embeddings())
    hard = [
        (first, first),
        (first, -first),
        (jnp.zeros_like(first), second),
        (jnp.zeros_like(first), jnp.zeros_like(first)),
        (1e-15 * first, 1e15 * second),
    ]
    for a, b in hard:
        both = jax.value_and_grad(ntxent, argnums=(0, 1))
        value, gradients = both(a, b, jnp.arange(5), temperature=0.01)
        assert np.isfinite(value)
        assert all(np.isfinite(g).all() for g in gradients)


def test_own_subject_is_never_a_negative():
    first, second = map(jnp.asarray, embeddings(n=3))
    subjects = jnp.array([0, 0, 1])
    # Scans 0 and 1 move; what they compete with is scan 2 alone, and so is the loss
    # of scan 0 when scan 1 is swapped for anything else of that subject.
    per_pair = [
        ntxent(first[jnp.array(p)], second[jnp.array(p)], subjects[jnp.array(p)])
        for p in ([0, 2], [1, 2])
    ]
    together = ntxent(first, second, subjects)
    loop = ntxent_loop(np.asarray(first), np.asarray(second), [0, 0, 1], 0.1)
    np.testing.assert_allclose(together, loop, rtol=1e-5)
    distinct = ntxent(first, second, jnp.arange(3))
    assert together < distinct
    assert all(np.isfinite(per_pair))


def test_bfloat16_embeddings_are_lifted_to_float32():
    first, second = (jnp.asarray(e, jnp.bfloat16) for e in embeddings())
    got = ntxent(first, second, jnp.arange(5), temperature=0.01)
    want = ntxent_loop(
        np.asarray(first, np.float64), np.asarray(second, np.float64), range(5), 0.01
    )
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_metrics_of_known_views():
    views = jnp.eye(4)
    perfect = contrastive_metrics(views, views, jnp.arange(4))
    assert perfect == {"positive_similarity": 1, "negative_similarity": 0, "top1": 1}
    # Views that match the next subject's: nobody finds its own.
    swapped = contrastive_metrics(views, jnp.roll(views, 1, axis=0), jnp.arange(4))
    assert swapped["positive_similarity"] == 0
    assert swapped["top1"] == 0
    alone = contrastive_metrics(views, views, jnp.zeros(4, int))
    assert alone["top1"] == 0
    assert np.isfinite(list(alone.values())).all()


def test_has_negatives():
    assert has_negatives([1, 1, 2])
    assert not has_negatives(np.zeros(4, np.int32))
