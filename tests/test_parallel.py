"""Meshes, and what lies where; on four simulated devices in one other process."""

import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from brainjax.errors import InputRefusedError
from brainjax.parallel import make_mesh, put_batch, shard_parameters


def test_one_device_still_has_a_mesh():
    mesh = make_mesh()
    assert dict(mesh.shape) == {"data": jax.device_count(), "fsdp": 1}
    assert mesh.axis_types == (AxisType.Auto, AxisType.Auto)
    placed = put_batch({"x": np.arange(4)}, mesh)
    np.testing.assert_array_equal(placed["x"], np.arange(4))


@pytest.mark.parametrize(
    ("data", "fsdp", "message"),
    [
        (7, 3, "data 7 x fsdp 3 does not make 1 devices"),
        (-1, 5, "data -1 x fsdp 5 does not make 1 devices"),
        (-1, -1, "at most one of them -1"),
        (0, 1, "positive sizes"),
        (-2, 1, "positive sizes"),
    ],
)
def test_an_impossible_mesh_shows_the_numbers(data, fsdp, message):
    with pytest.raises(InputRefusedError, match=message):
        make_mesh(data, fsdp)


FOUR = """
import jax, numpy as np
from jax.sharding import PartitionSpec as P
from brainjax.errors import InputRefusedError
from brainjax.parallel import *
from brainjax.parallel import batch_sharding

assert dict(make_mesh().shape) == {"data": 4, "fsdp": 1}
assert dict(make_mesh(fsdp=4).shape) == {"data": 1, "fsdp": 4}
assert dict(make_mesh(data=2, fsdp=-1).shape) == {"data": 2, "fsdp": 2}
mesh = make_mesh(fsdp=2)

tree = {"kernel": (3, 8, 6), "equal": (4, 4), "odd": (3, 5), "step": (), "bias": (2,)}
shapes = {k: jax.ShapeDtypeStruct(s, np.float32) for k, s in tree.items()}
got = {k: s.spec for k, s in shard_parameters(shapes, mesh).items()}
assert got == {
    "kernel": P(None, "fsdp"), "equal": P("fsdp"), "odd": P(), "step": P(),
    "bias": P("fsdp")}, got
assert all(s.spec == P() for s in shard_parameters(shapes, make_mesh()).values())

x = np.arange(8 * 3, dtype=np.float32).reshape(8, 3)
placed = put_batch({"x": x}, mesh)["x"]
assert placed.sharding == batch_sharding(mesh)
assert {s.data.shape for s in placed.addressable_shards} == {(2, 3)}
assert np.array_equal(placed, x)
w = jax.device_put(np.ones((3, 4), np.float32), shard_parameters(np.ones((3, 4)), mesh))
assert len({str(s.index) for s in w.addressable_shards}) == 2
y = jax.jit(lambda a, b: a @ b, out_shardings=replicated(mesh))(placed, w)
assert np.array_equal(y, x @ np.ones((3, 4)))
try:
    put_batch({"x": x[:6]}, mesh)
except InputRefusedError as error:
    assert "4 devices do not divide a batch of 6" in str(error)
else:
    raise AssertionError("a batch of 6 on 4 devices went through")
print("all hold")
"""


def test_four_devices():
    flags = "--xla_force_host_platform_device_count=4"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-c", FOUR],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "all hold", done.stderr


def test_parameters_of_one_device_are_replicated():
    specs = shard_parameters({"a": np.ones((4, 4)), "b": np.ones(())}, make_mesh())
    assert all(s.spec == PartitionSpec() for s in specs.values())


TWO = """
import sys, jax, numpy as np
from brainjax.parallel import make_mesh, put_batch, replicated, start_processes
index = int(sys.argv[2])
start_processes(sys.argv[1], processes=2, index=index)
mesh = make_mesh()
assert dict(mesh.shape) == {"data": 2, "fsdp": 1}
mine = np.arange(8, dtype=np.float32).reshape(4, 2)[2 * index : 2 * index + 2]
batch = put_batch({"x": mine}, mesh)["x"]
assert batch.shape == (4, 2)
weights = np.arange(4, dtype=np.float32)
total = jax.jit(lambda x: (x.T @ weights).sum(), out_shardings=replicated(mesh))(batch)
print("total", float(total))
"""


@pytest.mark.slow
def test_two_processes_make_one_batch():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    # One device per process: two can deadlock in gloo.
    flags = "--xla_force_host_platform_device_count=1"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, address, str(index)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    wanted = np.arange(8).reshape(4, 2).T @ np.arange(4)
    for output in outputs:
        assert f"total {float(wanted.sum())}" in output, output
