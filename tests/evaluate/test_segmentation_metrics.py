"""Overlap and surface metrics are reference libraries'; rows are all of a report."""

import warnings

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.evaluate import segmentation
from brainjax.evaluate.segmentation import Row, Scores, score_scan, score_structure

RNG = np.random.default_rng(3)
SPACING = (1.0, 0.7, 2.5)
AFFINE = np.diag([*SPACING, 1.0])
SHAPE = (24, 26, 14)


def ball(centre, radius):
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    return np.linalg.norm((grid - np.array(centre)) * SPACING, axis=-1) < radius


TRUTH = ball((11, 12, 6), 7.5)
ANSWER = ball((13, 12, 7), 6.5) | (RNG.random(SHAPE) < 0.002)


def image(mask):
    import SimpleITK

    found = SimpleITK.GetImageFromArray(np.transpose(mask).astype(np.uint8))
    found.SetSpacing(SPACING)
    return found


def test_overlap_is_simpleitks():
    import SimpleITK

    theirs = SimpleITK.LabelOverlapMeasuresImageFilter()
    theirs.Execute(image(ANSWER), image(TRUTH))
    got = score_structure(TRUTH, ANSWER, AFFINE)
    assert got.dice == pytest.approx(theirs.GetDiceCoefficient(), rel=1e-12)
    assert got.iou == pytest.approx(theirs.GetJaccardCoefficient(), rel=1e-12)
    # Theirs is relative to the source image, which is the answer here.
    assert got.error_percent == pytest.approx(
        100 * (ANSWER.sum() - TRUTH.sum()) / TRUTH.sum()
    )
    assert got.truth_ml == pytest.approx(TRUTH.sum() * np.prod(SPACING) / 1000)
    assert got.error_ml == pytest.approx(got.answer_ml - got.truth_ml)


def test_largest_distance_is_simpleitks(monkeypatch):
    import SimpleITK

    monkeypatch.setattr(segmentation, "PERCENTILE", 100.0)
    theirs = SimpleITK.HausdorffDistanceImageFilter()
    theirs.Execute(image(TRUTH), image(ANSWER))
    got = score_structure(TRUTH, ANSWER, AFFINE)
    assert got.hd95_mm == pytest.approx(theirs.GetHausdorffDistance(), rel=1e-6)


def test_a_shift_is_measured_in_mm_on_an_oblique_grid():
    cube = np.zeros(SHAPE, bool)
    cube[6:12, 6:12, 4:9] = True
    turned = AFFINE.copy()
    angle = np.deg2rad(20)
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turned[:2, :2] = turn @ AFFINE[:2, :2]
    for affine in (AFFINE, turned):
        got = score_structure(cube, np.roll(cube, 1, axis=2), affine)
        assert got.hd95_mm == pytest.approx(2.5)
        assert got.error_ml == 0


def test_structures_that_touch_the_border_have_a_surface_there():
    half = np.zeros(SHAPE, bool)
    half[:, :, :7] = True
    got = score_structure(half, half, AFFINE)
    assert (got.dice, got.hd95_mm, got.assd_mm) == (1, 0, 0)
    empty = score_structure(half, ~half | half, AFFINE)
    assert empty.hd95_mm == pytest.approx(7 * 2.5)


def test_empty_structures_are_defined():
    nothing = np.zeros(SHAPE, bool)
    both = score_structure(nothing, nothing, AFFINE)
    assert np.isnan([both.dice, both.iou, both.hd95_mm, both.error_percent]).all()
    assert (both.error_ml, both.missed) == (0, 0)
    for one, other in ((TRUTH, nothing), (nothing, TRUTH)):
        got = score_structure(one, other, AFFINE)
        assert (got.dice, got.iou, got.missed) == (0, 0, 1)
        assert np.isnan(got.hd95_mm)


def test_a_summary_leaves_out_nan_and_tells_what_was_missed():
    kinds = {
        "hit": score_structure(TRUTH, TRUTH, AFFINE),
        "miss": score_structure(TRUTH, ~TRUTH & False, AFFINE),
        "none": score_structure(TRUTH & False, TRUTH & False, AFFINE),
    }
    rows = [Row(f"scan{i}", f"s{i}", "a", kinds[k]) for i, k in enumerate(kinds)]
    got = segmentation.summarise(rows)
    assert got["a"]["dice"].value == 0.5
    assert got["a"]["dice"].n == 2
    assert got["a"]["missed"].value == pytest.approx(1 / 3)
    assert got["a"]["hd95_mm"].value == 0
    assert got["mean"]["dice"] == got["a"]["dice"]


def test_class_numbers_sum_to_regions_and_unknown_never_counts():
    labels = RNG.integers(0, 4, SHAPE).astype(np.uint8)
    members = np.array([[0, 0], [1, 1], [1, 0], [0, 0]], bool)  # whole, core
    names = ("whole", "core")
    perfect = score_scan(labels, labels, names, AFFINE, members=members)
    assert perfect["whole"].dice == perfect["core"].dice == 1
    assert perfect["core"].truth_ml < perfect["whole"].truth_ml
    masks = np.stack([members[labels, n] for n in range(2)], -1)
    assert score_scan(labels, masks, names, AFFINE, members=members) == perfect
    blurred = labels.copy()
    blurred[:8] = 255
    wrong = labels.copy()
    wrong[:8] = 1
    got = score_scan(blurred, wrong, names, AFFINE, members=members)
    assert got["whole"].dice == 1
    with pytest.raises(InputRefusedError, match="0 to 1, got 0 to 300"):
        score_scan(labels % 2, labels * np.uint16(100), ("a",), AFFINE)
    with pytest.raises(InputRefusedError, match="0 to 1, got 0 to 3"):
        score_scan(labels, labels, ("a",), AFFINE)


def test_a_table_is_enough_to_compute_everything_again(tmp_path):
    scores = [Scores(*RNG.random(9)) for _ in range(12)]
    scores[3] = scores[3]._replace(hd95_mm=float("nan"))
    rows = [
        Row(f"scan{i % 6}", f"s{i % 3}", f"part {i // 6}, left", score)
        for i, score in enumerate(scores)
    ]
    path = tmp_path / "scores.csv"
    segmentation.write_rows(rows, path)
    assert segmentation.summarise(segmentation.read_rows(path)) == (
        segmentation.summarise(rows)
    )
    path.write_text("a,b\n")
    with pytest.raises(InputRefusedError, match="wanted columns scan"):
        segmentation.read_rows(path)


MONAI = [4.270627021789551, 1.8750696182250977]
"""HD95 and symmetric mean distance that MONAI 1.6 gives for these two masks."""


def test_surface_distances_are_those_of_monai():
    got = score_structure(TRUTH, ANSWER, AFFINE)
    assert [got.hd95_mm, got.assd_mm] == pytest.approx(MONAI, rel=1e-5)


@pytest.mark.reference
def test_monai_still_gives_these_distances():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, at import
        torch = pytest.importorskip("torch", reason="PyTorch is not here")
        theirs = pytest.importorskip("monai.metrics", reason="MONAI is not here")
        one, other = (
            torch.from_numpy(mask[None, None].astype(np.float32))
            for mask in (ANSWER, TRUTH)
        )
        words = {"include_background": True, "spacing": list(SPACING)}
        far = theirs.compute_hausdorff_distance(one, other, percentile=95, **words)
        mean = theirs.compute_average_surface_distance(
            one, other, symmetric=True, **words
        )
    assert [far.item(), mean.item()] == pytest.approx(MONAI, rel=1e-5)
