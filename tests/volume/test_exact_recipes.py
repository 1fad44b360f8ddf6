"""Exact recipes give what their originals give; MONAI's values are in the fixture."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainjax.errors import InputRefusedError
from brainjax.volume import (
    RECIPES,
    check_trainable,
    make_recipe,
    prepare_volume,
    recipe_from_dict,
)
from brainjax.volume.exact import area_taps, blend, linear_taps, resize_stored
from tests.golden.make_recipes import (
    COUNT,
    FIXTURE,
    SHAPE,
    odd_voxels,
    write_odd_scan,
)
from tests.golden.weights import sample
from tests.volume.scans import write

V2 = make_recipe("brainiac_v2")
EXACT = ("brainiac_v2", "brainiac_v1", "brainiac_v1_trilinear")
SIZES = st.integers(8, 300)


@pytest.fixture
def odd(tmp_path):
    return write_odd_scan(tmp_path / "odd.nii.gz")


@pytest.mark.parametrize("name", EXACT)
def test_a_recipe_gives_what_monai_gives(odd, name):
    volume = prepare_volume(odd, make_recipe(name))
    with np.load(FIXTURE) as golden:
        expected = golden[name]
    assert volume.codes.shape == RECIPES[name].shape
    assert volume.codes.dtype == np.float32
    difference = np.abs(sample(volume.codes, COUNT) - expected)
    assert difference.max() < 1e-5 * max(expected.std(), 1)


def test_the_affine_is_monais(odd):
    with np.load(FIXTURE) as golden:
        expected = golden["affine"]
    np.testing.assert_allclose(prepare_volume(odd, V2).affine, expected, atol=1e-6)


def test_the_provenance_says_how_to_come_back(odd):
    found = prepare_volume(odd, V2).provenance
    assert found["sha256"] == hashlib.sha256(odd.read_bytes()).hexdigest()
    assert found["original_shape"] == list(SHAPE)
    assert found["original_spacing"] == [4.0, 3.5, 5.0]
    assert (found["orientation"], found["axes"]) == ("LAS", "stored")
    assert (found["dtype"], found["recipe"]) == ("int16", V2.hash)
    codes = prepare_volume(odd, V2).codes
    mean, deviation = found["intensity_offset"], found["intensity_scale"]
    back = np.where(codes != 0, codes * deviation + mean, 0)
    # The middle of the ellipsoid keeps the range of 200..899, scaled.
    assert 97 <= back[40:56, 40:56, 40:56].min() < back.max() <= 446.5


def test_voxels_that_are_0_stay_0_and_the_others_are_z_scored(odd):
    codes = prepare_volume(odd, V2).codes
    assert (codes[:4] == 0).all()
    inside = codes[codes != 0].astype(np.float64)
    assert abs(inside.mean()) < 1e-5
    assert abs(inside.std() - 1) < 1e-5


def test_first_version_spans_0_to_1(odd):
    for name in ("brainiac_v1", "brainiac_v1_trilinear"):
        codes = prepare_volume(odd, make_recipe(name)).codes
        assert (codes.min(), codes.max()) == (0, 1)


def test_nothing_is_interpolated_where_the_sizes_agree(tmp_path):
    voxels = np.random.default_rng(0).normal(5, 2, (96, 96, 96)).astype(np.float32)
    voxels[:20] = 0
    path = write(tmp_path / "same.nii", voxels, np.diag([2.0, 2.0, 2.0, 1.0]))
    inside = voxels != 0
    mean, deviation = voxels[inside].mean(dtype=float), voxels[inside].std(dtype=float)
    expected = np.where(inside, (voxels - mean) / deviation, 0)
    volume = prepare_volume(path, V2)
    np.testing.assert_allclose(volume.codes, expected, atol=1e-6)
    np.testing.assert_array_equal(volume.affine, np.diag([2.0, 2.0, 2.0, 1.0]))


def test_orientation_does_not_matter_to_the_values(odd, tmp_path):
    """The original looks at the array alone: so do we, and say so in the affine."""
    first = prepare_volume(odd, V2)
    turned = np.array(
        [[0, 0, 5.0, -70], [4.0, 0, 0, -60], [0, -3.5, 0, 80], [0, 0, 0, 1]]
    )
    other = write_odd_scan(tmp_path / "other.nii.gz", turned)
    silent = write(tmp_path / "none.nii.gz", scaled(), sform_code=0)
    nowhere = write(tmp_path / "nowhere.nii", scaled(), sform_code=0)
    content = bytearray(nowhere.read_bytes())
    content[76:108] = bytes(32)  # pixdim
    nowhere.write_bytes(content)
    found = [prepare_volume(path, V2) for path in (other, silent, nowhere)]
    for volume in found:
        np.testing.assert_array_equal(volume.codes, first.codes)
    letters = [volume.provenance["orientation"] for volume in found]
    assert letters == ["AIR", "unstated", "unstated"]
    np.testing.assert_array_equal(found[2].provenance["original_spacing"], [1, 1, 1])
    told = prepare_volume(silent, V2, orientation="LPS")
    np.testing.assert_array_equal(told.codes, first.codes)
    assert told.provenance["orientation"] == "LPS"


def scaled() -> np.ndarray:
    """The odd scan's values as floats, what slope and intercept make of them."""
    return (odd_voxels() * 0.5 - 3).astype(np.float32)


def matrix(size: int, taps) -> np.ndarray:
    """The weights of an axis, [new, old]."""
    return blend(np.eye(size, dtype=np.float32), taps)


@pytest.mark.parametrize("taps", [linear_taps, area_taps])
@given(size=SIZES, target=SIZES)
@settings(deadline=None, max_examples=40)
def test_rows_are_means_and_equal_sizes_change_nothing(taps, size, target):
    rows = matrix(size, taps(size, target))
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(matrix(size, taps(size, size)), np.eye(size))
    # Half-voxel exact: seen from the other end it is the same.
    np.testing.assert_allclose(rows[::-1, ::-1], rows, atol=1e-4)


@given(size=SIZES, target=SIZES)
@settings(deadline=None, max_examples=40)
def test_a_ramp_stays_a_ramp(size, target):
    places = (np.arange(target) + 0.5) * size / target - 0.5
    ramp = blend(np.arange(size, dtype=np.float32), linear_taps(size, target))
    np.testing.assert_allclose(ramp, np.clip(places, 0, size - 1), atol=1e-4)


@given(size=SIZES, target=SIZES)
@settings(deadline=None, max_examples=40)
def test_area_is_the_mean_of_what_is_covered(size, target):
    line = np.random.default_rng(0).normal(size=size).astype(np.float32)
    expected = [
        line[i * size // target : -(-(i + 1) * size // target)].mean()
        for i in range(target)
    ]
    np.testing.assert_allclose(
        blend(line, area_taps(size, target)), expected, atol=1e-5
    )


def test_resizing_is_the_product_of_the_axes():
    voxels = np.random.default_rng(0).normal(size=(9, 14, 11)).astype(np.float32)
    rows = [matrix(n, linear_taps(n, m)) for n, m in ((9, 5), (14, 20), (11, 11))]
    expected = np.einsum("xyz,ix,jy,kz->ijk", voxels, *rows)
    found = resize_stored(voxels, (5, 20, 11), resize="trilinear")
    np.testing.assert_allclose(found, expected, atol=1e-6)


BAD = {
    "four frames": (np.stack([odd_voxels()] * 4, -1), "one 3D volume, got 4 frames"),
    "NaN": (np.where(odd_voxels() > 800, np.nan, scaled()), r"got \d+ NaN"),
    "constant": (odd_voxels() * 0 + 7, "wanted an image, got the constant 7"),
    "empty": (odd_voxels() * 0, "wanted an image, got the constant 0"),
    "few voxels": (odd_voxels()[:, :, :5], "wanted at least 8 voxels along each axis"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("name", EXACT)
def test_a_bad_scan_is_refused_in_one_line(kind, name, tmp_path):
    voxels, wanted = BAD[kind]
    path = write(tmp_path / "bad.nii.gz", voxels)
    with pytest.raises(InputRefusedError, match=wanted) as refused:
        prepare_volume(path, make_recipe(name))
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_mask_has_nothing_to_be_z_scored(tmp_path):
    voxels = np.zeros((96, 96, 96), np.uint8)
    voxels[30:60, 30:60, 30:60] = 3
    path = write(tmp_path / "mask.nii.gz", voxels, np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(InputRefusedError, match="not 0, got the constant 3"):
        prepare_volume(path, V2)
    speck = np.zeros((300, 20, 20), np.uint8)
    speck[9] = 1  # Between two places that are looked at.
    path = write(tmp_path / "speck.nii.gz", speck, np.diag([1.0, 5.0, 5.0, 1.0]))
    with pytest.raises(InputRefusedError, match="voxels that are not 0, got none"):
        prepare_volume(path, V2)
    with pytest.raises(InputRefusedError, match="after resizing, got the constant 0"):
        prepare_volume(path, make_recipe("brainiac_v1_trilinear"))


def test_a_truncated_file_is_refused(odd):
    odd.write_bytes(odd.read_bytes()[:9000])
    with pytest.raises(InputRefusedError, match="truncated"):
        prepare_volume(odd, V2)


def test_an_implausible_spacing_is_refused_where_it_is_stated(tmp_path):
    path = write_odd_scan(tmp_path / "tiny.nii.gz", np.diag([0.01, 0.01, 0.01, 1.0]))
    with pytest.raises(InputRefusedError, match=r"wanted a spacing of 0\.2-10"):
        prepare_volume(path, V2)


def test_exact_recipes_take_no_mask_and_no_size(odd):
    with pytest.raises(InputRefusedError, match="wanted no mask for recipe brainiac"):
        prepare_volume(odd, V2, mask_path=odd)
    with pytest.raises(InputRefusedError, match=r"spacing: wanted none .*96x96x96"):
        make_recipe("brainiac_v2", spacing=1.0)
    with pytest.raises(InputRefusedError, match="fov-mm: wanted none"):
        make_recipe("brainiac_v1", fov_mm=(192.0, 192.0, 192.0))
    with pytest.raises(InputRefusedError, match="recipe: wanted one of canonical"):
        make_recipe("brainiac")


@pytest.mark.parametrize(
    ("name", "pinned"),
    [
        ("canonical", "fdadc180de98"),
        ("stripped", "d15c3759e172"),
        ("raw_head", "6a3117ef090a"),
        ("brainiac_v2", "0aa4faf79526"),
        ("brainiac_v1", "56bc28ce5642"),
        ("brainiac_v1_trilinear", "4c1c5a1dc69f"),
    ],
)
def test_hashes_are_pinned_and_recipes_come_back_from_json(name, pinned):
    """Prepared data and checkpoints name them: another hash is another recipe."""
    recipe = make_recipe(name)
    assert recipe.hash == pinned
    assert recipe_from_dict(recipe.to_dict()) == recipe
    assert recipe.describe().startswith(f"{name} ({recipe.shape[0]}x")
    with pytest.raises(InputRefusedError, match=f"{name}: wanted version 1, got 2"):
        recipe_from_dict({**recipe.to_dict(), "version": 2})
    with pytest.raises(InputRefusedError, match=f"{name}: wanted the settings of"):
        recipe_from_dict({**recipe.to_dict(), "sharpen": 1})


def test_volumes_in_0_to_1_are_not_trained_on():
    for name in ("canonical", "brainiac_v2"):
        check_trainable(make_recipe(name), "here")
    with pytest.raises(InputRefusedError, match=r"here: .*embed and predict only"):
        check_trainable(make_recipe("brainiac_v1"), "here")


def test_only_left_and_right_are_flipped():
    check_trainable(V2, "here", orientations=["LAS", "RPI"], flip=0.5)
    check_trainable(V2, "here", orientations=["PSR", "unstated"], flip=0.0)
    check_trainable(make_recipe(), "here", orientations=["PSR"], flip=0.5)
    with pytest.raises(InputRefusedError, match=r"got 2 of another, such as PSR; set"):
        check_trainable(V2, "here", orientations=["PSR", "unstated"], flip=0.5)
