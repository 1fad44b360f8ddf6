"""Losses of volumes beside the live MONAI's: value and slope."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.losses import dice_cross_entropy, soft_dice

pytestmark = pytest.mark.reference

SHAPE = (2, 6, 5, 4)
ROWS = [
    (background, batch, sigmoid)
    for background in (True, False)
    for batch in (True, False)
    for sigmoid in (True, False)
    if background or not sigmoid
]


@pytest.fixture(autouse=True)
def torch():
    found = pytest.importorskip("torch", reason="PyTorch is not here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, at import and in constructors
        pytest.importorskip("monai.losses", reason="MONAI is not here")
        yield found


def theirs(torch, logits, truth, **keywords):
    """Value and slope, channels moved to where they have them."""
    from monai.losses import DiceCELoss, DiceLoss

    kind = DiceLoss if keywords.get("sigmoid") else DiceCELoss
    given = torch.tensor(np.moveaxis(logits, -1, 1), requires_grad=True)
    loss = kind(**keywords)(given, torch.tensor(truth))
    loss.backward()
    return loss.item(), np.moveaxis(given.grad.numpy(), 1, -1)


@pytest.mark.parametrize(("background", "batch", "sigmoid"), ROWS)
def test_dice_and_cross_entropy_equal_monai(torch, background, batch, sigmoid):
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((*SHAPE, 4)).astype(np.float32)
    labels = rng.integers(0, 4, SHAPE).astype(np.uint8)
    keywords = {"dice": {"batch": batch, "absent": True}}
    if sigmoid:
        regions = np.array([[0, 0, 0, 0], [1, 0, 0, 1], [1, 1, 0, 0], [1, 0, 1, 1]])
        truth = np.moveaxis(regions[labels], -1, 1).astype(np.float32)
        keywords["regions"] = regions.astype(bool)
        wanted = theirs(torch, logits, truth, sigmoid=True, batch=batch)
    else:
        keywords["background"] = background
        wanted = theirs(
            torch,
            logits,
            labels[:, None].astype(np.int64),
            to_onehot_y=True,
            softmax=True,
            include_background=background,
            batch=batch,
        )
    ours = soft_dice if sigmoid else dice_cross_entropy
    value, slope = jax.value_and_grad(
        lambda x: ours(x, jnp.asarray(labels), jnp.ones(2), **keywords)
    )(jnp.asarray(logits))
    np.testing.assert_allclose(value, wanted[0], rtol=1e-5)
    np.testing.assert_allclose(slope, wanted[1], rtol=1e-3, atol=1e-7)
