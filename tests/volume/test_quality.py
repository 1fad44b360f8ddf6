"""Quality measures: known noise, ghosts and cuts are found, and nothing else moves."""

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.volume.air import find_air
from brainjax.volume.planes import (
    PIXEL_MM,
    PIXELS,
    Planes,
    encode_planes,
    load_planes,
    make_planes,
    save_planes,
)
from brainjax.volume.quality import find_cuts, focus_entropy, measure
from brainjax.volume.tissue import contrast_to_noise, deep_signal, smoothness

SPACING = (3.0, 3.0, 3.0)
AFFINE = np.diag([*SPACING, 1.0])
SHAPE = (74, 84, 78)
SIGNAL = 500.0
GREY = 350.0


def ball(*radii: float, shape=SHAPE, spacing=SPACING) -> np.ndarray:
    """An ellipsoid of `radii` in mm in the middle."""
    middle = (np.array(shape) - 1)[:, None, None, None] / 2
    mm = (np.indices(shape) - middle) * np.array(spacing)[:, None, None, None]
    return ((mm / np.array(radii)[:, None, None, None]) ** 2).sum(0) < 1


HEAD = ball(78, 92, 88)
BRAIN = ball(66, 80, 72)
WHITE = ball(54, 68, 60)


def clean() -> np.ndarray:
    """Skin, a grey rim, white matter and a dark middle."""
    voxels = np.where(HEAD, 600.0, 0.0)
    voxels[ball(72, 86, 80)] = 30
    voxels[BRAIN] = GREY
    voxels[WHITE] = SIGNAL
    voxels[ball(12, 25, 15)] = 100
    return voxels.astype(np.float32)


def scan(sigma=5.0, coils=1, seed=0) -> np.ndarray:
    """The magnitude of a complex image with Gaussian noise in each coil's parts."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(0, sigma, (2 * coils, *SHAPE))
    parts[0] += clean()
    return np.sqrt((parts**2).sum(axis=0)).astype(np.float32)


@pytest.fixture(scope="module")
def plain():
    return measure(scan(), AFFINE, BRAIN, HEAD, overlap=0.9, metric=0.4)


def test_every_measure_is_defined_on_a_head(plain):
    missing = [name for name, value in plain.items() if value is None]
    assert missing == ["codes_clipped"]
    assert plain["overlap"] == 0.9
    assert plain["metric"] == 0.4
    assert plain["brain_ml"] == pytest.approx(np.count_nonzero(BRAIN) * 0.027)
    assert plain["cut_off_mm"] == plain["cut_faces"] == 0
    assert plain["ghosting"] < 0.002
    assert plain["air_outliers"] < 1e-3


@pytest.mark.parametrize("sigma", [3.0, 10.0, 30.0])
def test_the_signal_to_noise_ratio_is_the_one_put_in(sigma):
    found = measure(scan(sigma), AFFINE, BRAIN, HEAD)["snr"]
    assert found == pytest.approx(SIGNAL / sigma, rel=0.06)


def test_several_coils_move_it_little():
    found = measure(scan(10.0, coils=8), AFFINE, BRAIN, HEAD)["snr"]
    assert found == pytest.approx(SIGNAL / 10, rel=0.25)


def test_whole_numbers_move_it_little():
    found = measure(np.round(scan(2.0)), AFFINE, BRAIN, HEAD)["snr"]
    assert found == pytest.approx(SIGNAL / 2, rel=0.1)


def test_scale_moves_no_ratio(plain):
    other = measure(7 * scan(), AFFINE, BRAIN, HEAD, overlap=0.9, metric=0.4)
    for name, value in plain.items():
        assert other[name] == (None if value is None else pytest.approx(value, 1e-4))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_ghost_is_found_along_any_axis(axis):
    voxels = scan()
    voxels += 0.1 * np.roll(voxels, SHAPE[axis] // 2, axis)
    assert measure(voxels, AFFINE, BRAIN, HEAD)["ghosting"] > 0.03


def test_a_bright_spot_in_the_air_is_counted_and_noise_is_not():
    voxels = scan()
    voxels[2:8, 60:75, 66:76] = 200
    found = measure(voxels, AFFINE, BRAIN, HEAD)
    assert 0.002 < found["air_outliers"] < 0.02
    assert found["snr"] == pytest.approx(SIGNAL / 5, rel=0.1)


def test_a_stripped_scan_has_no_air():
    voxels = np.where(BRAIN, scan(), np.float32(0))
    found = measure(voxels, AFFINE, BRAIN, BRAIN)
    for name in ("snr", "ghosting", "air_outliers"):
        assert found[name] is None
    assert found["cnr"] > 10
    assert found["cut_faces"] == 0


def test_emptied_air_is_none():
    voxels = np.where(HEAD, scan(), np.float32(0))
    assert find_air(voxels, SPACING, BRAIN, HEAD) is None


def test_contrast_falls_with_noise_and_not_with_a_bias_field():
    found = [contrast_to_noise(scan(sigma), BRAIN) for sigma in (5, 15, 50, 500)]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx((SIGNAL - GREY) / 5, rel=0.15)
    assert found[-1] == pytest.approx(1.24, abs=0.15)
    field = np.linspace(0.85, 1.15, SHAPE[1], dtype=np.float32)[:, None]
    assert contrast_to_noise(scan() * field, BRAIN) > 0.6 * found[0]


def test_the_deep_signal_is_the_white_matter_whatever_is_brighter():
    assert deep_signal(clean(), SPACING, BRAIN) == SIGNAL
    assert deep_signal(700 - clean(), SPACING, BRAIN) == 700 - SIGNAL


def test_the_width_of_smoothed_noise_is_found():
    from scipy import ndimage

    noise = np.random.default_rng(0).normal(size=SHAPE)
    for sigma in (1.0, 1.5):
        smooth = ndimage.gaussian_filter(noise, sigma).astype(np.float32)
        assert smoothness(smooth, SPACING, BRAIN) == pytest.approx(
            3 * 2.355 * sigma, rel=0.05
        )
    assert smoothness(noise.astype(np.float32), SPACING, BRAIN) < 3


def test_the_entropy_is_0_of_one_voxel_and_1_of_all_alike():
    one = np.zeros(SHAPE, np.float32)
    one[1, 2, 3] = 9
    assert focus_entropy(one) == pytest.approx(0, abs=1e-6)
    assert focus_entropy(np.full(SHAPE, 3, np.float32)) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(("axis", "side"), [(a, s) for a in range(3) for s in (0, 1)])
def test_a_cut_brain_is_found_at_every_face(axis, side):
    keep = [slice(None)] * 3
    half = SHAPE[axis] // 2
    keep[axis] = slice(half, None) if side == 0 else slice(None, half)
    keep = tuple(keep)
    width, faces = find_cuts(BRAIN[keep], HEAD[keep], SPACING)
    radii = np.delete([66, 80, 72], axis)
    assert width == pytest.approx(np.sqrt(np.pi * np.prod(radii)), rel=0.03)
    assert faces == 1


def test_a_neck_and_a_nose_that_leave_the_image_are_no_cut():
    head = HEAD.copy()
    head[30:45, 30:50, :20] = True
    head[32:42, 70:, 20:30] = True
    assert find_cuts(BRAIN, head, SPACING) == (0.0, 0)


def test_faces_padded_on_hide_no_cut():
    voxels, brain, head = scan(), BRAIN, HEAD
    keep = slice(None, SHAPE[2] // 2 + 10)
    padding = ((0, 0), (0, 0), (0, 20))
    found = measure(
        np.pad(voxels[..., keep], padding),
        AFFINE,
        np.pad(brain[..., keep], padding),
        np.pad(head[..., keep], padding),
    )
    assert found["cut_off_mm"] > 100
    assert found["cut_faces"] == 1
    assert found["ghosting"] < 0.01


def test_volumes_are_those_of_a_sheared_grid():
    shear = AFFINE.copy()
    shear[1, 2] = 1.5
    found = measure(scan(), shear, BRAIN, HEAD)
    assert found["brain_ml"] == pytest.approx(BRAIN.sum() * 0.027, rel=1e-6)
    assert found["head_ml"] == pytest.approx(HEAD.sum() * 0.027, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_what_cannot_be_told_is_none_and_never_nan(value):
    nothing = np.zeros((10, 12, 14), bool)
    found = measure(np.full(nothing.shape, value, np.float32), AFFINE, nothing, nothing)
    assert found["brain_ml"] == 0
    known = [number for number in found.values() if number is not None]
    assert np.isfinite(known).all()
    assert found["snr"] is found["cnr"] is found["blur"] is None


def test_clipped_is_the_share_at_the_top():
    voxels = np.minimum(scan(), np.float32(SIGNAL))
    found = measure(voxels, AFFINE, BRAIN, HEAD)["clipped"]
    assert found == pytest.approx((voxels[HEAD] == SIGNAL).mean())
    assert found > 0.3


def marked() -> np.ndarray:
    """A head with a bright block on the subject's left, front and top of the middle."""
    voxels = clean()
    voxels[20:26, 54:60, 36:42] = 2000
    return voxels


def test_planes_are_upright_with_left_on_the_left():
    planes = make_planes(marked(), BRAIN, SPACING)
    assert planes.images.shape == planes.outlines.shape == (3, PIXELS, PIXELS)
    rows, columns = np.nonzero(planes.images[0] == 255)
    middle = PIXELS / 2
    block = (planes.images[0] == 255) & (np.indices((PIXELS, PIXELS))[0] < middle)
    assert block.any()
    assert rows.mean() < middle  # the front is at the top
    assert columns.mean() < middle


def test_the_outline_lies_on_the_masks_edge_in_mm():
    planes = make_planes(clean(), BRAIN, SPACING)
    for outline, radii in zip(
        planes.outlines, ((66, 80), (66, 72), (80, 72)), strict=True
    ):
        rows, columns = np.nonzero(outline)
        across = (columns.max() - columns.min() + 1) * PIXEL_MM
        assert across == pytest.approx(2 * radii[0], abs=5)
        assert (rows.max() - rows.min() + 1) * PIXEL_MM == pytest.approx(
            2 * radii[1], abs=5
        )
        assert not outline[PIXELS // 2, PIXELS // 2]


def test_thick_slices_are_as_wide_as_thin_ones():
    spacing = (1.5, 1.5, 6.0)
    shape = (110, 120, 30)
    brain = ball(66, 80, 72, shape=shape, spacing=spacing)
    planes = make_planes(brain.astype(np.float32), brain, spacing)
    plain = make_planes(BRAIN.astype(np.float32), BRAIN, SPACING)
    for found, wanted in zip(planes.images, plain.images, strict=True):
        assert (found > 127).sum() == pytest.approx((wanted > 127).sum(), rel=0.05)


def test_planes_of_an_empty_mask_are_of_the_images_middle():
    planes = make_planes(clean(), np.zeros(SHAPE, bool), SPACING)
    assert not planes.outlines.any()
    assert planes.images.any()


def test_planes_come_back_and_are_the_same_bytes(tmp_path):
    planes = make_planes(clean(), BRAIN, SPACING)
    save_planes(tmp_path / "planes.npz", planes)
    assert [path.name for path in tmp_path.iterdir()] == ["planes.npz"]
    assert (tmp_path / "planes.npz").read_bytes() == encode_planes(planes)
    again = load_planes(tmp_path / "planes.npz")
    assert isinstance(again, Planes)
    np.testing.assert_array_equal(again.images, planes.images)
    np.testing.assert_array_equal(again.outlines, planes.outlines)


@pytest.mark.parametrize("damage", ["absent", "text", "short", "other"])
def test_damaged_planes_are_refused_in_one_line(damage, tmp_path):
    path = tmp_path / "planes.npz"
    good = encode_planes(make_planes(clean(), BRAIN, SPACING))
    if damage == "text":
        path.write_text("no planes")
    elif damage == "short":
        path.write_bytes(good[: len(good) // 2])
    elif damage == "other":
        np.savez(path, images=np.zeros((3, 4, 4)), outlines=np.zeros((3, 4, 4)))
    with pytest.raises(InputRefusedError, match=r"planes\.npz: wanted ") as caught:
        load_planes(path)
    assert "\n" not in str(caught.value)
