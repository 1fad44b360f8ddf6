"""FLOPs: by hand, by XLA, and of the networks; peaks by the names of chips."""

import functools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from jax.sharding import PartitionSpec

from brainjax.configuration import load_config
from brainjax.models import make_encoder
from brainjax.models.convolution import convolve
from brainjax.models.pure import run, to_pure
from brainjax.train.flops import count_flops, model_flops
from brainjax.train.networks import Predictor
from brainjax.train.peak import CHIPS, find_peak, measure_product
from brainjax.train.pretrain import plan_pretraining
from tests.train.configs import CONFIGS


def shape(*sides: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sides, jnp.float32)


def test_products_are_twice_their_sides():
    assert count_flops(jnp.matmul, shape(3, 5), shape(5, 7)) == 2 * 3 * 5 * 7
    batched = count_flops(
        lambda a, b: jnp.einsum("bij,bkj->bik", a, b), shape(2, 3, 5), shape(2, 7, 5)
    )
    assert batched == 2 * 2 * 3 * 5 * 7


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_counts_as_its_plain_form(kernel, stride):
    # Here, on a CPU, it runs as 2D convolutions or products.
    found = count_flops(
        lambda cells, taps: convolve(cells, taps, stride=stride),
        shape(2, 8, 8, 8, 6),
        shape(kernel, kernel, kernel, 6, 10),
    )
    assert found == 2 * (2 * (8 // stride) ** 3 * 10) * (kernel**3 * 6)


def test_zeros_put_between_voxels_are_no_work():
    def spread(cells, taps):
        return jax.lax.conv_transpose(
            cells, taps, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    assert count_flops(spread, shape(1, 4, 4, 3), shape(2, 2, 3, 5)) == (
        2 * 16 * 2 * 2 * 3 * 5
    )


def branching(x):
    return jax.lax.cond(x[0, 0] > 0, lambda: x @ x, lambda: x @ x @ x)


def scanning(x):
    return jax.lax.scan(lambda carry, _: (carry @ carry, None), x, length=5)[0]


def sharding(x):
    split = PartitionSpec("data")
    return jax.shard_map(
        lambda rows: rows @ jnp.ones((4, 4)),
        mesh=jax.sharding.AbstractMesh((2,), ("data",)),
        in_specs=split,
        out_specs=split,
    )(x)


@pytest.mark.parametrize(
    ("function", "products"),
    [
        (jax.jit(lambda x: x @ x), 1),
        (jax.checkpoint(lambda x: x @ x), 1),
        (jax.nn.relu, 0),
        (lambda x: jax.vmap(jnp.dot)(jnp.stack([x, x]), jnp.stack([x, x])), 2),
        (branching, 2),
        (scanning, 5),
        (sharding, 1),
    ],
    ids=["jit", "remat", "custom jvp", "vmap", "cond", "scan", "shard_map"],
)
def test_what_is_inside_counts_as_often_as_it_runs(function, products):
    assert count_flops(function, shape(4, 4)) == products * 2 * 4**3


def test_a_loop_of_unknown_length_is_warned_of(caplog):
    def loop(x):
        return jax.lax.while_loop(lambda y: y[0, 0] < 9, lambda y: y @ y, x)

    assert count_flops(loop, shape(4, 4)) == 2 * 4**3
    assert "unknown length" in caplog.text


def test_fused_attention_counts_as_the_plain_one(monkeypatch):
    # Only its trace is needed, and no GPU for that.
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda wanted: True)
    query, key = (jax.ShapeDtypeStruct((2, n, 4, 64), jnp.bfloat16) for n in (32, 48))

    def attend(form):
        def call(query, key):
            return jax.nn.dot_product_attention(query, key, key, implementation=form)

        return count_flops(call, query, key)

    assert attend("cudnn") == attend("xla") == 2 * (2 * 2 * 4 * 32 * 48 * 64)


def planned(name: str, **words):
    """An encoder taken apart, without its numbers."""
    make = functools.partial(make_encoder, name=name, **words)
    return to_pure(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))


def test_a_small_network_counts_as_xla_counts_it():
    encoder = planned("vit", shape=32, patch=8, width=256, depth=1, heads=4)

    def forward(params, volumes):
        return run(encoder.graphdef, params, {}, volumes, train=True)[0].pooled

    arguments = encoder.params, shape(2, 32, 32, 32, 1)
    analysed = jax.jit(forward).lower(*arguments).compile().cost_analysis()
    ours = count_flops(forward, *arguments)
    # XLA counts norms, softmax and the like too.
    assert ours < analysed["flops"] < 1.05 * ours


def test_a_backward_pass_is_twice_the_forward_one():
    def forward(params, x):
        for weights in params:
            x = jnp.tanh(x @ weights)
        return x.sum()

    params = [shape(16, 16)] * 20
    once = count_flops(forward, params, shape(8, 16))
    # The first layer has no use for the slopes of its input.
    first = 2 * 8 * 16 * 16
    assert count_flops(jax.grad(forward), params, shape(8, 16)) == 3 * once - first


def test_vit_b_costs_what_the_design_says():
    config = load_config(CONFIGS / "pretrain_vit_b.py")
    blueprint = plan_pretraining(config)
    assert model_flops(blueprint, config.view, views=2) == pytest.approx(
        239e9, rel=0.01
    )


def test_recomputing_costs_no_model_flops():
    plain, again = (
        model_flops(
            plan_pretraining(
                load_config(
                    CONFIGS / "pretrain_vit_b.py", [f"--config.encoder.remat={remat}"]
                )
            ),
            (96, 96, 96),
        )
        for remat in ("none", "block")
    )
    assert plain == again


def test_a_frozen_encoder_has_no_backward_pass():
    encoder = {"name": "vit", "shape": 24, "patch": 12, "width": 24, "depth": 2}
    network = nnx.eval_shape(
        lambda: Predictor(
            encoder={**encoder, "heads": 3},
            head={},
            outputs=1,
            frozen=True,
            rngs=nnx.Rngs(0),
        )
    )
    pure = to_pure(network)
    state = {"params": pure.params, "batch_stats": pure.batch_stats}
    blueprint = SimpleNamespace(graphdef=pure.graphdef, abstract=state)
    head = 2 * 24
    whole = model_flops(blueprint, (24, 24, 24))
    assert model_flops(blueprint, (24, 24, 24), frozen=True) == (
        (whole - 3 * head) // 3 + 3 * head
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [("cnn", {"width": 8, "depth": 1}), ("segresnet", {"remat": "block"})],
)
def test_counting_leaves_the_fast_convolutions_alone(name, words):
    encoder = planned(name, shape=32, **words)
    arguments = encoder.params, encoder.batch_stats, shape(1, 32, 32, 32, 1)

    def forward(params, batch_stats, volumes):
        return run(encoder.graphdef, params, batch_stats, volumes, train=True)[0].pooled

    def traced() -> str:
        program = jax.make_jaxpr(lambda *given: forward(*given))(*arguments)
        return re.sub(r"0x[0-9a-f]+", "", str(program))

    before = traced()
    count_flops(forward, *arguments)
    assert traced() == before


def device(kind: str, platform: str = "gpu") -> SimpleNamespace:
    return SimpleNamespace(device_kind=kind, platform=platform)


@pytest.mark.parametrize(
    ("kind", "count", "tera", "name"),
    [
        ("NVIDIA H200", 1, 989, "989 TFLOP/s bf16, data sheet of NVIDIA H200"),
        ("NVIDIA H100 80GB HBM3", 8, 8 * 989, "8 x 989 TFLOP/s bf16, data sheet of"),
        ("NVIDIA H100 PCIe", 1, 756, "756"),
        ("NVIDIA A100-SXM4-80GB", 1, 312, "312"),
        ("NVIDIA L40S", 1, 362, "362"),
        ("NVIDIA L4", 1, 121, "121"),
        ("NVIDIA RTX A6000", 1, 155, "155"),
        ("Tesla V100-SXM2-16GB", 1, 125, "fp16, data sheet of NVIDIA Tesla V100"),
        ("TPU v4", 4, 4 * 275, "data sheet of TPU v4"),
        ("TPU v5 lite", 1, 197, "197"),
        ("TPU v5", 1, 459, "459"),
        ("TPU v6 lite", 1, 918, "918"),
    ],
)
def test_chips_are_known_by_their_names(kind, count, tera, name):
    peak = find_peak([device(kind)] * count)
    assert peak.flops == tera * 1e12
    assert name in peak.name


def test_every_row_of_the_table_is_reached():
    for words, (tera, _) in CHIPS.items():
        assert find_peak([device(words)]).flops == tera * 1e12


def test_other_chips_and_cpus_are_measured(monkeypatch):
    monkeypatch.setattr("brainjax.train.peak.measure_product", lambda number: 2e12)
    other = find_peak([device("NVIDIA L40")] * 2)
    assert other.flops == 4e12
    assert other.name == "2 x 2 TFLOP/s bfloat16, a matrix product measured here"
    # Simulated devices share one processor.
    processor = find_peak([device("cpu", "cpu")] * 8)
    assert processor.flops == 2e12
    assert processor.name == "2 TFLOP/s float32, a matrix product measured here"


def test_a_product_measured_here_is_fast():
    assert 1e9 < measure_product("float32", seconds=0.01) < 1e14
