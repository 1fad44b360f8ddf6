"""A stripped brain is found whatever its grey values were turned into."""

import numpy as np
import pytest

from brainjax.volume import make_recipe, prepare_volume
from tests.volume.scans import body, write

RECIPE = make_recipe("stripped", spacing=8.0)
BRAIN = body() > 0


def z_scored() -> np.ndarray:
    values = body().astype(np.float32)
    inside = values[BRAIN]
    return np.where(BRAIN, (values - inside.mean()) / inside.std(), np.float32(0))


def ringing() -> np.ndarray:
    """A few dark voxels outside, as a spline interpolation leaves them."""
    values = body().astype(np.float32)
    values[~BRAIN & (np.random.default_rng(1).random(BRAIN.shape) < 0.01)] = -40
    return values


@pytest.mark.parametrize("make", [z_scored, ringing])
def test_the_brain_is_what_it_was(make, tmp_path):
    wanted = prepare_volume(write(tmp_path / "raw.nii"), RECIPE)
    found = prepare_volume(write(tmp_path / "made.nii", make()), RECIPE)
    np.testing.assert_array_equal(found.codes > 0, wanted.codes > 0)
