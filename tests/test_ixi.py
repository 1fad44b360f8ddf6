"""Maps of heads and the Gaussian processes on them: what the IXI benchmark rests on."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TEMPLATE = pytest.mark.skipif(
    importlib.util.find_spec("nilearn") is None, reason="the template is nilearn's"
)


@pytest.fixture
def align(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ixi_align

    return ixi_align


@pytest.fixture
def maps(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ixi_maps

    return ixi_maps


@pytest.fixture
def models(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ixi_models

    return ixi_models


@pytest.fixture
def cohort(models):
    """Thirty heads, their label in one kind of features and not in the other."""
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(2, 30, 50))
    labels = signal[:, :5].sum(1) * 3 + 40 + 0.1 * rng.normal(size=30)
    outline = rng.normal(size=(30, 3))
    kinds = models.make_kinds({"signal": signal, "noise": noise, "outline": outline})
    return kinds, labels, np.arange(25), np.arange(25, 30)


def test_a_growth_is_the_log_of_the_volume(maps):
    still = np.zeros((3, 5, 6, 7))
    np.testing.assert_allclose(maps.growth(still), 0, atol=1e-6)
    wider = 0.1 * np.indices((5, 6, 7))
    np.testing.assert_allclose(maps.growth(wider), 3 * np.log(1.1), atol=1e-6)


def test_shrinking_keeps_the_mean(maps):
    volume = np.random.default_rng(0).normal(size=(4, 6, 8))
    shrunk = maps.shrink(volume)
    assert shrunk.shape == (2, 3, 4)
    np.testing.assert_allclose(shrunk.mean(), volume.mean())


def test_demons_bring_a_ball_to_its_place(maps):
    x, y, z = np.indices((24, 24, 24))
    ball = lambda at: np.exp(  # noqa: E731
        -((x - at) ** 2 + (y - 12) ** 2 + (z - 12) ** 2) / 18
    ).astype(np.float32)
    shift = maps.warp(ball(12), ball(14), np.ones((24, 24, 24), np.float32))
    assert shift[0, 12, 12, 12] == pytest.approx(2, abs=0.3)
    assert np.abs(shift[1:, 12, 12, 12]).max() < 0.2


@TEMPLATE
def test_an_affine_is_found_again(align):
    """The template as the head: what comes out is where the template was put."""
    template = align.load_template(4.0)
    put = np.c_[np.diag([0.9, 0.95, 1.0]), align.TOP_MM - (2, 0, 60)]
    # Voxel centres of a volume at 4 mm, brought back to the template's millimetres.
    centres = (np.indices((48, 48, 48)).reshape(3, -1) + 0.5) * 4
    at = (centres - put[:, 3:]) / np.diag(put)[:, None] + align.CENTRE_MM[:, None]
    first = template.points[:, 0, 0, 0]
    inside = (at - first[:, None]) / 4
    from scipy.ndimage import map_coordinates

    head = map_coordinates(template.t1, inside, order=1).reshape(48, 48, 48)
    found = align.align(head.astype(np.float32), template, 4.0)
    moved = align.move(found, template.points[:, template.inside])
    wanted = align.move(put, template.points[:, template.inside])
    assert np.abs(moved - wanted).mean() < 1.0


@TEMPLATE
def test_tissues_are_found_under_a_bias(align, maps):
    template = align.load_template(4.0)
    drawn = np.argmax(template.priors, 0)
    head = np.choose(drawn, [0.6, 0.9, 0.3]) * np.exp(0.002 * template.points[1])
    tissues, brain, contrast = maps.find_tissues(head.astype(np.float32), template)
    inside = template.inside
    assert (np.argmax(tissues, 0) == drawn)[inside].mean() > 0.97
    assert (tissues.sum(0) <= 1 + 1e-5).all()
    assert brain[inside & (drawn == 1)].mean() == pytest.approx(1, abs=0.03)
    assert brain[inside & (drawn == 0)].mean() == pytest.approx(0.66, abs=0.03)
    assert not brain[~inside].any()
    assert contrast[1] - contrast[0] == pytest.approx(np.log(1.5), abs=0.05)


def test_kernels_are_those_of_centred_features(models):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 4)) + 5
    train, test = np.arange(9), np.arange(9, 12)
    kinds = models.make_kinds({"wide": features, "outline": np.zeros((12, 0))})
    parts = models.split_kernels(kinds, train, test)
    centred = features - features[train].mean(0)
    scale = np.square(centred[train]).sum(1).mean()
    plain = centred @ centred[train].T / scale
    np.testing.assert_allclose(parts.learnt[0], plain[train], atol=1e-9)
    np.testing.assert_allclose(parts.asked[0], plain[test], atol=1e-9)


def test_a_process_finds_the_kind_that_holds_the_label(models, cohort):
    kinds, labels, train, test = cohort
    answers = models.gaussian_process(kinds, labels, train, test)
    alone = models.gaussian_process(kinds.only("noise"), labels, train, test)
    error = np.abs(answers - labels[test]).mean()
    assert error < 0.8 * np.abs(alone - labels[test]).mean()


def test_held_out_labels_play_no_part(models, cohort):
    kinds, labels, train, test = cohort
    hidden = labels.copy()
    hidden[test] = np.nan
    names = ("signal", "noise", "outline")
    candidates = models.make_candidates(kinds, {n: (n,) for n in names}, hidden)
    name, answers = models.by_inner_folds(candidates, hidden, train, test, folds=5)
    assert name == "signal"
    assert np.isfinite(answers).all()
    plain = models.gaussian_process(kinds.only("signal"), labels, train, test)
    np.testing.assert_allclose(answers, plain)
