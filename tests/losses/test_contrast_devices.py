"""The sharded forms of the contrastive loss on 1, 2, 4 and 8 simulated devices."""

import os
import subprocess
import sys

import pytest

PRELUDE = """
from functools import partial
import chex, jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from brainjax.losses import contrast, ntxent, contrastive_metrics

AXES = ("data", "fsdp")

def mesh_of(data, fsdp):
    devices = np.array(jax.devices()[:data * fsdp]).reshape(data, fsdp)
    return Mesh(devices, AXES, axis_types=(AxisType.Auto,) * 2)

def descend(mesh, form, **choices):
    @jax.jit
    def run(first, second, subjects):
        loss = lambda *e: contrast(*e, subjects, form=form, mesh=mesh, **choices)
        return jax.value_and_grad(loss, (0, 1), has_aux=True)(first, second)
    return run
"""

EQUAL = (
    PRELUDE
    + """
from itertools import product
jax.config.update("jax_enable_x64", True)
N, D = 16, 6
rng = np.random.default_rng(0)
first, second = rng.normal(size=(2, N, D))
ids = {
    "distinct": np.arange(N),
    "some": rng.integers(0, 5, N),
    "a device of one subject": np.r_[np.full(N // 2, 3), np.arange(10, 10 + N // 2)],
    "one subject": np.full(N, 7),
}
zeros = np.where(np.arange(N)[:, None] % 5, first, 0)
CASES = [(first, second, i) for i in ids.values()]
CASES += [(first, first, ids["some"]), (zeros, second, ids["some"])]
CASES = [(a, b, i.astype(np.int32)) for a, b, i in CASES]

def twin(case, negatives):
    first, second, subjects = map(jnp.asarray, case)
    loss = lambda *e: ntxent(*e, subjects, temperature=0.01, negatives=negatives)
    value, slopes = jax.value_and_grad(loss, (0, 1))(first, second)
    metrics = contrastive_metrics(first, second, subjects, negatives=negatives)
    return (value, metrics), slopes

KINDS = ("between", "within")
WANT = {kind: [twin(case, kind) for case in CASES] for kind in KINDS}
# No rivals, no loss, and no slope: of one subject, and of as many as there are rows.
for kind, k in (("between", 3), ("within", 0)):
    assert WANT[kind][k][0][0] == 0 and not np.any(WANT[kind][k][1])

def check(run, sharding, dtype, kind):
    tolerance = 1e-9 if dtype == np.float64 else 5e-4
    for case, want in zip(CASES, WANT[kind]):
        case = [a if a.dtype == np.int32 else a.astype(dtype) for a in case]
        got = run(*(case if sharding is None else jax.device_put(case, sharding)))
        assert got[0][0].dtype == dtype and got[1][0].dtype == dtype
        if sharding is not None:
            assert got[1][0].sharding.is_equivalent_to(sharding, 2)
        chex.assert_trees_all_close(got, want, rtol=tolerance, atol=tolerance)
        if want[0][0] == 0:
            chex.assert_trees_all_equal(got[1], want[1])

FORMS = ("gather", "ring")
TYPES = [("between", np.float64), ("within", np.float64), ("between", np.float32)]
TABLE = [*product([(1, 1), (2, 1), (2, 2), (4, 2)], FORMS, TYPES)]
TABLE += product([(8, 1), (1, 8), (2, 4)], FORMS[1:], TYPES[:1])
TABLE += product([None], ("blocks",), TYPES)
for shape, form, (kind, dtype) in TABLE:
    mesh = shape and mesh_of(*shape)
    run = descend(mesh, form, temperature=0.01, negatives=kind, block=3)
    check(run, mesh and NamedSharding(mesh, P(AXES)), dtype, kind)
print("all hold")
"""
)

COMPOSED = (
    PRELUDE
    + """
# As in the training step: parameters sharded over "fsdp", rows over both axes, and the
# loss one part of a larger differentiated program.
rng = np.random.default_rng(1)
scans = rng.normal(size=(32, 12)).astype(np.float32)
params = {"a": rng.normal(size=(12, 8)), "b": rng.normal(size=(8, 4))}
params = jax.tree.map(np.float32, params)
ids = rng.integers(0, 9, 32).astype(np.int32)

def step(form, mesh):
    def loss(params, scans, ids):
        views = jnp.concatenate([scans, jnp.sin(3 * scans)])
        hidden = jax.nn.gelu(views @ params["a"])
        first, second = jnp.split(hidden @ params["b"], 2)
        loss, metrics = contrast(first, second, ids, form=form, mesh=mesh, block=8)
        return loss + 1e-3 * sum(jnp.sum(p**2) for p in params.values()), metrics
    return jax.value_and_grad(loss, has_aux=True)

want = jax.jit(step("plain", None))(params, scans, ids)
for shape in ((2, 4), (8, 1), (4, 2)):
    mesh = mesh_of(*shape)
    weights = {"a": P("fsdp") if 12 % shape[1] == 0 else P(), "b": P("fsdp")}
    place = lambda spec: NamedSharding(mesh, spec)
    inputs = (jax.tree.map(place, weights), place(P(AXES)), place(P(AXES)))
    placed = jax.device_put((params, scans, ids), inputs)
    for form in ("gather", "ring"):
        run = jax.jit(step(form, mesh), out_shardings=(place(P()), inputs[0]))
        chex.assert_trees_all_close(run(*placed), want, rtol=2e-5, atol=2e-6)

# What a device holds for 128 pairs of its own: a ring of 8 takes what one of 4 does.
def held(form, devices, pairs=128, block=64):
    mesh = mesh_of(devices // 2, 2)
    rows = NamedSharding(mesh, P(AXES))
    n = pairs * devices
    embeddings = jax.ShapeDtypeStruct((n, 16), np.float32, sharding=rows)
    subjects = jax.ShapeDtypeStruct((n,), np.int32, sharding=rows)
    run = descend(mesh, form, block=block).lower(embeddings, embeddings, subjects)
    run = run.compile()
    text = run.as_text()
    for rows in (2 * pairs, 2 * n):
        assert f"f32[{rows},{2 * n}]" not in text
    return run.memory_analysis().temp_size_in_bytes

ring, gather = ([held(form, k) for k in (4, 8)] for form in ("ring", "gather"))
assert ring[1] < 1.05 * ring[0], ring
assert gather[1] > 1.2 * gather[0], gather
print("all hold")
"""
)


def on_eight_devices(program: str) -> None:
    flags = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.strip() == "all hold", done.stderr


def test_every_form_equals_the_plain_twin():
    on_eight_devices(EQUAL)


@pytest.mark.slow
def test_inside_a_sharded_step_and_memory_of_a_ring():
    on_eight_devices(COMPOSED)
