"""The mesh, and what lies where on it.

There is always a mesh, even 1x1. Its axes are "data" (batches are split) and "fsdp"
(batches and parameters are split).
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from brainjax.errors import InputRefusedError

AXES = ("data", "fsdp")


def make_mesh(data: int = -1, fsdp: int = 1) -> Mesh:
    """Gives the mesh over all devices; -1 means as many as are left.

    Raises InputRefusedError when data x fsdp is not the number of devices.
    """
    devices = jax.device_count()
    sizes = {"data": data, "fsdp": fsdp}
    if any(n < 1 and n != -1 for n in sizes.values()) or data == fsdp == -1:
        raise InputRefusedError(
            f"mesh: wanted positive sizes, at most one of them -1, got {sizes}"
        )
    known = data * fsdp if -1 not in (data, fsdp) else max(data, fsdp)
    left = devices // known
    shape = tuple(left if n == -1 else n for n in sizes.values())
    if shape[0] * shape[1] != devices:
        raise InputRefusedError(
            f"mesh: data {data} x fsdp {fsdp} does not make {devices} devices"
        )
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
    """Gives the sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Gives the sharding of a batch: its first dimension over every device."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def shard_parameters(tree: Any, mesh: Mesh) -> Any:
    """Gives the sharding of every array (or ShapeDtypeStruct) of a tree, by its shape.

    The largest dimension that "fsdp" divides is split over it (the first of equals);
    an array without one is replicated.
    """
    return jax.tree.map(lambda leaf: _shard(leaf.shape, mesh), tree)


def _shard(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    parts = mesh.shape["fsdp"]
    fitting = [axis for axis, n in enumerate(shape) if n and n % parts == 0]
    if parts == 1 or not fitting:
        return replicated(mesh)
    largest = max(fitting, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[None] * largest, "fsdp"))


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """Puts a process's slice of a batch on its devices, as one global array per leaf.

    batch: tree of NumPy arrays [b / processes, ...]; gives jax arrays [b, ...] with
    `batch_sharding`. Raises InputRefusedError when the devices do not divide b.
    """
    sharding = batch_sharding(mesh)
    count = jax.process_count()

    def put(leaf: np.ndarray) -> jax.Array:
        size = leaf.shape[0] * count
        if size % mesh.size:
            raise InputRefusedError(
                f"batch: {mesh.size} devices do not divide a batch of {size}"
            )
        return jax.make_array_from_process_local_data(
            sharding, leaf, (size, *leaf.shape[1:])
        )

    return jax.tree.map(put, batch)


def start_processes(
    coordinator: str | None = None,
    *,
    processes: int | None = None,
    index: int | None = None,
) -> None:
    """Joins the processes of a run; call it before anything else uses jax.

    coordinator: "host:port" of process 0; None leaves all three to the cluster that
    jax finds (SLURM, Cloud TPU). A single-process run never calls this.
    """
    jax.distributed.initialize(coordinator, processes, index)
