"""A bias field that is known is found, small or in full."""

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.volume.bias import correct_bias
from brainjax.volume.template import load_template
from tests.volume.heads import head

MM = 4.0
SPACING = (MM, MM, MM)
SHRINK_MM = 8.0


def biased(strength: float):
    """A head, its field and its brain."""
    voxels, _ = head(MM)
    axes = [np.linspace(-1, 1, n) for n in voxels.shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    field = np.exp(strength * (0.6 * x - 0.5 * y * z + 0.7 * z**2)).astype(np.float32)
    return voxels * field, field, np.pad(load_template(MM).brain, 6)


def variation(field, inside) -> float:
    values = field[inside]
    return float(values.std() / values.mean())


@pytest.fixture(scope="module")
def found():
    """What is found of a strong field."""
    voxels, _, inside = biased(1.0)
    return correct_bias(voxels, SPACING, inside, shrink_mm=SHRINK_MM)


def test_most_of_a_field_is_taken_away(found):
    voxels, field, inside = biased(1.0)
    left = variation(field / found.field, inside)
    assert left < 0.4 * variation(field, inside)
    np.testing.assert_allclose(found.voxels * found.field, voxels, rtol=1e-5, atol=1e-7)
    assert abs(np.log(found.field[inside]).mean()) < 0.02


def test_without_a_field_little_changes():
    voxels, _, inside = biased(0.0)
    found = correct_bias(voxels, SPACING, inside, shrink_mm=SHRINK_MM)
    assert variation(found.field, inside) < 0.06


def test_the_field_of_a_shrunken_scan_is_that_of_a_finer_one(found):
    voxels, _, inside = biased(1.0)
    fine = correct_bias(voxels, SPACING, inside)
    assert np.log(found.field / fine.field)[inside].std() < 0.03
    assert found.field.shape == voxels.shape


def test_thick_slices_do_not_matter(found):
    voxels, _, inside = biased(1.0)
    thick = correct_bias(
        voxels[:, :, ::2], (MM, MM, 2 * MM), inside[:, :, ::2], shrink_mm=SHRINK_MM
    )
    apart = np.log(thick.field / found.field[:, :, ::2])[inside[:, :, ::2]]
    assert apart.std() < 0.05


def test_gain_does_not_matter_and_bytes_repeat(found):
    voxels, _, inside = biased(1.0)
    again = correct_bias(voxels, SPACING, inside, shrink_mm=SHRINK_MM)
    assert again.voxels.tobytes() == found.voxels.tobytes()
    assert again.field.tobytes() == found.field.tobytes()
    louder = correct_bias(1000 * voxels, SPACING, inside, shrink_mm=SHRINK_MM)
    np.testing.assert_allclose(louder.field, found.field, rtol=1e-3)


def test_what_has_no_logarithm_is_refused():
    voxels, _, inside = biased(0.0)
    zscored = (voxels - voxels[inside].mean()) / voxels[inside].std()
    with pytest.raises(InputRefusedError, match="wanted positive values"):
        correct_bias(zscored, SPACING, inside)
    with pytest.raises(InputRefusedError, match="wanted at least 200 voxels"):
        correct_bias(voxels, SPACING, np.zeros_like(inside))
