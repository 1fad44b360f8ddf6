"""Tasks learn from training labels only, and refuse what they cannot learn."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.tasks import make_task, task_from_dict

AGES = [20, 40.0, None, 60]
SEXES = ["M", None, "F", "F"]


def age(**keywords):
    return make_task("regression", target="age", **keywords).fit(AGES)


def sex():
    return make_task("classification", target="sex").fit(SEXES)


def test_regression_learns_mean_and_spread_of_the_known():
    task = age()
    assert (task.mean, task.outputs, task.unit) == (40.0, 1, "years")
    np.testing.assert_allclose(task.std, np.std([20, 40, 60]))


def test_a_stated_unit_wins_and_an_unknown_target_has_none():
    assert age(unit="months").unit == "months"
    assert make_task("regression", target="height").unit == ""
    assert make_task("classification", target="sex").unit == "class"


def test_encode_and_columns_are_inverse():
    task = age()
    targets, weights = task.encode([70, None, 20])
    assert targets.dtype == weights.dtype == np.float32
    np.testing.assert_array_equal(weights, [1, 0, 1])
    got = task.columns(targets[:, None])["prediction"]
    np.testing.assert_allclose(got, [70, 40, 20], rtol=1e-6)


def test_regression_losses_by_hand():
    outputs, targets = jnp.array([[0.0], [3.0], [9.0]]), jnp.array([0.5, 0.0, 0.0])
    weights = jnp.array([1.0, 1.0, 0.0])
    np.testing.assert_allclose(age().loss(outputs, targets, weights), 9.25 / 2)
    huber = age(loss="huber").loss(outputs, targets, weights)
    np.testing.assert_allclose(huber, (0.125 + 2.5) / 2)


def test_classification_encodes_by_name_and_ignores_what_it_never_saw():
    task = sex()
    assert (task.classes, task.counts, task.outputs) == (("F", "M"), (2, 1), 2)
    targets, weights = task.encode(["M", None, "X", "F"])
    assert targets.dtype == np.int32
    np.testing.assert_array_equal(targets, [1, 0, 0, 0])
    np.testing.assert_array_equal(weights, [1, 0, 0, 1])


def test_whole_numbers_are_classes_in_their_order():
    task = make_task("classification", target="grade").fit([10, 9.0, 10.0, np.int64(2)])
    assert task.classes == ("2", "9", "10")


def test_words_that_look_like_numbers_are_no_obstacle():
    task = make_task("classification", target="grade").fit(["--5", "10", "-1", "9"])
    assert task.classes == ("-1", "--5", "9", "10")


def test_truth_values_are_classes():
    task = make_task("classification", target="ill").fit([True, False, np.True_])
    assert task.classes == ("False", "True")


@pytest.mark.parametrize("kind", [jnp.int32, jnp.float32])
def test_classification_loss_by_hand(kind):
    outputs = jnp.log(jnp.array([[0.2, 0.8], [0.5, 0.5]]))
    weights = jnp.array([1.0, 0.0])
    got = jax.jit(sex().loss)(outputs, jnp.array([1, 0], kind), weights)
    np.testing.assert_allclose(got, -np.log(0.8), rtol=1e-6)


def test_an_unlabelled_batch_has_no_loss_and_no_gradient():
    for task, k in ((age(), 1), (sex(), 2)):
        targets, weights = map(jnp.asarray, task.encode([None, None]))
        loss, slope = jax.value_and_grad(task.loss)(jnp.ones((2, k)), targets, weights)
        assert loss == 0
        np.testing.assert_array_equal(slope, 0)


def test_classification_columns():
    columns = sex().columns(np.array([[2.0, 0.0], [-800.0, 800.0]]))
    assert columns["prediction"] == ["F", "M"]
    assert list(columns) == ["prediction", "probability_F", "probability_M"]
    np.testing.assert_allclose(columns["probability_F"], [1 / (1 + np.exp(-2)), 0])


def test_constant_answers():
    assert age().columns(age().constant[None])["prediction"] == [40.0]
    columns = sex().columns(sex().constant[None])
    assert columns["prediction"] == ["F"]
    np.testing.assert_allclose(columns["probability_M"], [1 / 3], rtol=1e-6)


@pytest.mark.parametrize(
    "task", [age(loss="huber"), sex(), make_task("regression", target="age")]
)
def test_a_task_survives_json(task):
    again = task_from_dict(json.loads(json.dumps(task.to_dict())))
    assert again == task
    assert hash(again) == hash(task)


@pytest.mark.parametrize("name", ["regression", "classification"])
def test_an_unfitted_task_answers_nothing(name):
    with pytest.raises(ValueError, match="fit the task"):
        make_task(name, target="age").columns(np.zeros((1, 1)))


REFUSED = [
    ("regression", [1, "a", 2], "one type"),
    ("regression", ["a", "b"], "wanted numbers"),
    ("regression", [1, float("nan")], "finite"),
    ("regression", [1, float("inf")], "finite"),
    ("regression", [True, False], "wanted numbers"),
    ("regression", [1, None], "got 1 of 2"),
    ("regression", [], "got 0 of 0"),
    ("regression", [5, 5, None], "2 times 5"),
    ("classification", ["a", 1], "one type"),
    ("classification", [1.5, 2], "whole numbers"),
    ("classification", [1, float("nan")], "whole numbers"),
    ("classification", ["a", None], "got 1 of 2"),
    ("classification", ["a", "a"], "2 scans of 'a' only"),
]


@pytest.mark.parametrize(("name", "values", "words"), REFUSED)
def test_labels_that_cannot_be_learnt_are_refused(name, values, words):
    with pytest.raises(InputRefusedError, match=words) as caught:
        make_task(name, target="thing").fit(values)
    assert "'thing'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_validation_labels_of_another_type_are_refused():
    with pytest.raises(InputRefusedError, match="'age'"):
        age().encode(["old"])
    with pytest.raises(InputRefusedError, match="'sex'"):
        sex().encode([0.5])


SETTINGS = [
    ("regresion", {"target": "age"}, "did you mean 'regression'"),
    ("regression", {"target": "age", "los": "mse"}, "did you mean 'loss'"),
    ("regression", {"target": "age", "loss": "hubr"}, "did you mean 'huber'"),
    ("classification", {"target": "sex", "bins": 4}, "got 'bins'"),
    ("classification", {"target": "sex", "loss": "mse"}, "wanted one of cross_entropy"),
    ("classification", {}, "wanted the target's name"),
    ("regression", {"target": ""}, "wanted the target's name"),
]


@pytest.mark.parametrize(("name", "keywords", "words"), SETTINGS)
def test_settings_that_do_not_exist_are_refused(name, keywords, words):
    with pytest.raises(InputRefusedError, match=words):
        make_task(name, **keywords)
