"""Pictures lie the right way round, and numbers behind the charts are right."""

import base64
import io

import numpy as np
import pytest

from brainjax.report.figures import (
    categories,
    is_continuous,
    principal_axes,
    slices,
    split_probe,
)


def pixels(uri: str) -> np.ndarray:
    from matplotlib.image import imread

    return imread(io.BytesIO(base64.b64decode(uri.split(",")[1])))[..., 0]


def test_slices_are_upright_with_left_on_the_left():
    # One bright voxel block in each of three corners tells every axis and direction.
    view = np.full((9, 9, 9), 0.1, np.float32)
    view[8, 4, 4] = view[4, 8, 4] = view[4, 4, 8] = 1  # right, front, top
    axial, coronal, sagittal = slices(view, limit=1.0)
    for cut, bright in (
        (axial, {"right": (4, 8), "top": (0, 4)}),
        (coronal, {"right": (4, 8), "top": (0, 4)}),
        (sagittal, {"right": (4, 8), "top": (0, 4)}),
    ):
        image = pixels(cut.image)
        assert image.max() == 1
        assert {tuple(map(int, p)) for p in np.argwhere(image == 1)} == {
            *bright.values()
        }
    assert (axial.left, axial.right, axial.top, axial.bottom) == tuple("LRAP")
    assert (coronal.left, coronal.right, coronal.top, coronal.bottom) == tuple("LRSI")
    assert (sagittal.left, sagittal.right, sagittal.top, sagittal.bottom) == tuple(
        "PASI"
    )


def test_the_outside_is_black_and_the_inside_is_not():
    view = np.zeros((4, 4, 4), np.float32)
    view[:2] = -9
    image = pixels(slices(view, limit=3.0)[0].image)
    assert np.all(image[:, 2:] == 0)
    assert np.all(image[:, :2] > 0)


def test_principal_axes_find_the_direction_of_most_variance():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(50, 2)) * [10, 2]
    turn, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    points, shares = principal_axes(hidden @ turn[:2] + 5)
    assert abs(np.corrcoef(points[:, 0], hidden[:, 0])[0, 1]) > 0.999
    variances = np.linalg.eigvalsh(np.cov(hidden.T))[::-1]
    np.testing.assert_allclose(shares, variances / variances.sum())


@pytest.mark.parametrize("shape", [(1, 5), (4, 1)])
def test_principal_axes_of_very_little(shape):
    points, shares = principal_axes(
        np.arange(np.prod(shape), dtype=float).reshape(shape)
    )
    assert points.shape == (shape[0], 2)
    assert np.all(np.isfinite(points))
    assert shares.sum() <= 1 + 1e-9


def test_labels_are_told_apart():
    assert is_continuous([20.5 + i for i in range(12)])
    assert not is_continuous([0, 1, 1, 0])
    assert not is_continuous([f"s{i}" for i in range(12)])
    assert categories(["b", "a", "b"]) == ["b", "a"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ridge_mae", ("ridge", "mae")),
        ("logistic_balanced_accuracy", ("logistic", "balanced_accuracy")),
        ("balanced_accuracy", ("", "balanced_accuracy")),
        ("mae", ("", "mae")),
    ],
)
def test_probe_names_are_split(name, parts):
    assert split_probe(name) == parts
