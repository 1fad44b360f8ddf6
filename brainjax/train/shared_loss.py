"""Losses that are the same function share a compiled program, whatever their task."""

import hashlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from brainjax.tasks import Task


class SharedLoss:
    """A task's loss, equal to another that is the same function of the outputs.

    A new draw of labels gives a task another mean and spread, which its loss on
    z-scores never sees. What is compared is the loss as traced, constants included.
    """

    def __init__(self, task: Task, targets: np.ndarray, weights: np.ndarray):
        self._task = task
        outputs = jax.ShapeDtypeStruct((len(weights), task.outputs), jnp.float32)
        traced = jax.make_jaxpr(lambda *given: task.loss(*given))(
            outputs, targets, weights
        )
        # Where a function lies in memory says nothing about what it does.
        text = re.sub(r" at 0x[0-9a-f]+", "", str(traced))
        digest = hashlib.sha256(text.encode())
        for constant in _constants(traced):
            digest.update(np.asarray(constant).tobytes())
        self.digest = digest.hexdigest()

    def __call__(self, *given: Any) -> Any:
        return self._task.loss(*given)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedLoss) and self.digest == other.digest


def _constants(traced: Any) -> list[Any]:
    """Gives every number and array written into a program, in order."""
    if isinstance(traced, ClosedJaxpr):
        return [*traced.consts, *_constants(traced.jaxpr)]
    if isinstance(traced, Jaxpr):
        found = []
        for equation in traced.eqns:
            found += [v.val for v in equation.invars if isinstance(v, Literal)]
            found += _constants(list(equation.params.values()))
        return found
    if isinstance(traced, list | tuple):
        return [constant for item in traced for constant in _constants(item)]
    return []
