"""Latents do what the equations say; every layer is where it should be."""

import numpy as np
import pytest
from scipy import ndimage

from brainjax.phantom.anatomy import make_grid
from brainjax.phantom.contrast import CONTRASTS, LABELS, inside_mask, make_labels
from brainjax.phantom.effects import EFFECTS, make_anatomy
from brainjax.phantom.fields import Field, Grid, sample, spline, spline_shape
from brainjax.phantom.latents import draw_subject, oracle_age, stream
from brainjax.phantom.scanner import thick_slices
from brainjax.phantom.truth import histogram_features

PLAIN = {"ventricles": 0.0, "thinning": 0.0, "size": 1.0, "cisterns": 0.0}
PLAIN |= {"other_thinning": 0.0, "rim": 0.0}


def volumes(atlas, **latents):
    """ml of CSF, grey, white matter and lateral ventricles of one subject."""
    subject = draw_subject(0, 1)
    subject = subject._replace(latents=subject.latents._replace(**(PLAIN | latents)))
    anatomy = make_anatomy(subject, atlas, make_grid(6.0, head=False))
    inside = anatomy.maps["inside"]
    return {k: float(v[inside].sum()) * 0.216 for k, v in anatomy.tissues.items()}


def test_plain_anatomy_has_the_volumes_of_a_brain(atlas):
    ml = volumes(atlas)
    assert 8 < ml["ventricle"] < 30
    assert 500 < ml["grey"] < 1100
    assert 400 < ml["white"] < 900
    assert 1500 < sum(ml.values()) < 2100


def test_ventricles_widen_and_the_brain_keeps_its_outline(atlas):
    narrow, plain, wide = (volumes(atlas, ventricles=v) for v in (-0.5, 0.0, 4.0))
    assert narrow["ventricle"] < plain["ventricle"]
    assert wide["ventricle"] > 2 * plain["ventricle"]
    assert sum(wide.values()) == pytest.approx(sum(plain.values()), rel=0.01)


@pytest.mark.parametrize("which", ["thinning", "other_thinning"])
def test_thinning_turns_grey_matter_into_csf(atlas, which):
    plain, thin = volumes(atlas), volumes(atlas, **{which: 1.0})
    lost = plain["grey"] - thin["grey"]
    assert 20 < lost < 200
    assert thin["csf"] - plain["csf"] == pytest.approx(lost, rel=1e-3)
    assert thin["white"] == pytest.approx(plain["white"])


def test_size_scales_the_volume(atlas):
    small, large = (sum(volumes(atlas, size=s).values()) for s in (0.95, 1.05))
    assert large / small == pytest.approx((1.05 / 0.95) ** 3, rel=0.03)


def test_a_head_has_every_layer_from_the_inside_out(atlas):
    anatomy = make_anatomy(
        draw_subject(0, 1), atlas, make_grid(6.0, head=True), head=True
    )
    inside = anatomy.maps["inside"]
    total = sum(anatomy.tissues.values())
    deep = inside & (anatomy.maps["outside"] < 8)
    np.testing.assert_allclose(total[deep], 1, atol=0.1)
    labels = make_labels(anatomy)
    assert set(np.unique(labels)) == set(range(9))
    depth = ndimage.distance_transform_edt(inside_mask(anatomy))
    upper = labels.shape[2] * 3 // 4
    depths = [depth[..., upper:][labels[..., upper:] == k].mean() for k in (3, 1, 5, 6)]
    assert depths == sorted(depths, reverse=True)


def test_every_tissue_has_a_contrast_and_a_label():
    for sequence, row in CONTRASTS.items():
        missing = set(LABELS) - set(row) - {"air"}
        assert not missing, f"{sequence} lacks {missing}"


def test_effects_are_named_once_and_staged():
    assert len({effect.name for effect in EFFECTS}) == len(EFFECTS)
    assert {effect.stage for effect in EFFECTS} <= {"shape", "tissue"}


def test_streams_are_independent_and_repeat():
    draws = [stream(0, 1, name).random(4) for name in ("a", "b", "a")]
    assert (draws[0] == draws[2]).all()
    assert (draws[0] != draws[1]).all()
    assert draw_subject(0, 1) != draw_subject(0, 2) != draw_subject(1, 2)


def test_the_oracle_beats_each_latent_and_is_unbiased():
    people = [draw_subject(3, number).latents for number in range(1, 600)]
    ages = np.array([p.age for p in people])
    error = np.array([oracle_age(p) for p in people]) - ages
    thinning = np.array([p.thinning for p in people])
    line = np.polyval(np.polyfit(thinning, ages, 1), thinning) - ages
    assert np.abs(error).mean() < 0.8 * np.abs(line).mean()
    assert abs(error.mean()) < 0.6


def test_nuisances_follow_neither_age_nor_sex():
    people = [draw_subject(4, number).latents for number in range(1, 1001)]
    for target in ([p.age for p in people], [p.sex == "M" for p in people]):
        for name in ("cisterns", "other_thinning", "rim"):
            values = [getattr(p, name) for p in people]
            assert abs(np.corrcoef(target, values)[0, 1]) < 0.1


def test_sampling_equals_scipy():
    rng = np.random.default_rng(0)
    values = rng.random((5, 6, 7, 2), np.float32)
    points = rng.uniform(-3, 20, (3, 200)).astype(np.float32)
    got = sample(Field(values, (1.0, 2.0, 3.0), 2.0), points)
    at = (points - np.array([[1], [2], [3]])) / 2
    for channel in range(2):
        wanted = ndimage.map_coordinates(
            values[..., channel], at, order=1, mode="nearest"
        )
        np.testing.assert_allclose(got[:, channel], wanted, atol=1e-4)


def test_spline_of_ones_is_one_everywhere():
    grid = Grid((20, 17, 11), (0.0, 0.0, 0.0), 2.0)
    ones = np.ones(spline_shape(grid, 9.0), np.float32)
    np.testing.assert_allclose(spline(ones, grid, 9.0), 1, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_keep_a_ramp_and_blur_a_comb(axis):
    ramp = np.moveaxis(
        np.broadcast_to(np.arange(12.0, dtype=np.float32), (4, 5, 12)), 2, axis
    )
    thick = np.moveaxis(thick_slices(ramp, axis, 3), axis, 2)
    np.testing.assert_allclose(thick[..., 1:-1], np.moveaxis(ramp, axis, 2)[..., 1:-1])
    assert thick_slices(ramp % 2, axis, 2).std() < 1e-6
    assert thick_slices(ramp, axis, 1) is ramp


def test_histogram_features_are_shares_and_ml():
    image = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    features = histogram_features(image, image >= 500, 2.0)
    assert len(features) == 33
    assert sum(features[:32]) == pytest.approx(1)
    assert features[32] == pytest.approx(4.0)
