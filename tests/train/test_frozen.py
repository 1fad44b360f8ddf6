"""A head on features encoded once: it learns, and compiles once for many draws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.models.pure import run, to_pure
from brainjax.tasks import make_task
from brainjax.train import frozen
from brainjax.train.frozen import Labelled, fit_head


def regression(n=40, width=6, seed=0):
    """Features of which the first says the age."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(n, width)).astype(np.float32) * 3 + 1
    ages = (50 + 5 * features[:, 0]).tolist()
    return make_task("regression", target="age").fit(ages), features, ages


def test_a_head_learns_what_the_features_say():
    task, features, ages = regression()
    fitted = fit_head(task, features, ages, steps=400, head={"norm": False})
    _, new, truth = regression(seed=1)
    answers = task.columns(fitted.predict(new))["prediction"]
    assert np.abs(np.array(answers) - truth).mean() < 0.35 * np.std(truth)
    assert fitted.loss[-1] < 0.1 * fitted.loss[0]
    assert fitted.best_step == 400


def programs() -> int:
    return frozen._fit._cache_size()  # pyright: ignore[reportAttributeAccessIssue]


def test_draws_of_one_task_share_a_program():
    fit = partial(fit_head, steps=5)
    task, features, ages = regression()
    fit(task, features, ages)
    before = programs()
    for few in (20, 25, 31):
        labels = ages[:few]
        fit(task.fit(labels), features[:few], labels)
    # 40 rows are filled up to 64, the others to 32.
    assert programs() == before + 1
    other = make_task("regression", target="age", loss="huber").fit(ages)
    fit(other, features, ages)
    assert programs() == before + 2


def test_rows_without_a_label_and_rows_of_padding_teach_nothing():
    task, features, ages = regression()
    fit = partial(fit_head, steps=20, standardise=False)
    plain = fit(task, features, ages)
    odd = np.concatenate([features, 100 + features[:8]])
    more = fit(task, odd, [*ages, *[None] * 8])
    np.testing.assert_allclose(
        plain.predict(features), more.predict(features), atol=2e-5
    )


def test_the_step_with_the_best_validation_loss_is_kept():
    task, features, ages = regression(n=16)
    # What is learnt is the opposite of what validation says: the first step is best.
    against = Labelled(features, [100 - age for age in ages])
    fitted = fit_head(task, features, ages, val=against, steps=50)
    assert fitted.best_step == 1
    targets, weights = map(jnp.asarray, task.encode(against.values))
    loss = task.loss(jnp.asarray(fitted.predict(features)), targets, weights)
    assert fitted.val_loss == pytest.approx(float(loss), rel=1e-4)


@pytest.mark.parametrize("fusion", ["mean", "attention", "concat"])
def test_a_missing_sequence_never_counts(fusion):
    task, _, ages = regression(n=20)
    generator = np.random.default_rng(1)
    features = generator.normal(size=(20, 2, 6)).astype(np.float32)
    present = generator.uniform(size=(20, 2)) < 0.6
    present[~present.any(axis=1), 0] = True
    found = []
    for filler in (0.0, 1e6, np.nan):
        given = np.where(present[..., None], features, np.float32(filler))
        fitted = fit_head(
            task, given, ages, present=present, fusion=fusion, steps=10, peak=0.01
        )
        found.append(fitted.predict(given, present))
    assert np.isfinite(found[0]).all()
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_without_standardising_the_parameters_fit_a_predictor():
    from flax import nnx

    from brainjax.train.networks import Predictor

    task, features, ages = regression(width=12)
    fitted = fit_head(task, features, ages, steps=3, standardise=False)
    encoder = {"name": "vit", "shape": 8, "patch": 8, "width": 12, "depth": 1}
    network = to_pure(
        Predictor(
            encoder={**encoder, "heads": 3},
            head={},
            outputs=1,
            frozen=True,
            rngs=nnx.Rngs(0),
        )
    )
    params = {**network.params, **fitted.params}
    outputs, _ = run(
        network.graphdef, params, {}, features, train=False, method="answer"
    )
    np.testing.assert_allclose(outputs, fitted.predict(features), atol=1e-6)


def test_classes_and_hidden_layers_learn_too():
    _, features, ages = regression()
    names = ["old" if age > 55 else "young" for age in ages]
    task = make_task("classification", target="group").fit(names)
    fitted = fit_head(
        task, features, names, head={"hidden": 8, "dropout": 0.1}, steps=200
    )
    assert np.mean(np.array(task.decode(fitted.predict(features))) == names) > 0.9
    assert jax.tree.leaves(fitted.params["head"]["mlp"])


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"values": [1.0]}, "wanted as many as labels, 1, got 40"),
        ({"features": np.zeros((4, 3, 2, 1))}, r"wanted \[n, w\] or"),
        ({"features": np.full((40, 6), np.nan)}, "wanted finite numbers"),
        ({"present": np.ones((40, 2), bool)}, r"present: wanted \[40, 1\]"),
        ({"fusion": "sum", "features": np.ones((40, 2, 3))}, "got sum"),
    ],
)
def test_what_does_not_fit_is_refused(change, wanted):
    task, features, ages = regression()
    given: dict = {"features": features, "values": ages, **change}
    with pytest.raises(InputRefusedError, match=wanted):
        fit_head(task, **given)
