"""The benchmarks' own arithmetic: what is read from a compiled program, and paper."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"

WIRE = """
import json
from functools import partial
import jax, jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P
import hlo

mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
part, whole = P("d"), P()

def ring(x):
    def hop(carry, _):
        return lax.ppermute(carry, "d", [(i, (i + 1) % 4) for i in range(4)]), None
    return lax.scan(hop, x, None, length=3)[0]

def nested(x):
    def add(carry, _):
        return carry + lax.psum(carry, "d"), None
    def often(carry, _):
        return lax.scan(add, carry, None, length=5)[0], None
    return lax.scan(often, x, None, length=2)[0]

programs = {
    "sum": (lambda x: lax.psum(x, "d"), whole),
    "ring": (ring, part),
    "gather": (lambda x: lax.all_gather(x, "d"), part),
    "scatter": (lambda x: lax.psum_scatter(x, "d", tiled=True), part),
    "nested": (nested, part),
}
found = {}
for name, (function, out) in programs.items():
    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=part, out_specs=out, check_vma=False
    )
    text = jax.jit(mapped).lower(jnp.ones((32, 16))).compile().as_text()
    traffic = hlo.traffic(hlo.Program(text), 4)
    found[name] = [[t.kind, t.times, t.group, t.total] for t in traffic]
print(json.dumps(found))
"""

HELP = """
import runpy, sys
for path in sys.argv[1:]:
    sys.argv = [path, "--help"]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        assert not end.code, (path, end.code)
    else:
        raise AssertionError(f"{path} knows no --help")
    assert not {"torch", "monai"} & set(sys.modules), path
"""

ASYNCHRONOUS = """HloModule m

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8]{0} get-tuple-element(%p), index=1
  %s = (f32[8]{0}, f32[32]{0}) all-gather-start(%x), replica_groups=[2,4]<=[8]
  %d = f32[32]{0} all-gather-done(%s)
  %one = s32[] constant(1)
  %j = s32[] add(%i, %one)
  ROOT %t = (s32[], f32[8]{0}) tuple(%j, %x)
}

%condition (p.1: (s32[], f32[8])) -> pred[] {
  %p.1 = (s32[], f32[8]{0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  %n = s32[] constant(7)
  ROOT %c = pred[] compare(%i.1, %n), direction=LT
}

%stack (a: bf16[12,64], b: bf16[1,64], k: s32[]) -> bf16[12,64] {
  %a = bf16[12,64]{1,0} parameter(0)
  %b = bf16[1,64]{1,0} parameter(1)
  %k = s32[] parameter(2)
  ROOT %u = bf16[12,64]{1,0} dynamic-update-slice(%a, %b, %k, %k)
}

ENTRY %main (q: (s32[], f32[8]), v: bf16[12,64], w: bf16[1,64]) -> bf16[12,64] {
  %q = (s32[], /*index=1*/f32[8]{0}) parameter(0)
  %v = bf16[12,64]{1,0:T(8,128)(2,1)} parameter(1)
  %w = bf16[1,64]{1,0} parameter(2)
  %zero = s32[] constant(0)
  %l = (s32[], f32[8]{0}) while(%q), condition=%condition, body=%body
  ROOT %f = bf16[12,64]{1,0} fusion(%v, %w, %zero), kind=kLoop, calls=%stack
}
"""


@pytest.fixture
def hlo(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import hlo

    return hlo


@pytest.fixture
def chips(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import chips

    return chips


def run(code: str, *arguments: str, **environment: str) -> str:
    """Runs code in a process of its own, the benchmarks importable."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={
            **os.environ,
            "PYTHONPATH": f"{BENCHMARKS}:{ROOT}",
            "JAX_PLATFORMS": "cpu",
            **environment,
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_wire_carries_what_is_known_to_be_sent():
    flag = "--xla_force_host_platform_device_count=4"
    found = json.loads(run(WIRE, XLA_FLAGS=flag))
    share = 32 * 16 * 4 / 4  # bytes of one device's rows
    assert found == {
        "sum": [["all-reduce", 1, 4, 2 * share * 3 / 4]],
        "ring": [["collective-permute", 3, 2, 3 * share]],
        "gather": [["all-gather", 1, 4, 3 * share]],
        "scatter": [["reduce-scatter", 1, 4, share * 3 / 4]],
        "nested": [["all-reduce", 10, 4, 10 * 2 * share * 3 / 4]],
    }


def test_an_asynchronous_pair_counts_once_and_a_loop_by_its_bound(hlo):
    (only,) = hlo.traffic(hlo.Program(ASYNCHRONOUS), 8)
    assert (only.kind, only.times, only.group) == ("all-gather", 7, 4)
    assert only.total == 7 * 3 * 32


def test_a_stack_moves_what_is_put_into_it(hlo):
    program = hlo.Program(ASYNCHRONOUS)
    (stored,) = [r for r in program.walk() if r.instruction.opcode == "fusion"]
    # The update is read and written, the index read.
    assert program.moved(stored) == 2 * 128 + 4


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("all-gather-start", "ragged-all-to-all", "no rule"),
        ("direction=LT", "direction=NE", "how often"),
        ("ENTRY", "", "ENTRY"),
    ],
)
def test_what_cannot_be_read_is_refused(hlo, before, after, message):
    with pytest.raises(ValueError, match=message):
        hlo.traffic(hlo.Program(ASYNCHRONOUS.replace(before, after)), 8)


@pytest.mark.parametrize("form", ["lowered", "compiled"])
def test_products_in_a_loop_count_as_often_as_it_runs(hlo, form):
    def function(x, w):
        return jax.lax.scan(lambda c, w: (jnp.tanh(c @ w), None), x, w)[0]

    shapes = (jax.ShapeDtypeStruct(s, jnp.float32) for s in [(16, 32), (3, 32, 32)])
    lowered = jax.jit(function).lower(*shapes)
    compiled = form == "compiled"
    text = lowered.compile().as_text() if compiled else lowered.as_text(dialect="hlo")
    running = [(hlo.product(r), r.times) for r in hlo.Program(text).walk()]
    flops = sum(found.flops * times for found, times in running if found)
    assert flops == 3 * 2 * 16 * 32 * 32


def test_fused_attention_counts_as_its_products(hlo):
    shape = "bf16[16,12,216,64]{3,2,1,0}"
    facts = '"intermediate_tensor_shape":{"dimensions": ["16", "12", "216", "216"]}'
    target = 'custom_call_target="__cudnn$fmhaSoftmax'
    call = f"({shape}, u8[0]{{0}}) custom-call(%q), {target}"
    text = f"""HloModule m

ENTRY %main (q: bf16[16,12,216,64]) -> bf16[16,12,216,64] {{
  %q = {shape} parameter(0)
  %a = {call}", {facts}
  %b = {call}Backward", {facts}
  ROOT %o = {shape} get-tuple-element(%b), index=0
}}
"""
    running = list(hlo.Program(text).walk())
    found = {r.instruction.name: hlo.product(r) for r in running}
    once = 2 * 16 * 12 * 216 * 216 * 64
    assert found["q"] is None
    assert (found["a"].flops, found["b"].flops) == (2 * once, 5 * once)


def test_the_paper_of_the_wire(chips):
    assert chips.gradient_bytes(1000, 1, 1) == 0
    assert chips.gradient_bytes(1000, 4, 1) == 2 * 4000 * 3 / 4
    # Gathered, and summed.
    assert chips.gradient_bytes(1000, 1, 4) == 3 * 4000 * 3 / 4
    gather, ring = (chips.loss_bytes(f, 64, 8, 128) for f in ("gather", "ring"))
    assert gather == 7 * 2 * 64 * 128 * 4
    assert ring == 2 * gather


def test_the_wire_of_a_pod_is_slower_beyond_a_machine(chips):
    near, far = (chips.wire_seconds(1e9, n, "h200") for n in (8, 16))
    assert near == 1e9 / 450e9
    assert far == near + 1e9 / 8 / 50e9
    assert chips.wire_seconds(1e9, 16, "h200", ring=True) == near + 1e9 / 50e9


def test_every_benchmark_says_what_it_does_without_torch():
    # The other halves of peers and what several share have no command line.
    scripts = [
        str(path)
        for path in sorted(BENCHMARKS.glob("*.py"))
        if "ArgumentParser(" in path.read_text()
    ]
    shown = run(HELP, *scripts)
    assert shown.count("usage:") == len(scripts) > 5
