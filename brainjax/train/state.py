"""The state of a run: one pure dict, built sharded, stepped by one jitted function.

`{"params", "batch_stats", "opt", "step", "skipped", "skipped_in_a_row"}`; the last
three are int32 scalars. The network's structure lives beside it, in a graph definition.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from brainjax.models.pure import to_pure
from brainjax.optim import Optimizer
from brainjax.parallel import shard_parameters

State = dict[str, Any]


class Blueprint(NamedTuple):
    """What a state looks like before it exists: structure, shapes and places."""

    graphdef: Any
    abstract: State
    shardings: State
    initialise: Callable[[], State]
    optimizer: Optimizer
    mesh: jax.sharding.Mesh


def make_blueprint(
    make_network: Callable[..., nnx.Module],
    optimizer: Optimizer,
    mesh: jax.sharding.Mesh,
    *,
    seed: int,
) -> Blueprint:
    """Plans a state without allocating it.

    Args:
      make_network: builds the network from its `seed`.
      optimizer: how parameters move.
      mesh: where the state will live; arrays are sharded by their shape.
      seed: of the parameters.
    """
    planned = to_pure(nnx.eval_shape(partial(make_network, seed=0)))

    def initialise(seed: Array) -> State:
        network = to_pure(make_network(seed=seed))
        counter = jnp.zeros((), jnp.int32)
        return {
            "params": network.params,
            "batch_stats": network.batch_stats,
            "opt": optimizer.transform.init(network.params),
            "step": counter,
            "skipped": counter,
            "skipped_in_a_row": counter,
        }

    # An argument, so that runs that differ in their seed share a compiled program.
    given = np.uint32(seed)
    shapes = jax.eval_shape(initialise, given)
    shardings = shard_parameters(shapes, mesh)
    abstract = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=place
        ),
        shapes,
        shardings,
    )
    sharded = jax.jit(initialise, out_shardings=shardings)
    start = partial(sharded, given)
    return Blueprint(planned.graphdef, abstract, shardings, start, optimizer, mesh)
