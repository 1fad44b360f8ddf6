"""The mesh, what lies where on it, and the processes that share it.

There is always a mesh, even 1x1. Its axes are "data" (batches are split) and "fsdp"
(batches and parameters are split). Of several processes each runs the same program on
devices of its own; process 0 is the one that writes.
"""

import json
import re
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from brainjax.errors import InputRefusedError

T = TypeVar("T")

AXES = ("data", "fsdp")

HEARTBEAT_SECONDS = 60
"""After so long without a sign of life a process counts as lost."""
MEETING_SECONDS = 300
"""So long the processes wait for each other at the start."""
PARTING_SECONDS = 3600
"""So long they wait at the end, while process 0 writes what sums up the run."""


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
    kinds = (AxisType.Auto,) * 2
    mesh = jax.make_mesh(shape, AXES, axis_types=kinds)
    owners = [device.process_index for device in mesh.devices.flat]
    if owners == sorted(owners):
        return mesh
    # A process reads its slots of a batch as one slice, so its devices lie together.
    ordered = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    return Mesh(np.array(ordered).reshape(shape), AXES, axis_types=kinds)


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
    heartbeat: int = HEARTBEAT_SECONDS,
    patience: int = MEETING_SECONDS,
) -> None:
    """Joins the processes of a run; call it before anything else uses jax.

    A single-process run never calls this. jax aborts the process when another is lost,
    and when the others do not come; the command line makes one line of that.

    Args:
      coordinator: "host:port" of process 0; None leaves all three to the cluster that
        jax finds (Cloud TPU, SLURM, Open MPI, Kubernetes).
      processes: how many there are.
      index: which of them this is, from 0.
      heartbeat: seconds after which a silent process counts as lost.
      patience: seconds to wait for the others.

    Raises:
      InputRefusedError: only some of the three are given, the coordinator cannot be
        reached, its port is taken, or there is no cluster that jax knows.
    """
    given = (coordinator, processes, index)
    if given != (None, None, None):
        coordinator = _check_start(coordinator, processes, index)
        if index:
            _reach(coordinator, patience)
    try:
        jax.distributed.initialize(
            *given,
            cluster_detection_method="deactivate" if coordinator else None,
            initialization_timeout=patience,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=PARTING_SECONDS,
        )
    except ValueError as error:
        raise InputRefusedError(
            "processes: wanted a cluster that jax knows (Cloud TPU, SLURM, Open MPI, "
            f"Kubernetes) or coordinator, processes and index, got neither ({error})"
        ) from None
    except jax.errors.JaxRuntimeError as error:
        if "Failed to start RPC server" not in str(error):
            raise
        raise InputRefusedError(
            f"coordinator {coordinator}: wanted a free port on this machine, got one "
            "that cannot be opened"
        ) from None


def _check_start(
    coordinator: str | None, processes: int | None, index: int | None
) -> str:
    if coordinator is None or processes is None or index is None:
        raise InputRefusedError(
            "processes: wanted coordinator, processes and index together, got "
            f"coordinator {coordinator}, processes {processes}, index {index}"
        )
    if not re.fullmatch(r".+:\d+", coordinator):
        raise InputRefusedError(f"coordinator: wanted host:port, got {coordinator}")
    if not 0 <= index < processes:
        raise InputRefusedError(
            f"process index: wanted 0 to {processes - 1}, got {index}"
        )
    return coordinator


def _reach(coordinator: str, patience: int) -> None:
    """Waits until something listens there: jax would abort where nothing does."""
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except (OSError, OverflowError) as error:
            if time.monotonic() > deadline or isinstance(error, OverflowError):
                raise InputRefusedError(
                    f"coordinator {coordinator}: wanted process 0 to answer within "
                    f"{patience} s, got {error}"
                ) from None
        time.sleep(0.2)


def is_first() -> bool:
    """Whether this is process 0, which writes for all."""
    return jax.process_index() == 0


def gather(value: Any) -> list[Any]:
    """Gives a JSON value of every process, by process; all must call it, in turn.

    Meant for a few kB: every process gets all of them.
    """
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(text)))
    # One length of all, a power of two: few programs are compiled.
    row = np.zeros(1 << int(sizes.max() - 1).bit_length(), np.uint8)
    row[: len(text)] = text
    rows = multihost_utils.process_allgather(row)
    return [
        json.loads(bytes(row[:size])) for row, size in zip(rows, sizes, strict=True)
    ]


def first_does(action: Callable[[], T]) -> T:
    """Runs an action on process 0 and gives its JSON value to all of them.

    Nobody goes on before it is done. An error of process 0 is raised by every process:
    a refusal as it is, anything else as a RuntimeError on the others.
    """
    if jax.process_count() == 1:
        return action()
    outcome: dict[str, Any] = {}
    caught: Exception | None = None
    if is_first():
        try:
            outcome = {"value": action()}
        except InputRefusedError as error:
            outcome, caught = {"refused": str(error)}, error
        except Exception as error:
            outcome, caught = {"failed": f"{type(error).__name__}: {error}"}, error
    outcome = gather(outcome)[0]
    if caught is not None:
        raise caught
    if "refused" in outcome:
        raise InputRefusedError(outcome["refused"])
    if "failed" in outcome:
        raise RuntimeError(f"process 0 failed: {outcome['failed']}")
    return outcome["value"]


def agreed_to_stop(step: int) -> bool:
    """Whether all of several processes stop after this step; ask at every step.

    When SIGTERM has reached any of them, jax has all agree on a step that none is past.
    """
    return multihost_utils.reached_preemption_sync_point(step)
