"""What a segmentation run is measured by while it learns: Dice on validation scans."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from brainjax.augment import case_view
from brainjax.evaluate.windows import whole_logits
from brainjax.models.pure import run
from brainjax.models.segmenters import Segmented
from brainjax.records.classes import UNKNOWN
from brainjax.tasks import Segmentation
from brainjax.train.ema import EMA
from brainjax.train.state import Blueprint, State

OVERLAP = 0.0
"""Of windows, at least: where crops are learnt from, this is measured often."""


class Overlap(NamedTuple):
    """What one scan adds: voxels of each structure [n] in both, found, true; loss."""

    both: Float[Array, " n"]
    found: Float[Array, " n"]
    true: Float[Array, " n"]
    loss: Float[Array, ""]


class SegmentValidation:
    """1 - the mean Dice of the validation scans, written to the log; lower is better.

    Of a scan, structures that neither it nor the answer has count for nothing.

    Args:
      plan: a `SegmentPlan`.
      blueprint: of the run.
    """

    def __init__(self, plan: Any, blueprint: Blueprint):
        self.log: Any = None
        self.task, self.dataset, self.val = plan.task, plan.dataset, plan.split.val
        self.part = EMA if plan.ema else "params"
        self.measure = make_overlap(blueprint.graphdef, plan.task, view=plan.view)

    def __call__(self, step: int, state: State) -> float:
        overlaps = [
            jax.device_get(
                self.measure(state[self.part], state["batch_stats"], volumes)
            )
            for volumes in map(self.dataset.read, map(int, self.val))
        ]
        dice = dice_scores(overlaps)
        means = {
            name: float(np.mean(column[np.isfinite(column)]))
            for name, column in zip(self.task.classes, dice.T, strict=True)
            if np.isfinite(column).any()
        }
        mean = float(np.mean(list(means.values()))) if means else 0.0
        found = {f"validation/dice_{name}": value for name, value in means.items()}
        loss = float(np.mean([overlap.loss for overlap in overlaps]))
        self.log.write(
            step, {"validation/loss": loss, "validation/dice": mean, **found}
        )
        return 1 - mean


def dice_scores(overlaps: list[Overlap]) -> Float[np.ndarray, "m n"]:
    """Gives the Dice of every scan and structure, NaN where there is none at all."""
    both, found, true = (
        np.stack([np.asarray(overlap[part], np.float64) for overlap in overlaps])
        for part in range(3)
    )
    total = found + true
    return np.where(total > 0, 2 * both / np.where(total > 0, total, 1), np.nan)


def make_overlap(
    graphdef: Any, task: Segmentation, *, view: tuple[int, int, int]
) -> Callable[..., Overlap]:
    """Compiles (params, batch_stats, volumes [s + 1, x, y, z]) -> `Overlap`."""

    @jax.jit
    def measure(
        params: Any, batch_stats: Any, volumes: UInt8[Array, "t x y z"]
    ) -> Overlap:
        call = partial(run, graphdef, params, batch_stats, train=False)
        _, x, y, z = volumes.shape
        logits = whole_logits(
            lambda views: call(views)[0].logits,
            case_view(volumes[:-1], (x, y, z)),
            size=view,
            overlap=OVERLAP,
        )
        parts = volumes[-1]
        known = (parts != UNKNOWN)[..., None]
        true, found = task.regions(parts) & known, task.decide(logits) & known
        ones = jnp.ones(1)
        return Overlap(
            *(_count(true & found), _count(found), _count(true)),
            task.loss(Segmented(logits[None]), parts[None], ones),
        )

    return measure


def _count(mask: Bool[Array, "x y z n"]) -> Float[Array, " n"]:
    return mask.sum(axis=(0, 1, 2)).astype(jnp.float32)
