"""A bias field that is known is found, small or in full."""

import numpy as np
import pytest
from scipy import ndimage

from brainjax.errors import InputRefusedError
from brainjax.volume.bias import correct_bias
from tests.volume.heads import head

MM = 4.0


def biased(strength: float):
    """A head, its field and where it is."""
    voxels, _ = head(MM)
    axes = [np.linspace(-1, 1, n) for n in voxels.shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    field = np.exp(strength * (0.6 * x - 0.5 * y * z + 0.7 * z**2)).astype(np.float32)
    inside = ndimage.binary_fill_holes(voxels > 0.08)
    return voxels * field, field, np.asarray(inside)


def doubled(values):
    """Each voxel as eight of half its size."""
    for axis in range(3):
        values = np.repeat(values, 2, axis)
    return values


def variation(field, inside) -> float:
    values = field[inside]
    return float(values.std() / values.mean())


def test_most_of_a_field_is_taken_away():
    voxels, field, inside = biased(0.5)
    found = correct_bias(voxels, (MM, MM, MM), inside)
    left = variation(field / found.field, inside)
    assert left < 0.45 * variation(field, inside)
    np.testing.assert_allclose(found.voxels * found.field, voxels, rtol=1e-5, atol=1e-7)


def test_without_a_field_little_changes():
    voxels, _, inside = biased(0.0)
    found = correct_bias(voxels, (MM, MM, MM), inside)
    assert variation(found.field, inside) < 0.06


def test_the_field_of_a_shrunken_scan_is_that_of_the_whole():
    voxels, _, inside = biased(0.5)
    voxels, inside = doubled(voxels), doubled(inside)
    small = correct_bias(voxels, (2.0, 2.0, 2.0), inside, shrink_mm=4.0)
    full = correct_bias(voxels, (2.0, 2.0, 2.0), inside, shrink_mm=2.0)
    apart = np.log(small.field / full.field)[inside]
    assert apart.std() < 0.03
    assert small.field.shape == voxels.shape


def test_gain_and_thick_slices_do_not_matter():
    voxels, _, inside = biased(0.5)
    thick = voxels[:, :, ::2], inside[:, :, ::2]
    one = correct_bias(thick[0], (MM, MM, 2 * MM), thick[1])
    other = correct_bias(1000 * thick[0], (MM, MM, 2 * MM), thick[1])
    np.testing.assert_allclose(one.field, other.field, rtol=1e-3)


def test_the_mean_stays_and_bytes_repeat():
    voxels, _, inside = biased(0.5)
    one = correct_bias(voxels, (MM, MM, MM), inside)
    assert abs(np.log(one.field[inside]).mean()) < 0.02
    other = correct_bias(voxels, (MM, MM, MM), inside)
    assert one.voxels.tobytes() == other.voxels.tobytes()


def test_what_has_no_logarithm_is_refused():
    voxels, _, inside = biased(0.0)
    zscored = (voxels - voxels[inside].mean()) / voxels[inside].std()
    with pytest.raises(InputRefusedError, match="wanted positive values"):
        correct_bias(zscored, (MM, MM, MM), inside)
    with pytest.raises(InputRefusedError, match="wanted at least 200 voxels"):
        correct_bias(voxels, (MM, MM, MM), np.zeros_like(inside))
