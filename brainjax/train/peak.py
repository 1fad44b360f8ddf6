"""The peak that a share of it (MFU) is measured against, and where it comes from."""

import re
import time
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

TERA = 1e12

CHIPS = {
    "B200": (2250, "bf16"),
    "H200": (989, "bf16"),
    "GH200": (989, "bf16"),
    "H100 PCIe": (756, "bf16"),
    "H100 NVL": (835, "bf16"),
    "H100": (989, "bf16"),
    "A100": (312, "bf16"),
    "L40S": (362, "bf16"),
    "L4": (121, "bf16"),
    "A6000": (155, "bf16"),
    "V100": (125, "fp16"),
    "T4": (65, "fp16"),
    "TPU v6 lite": (918, "bf16"),
    "TPU v6e": (918, "bf16"),
    "TPU v5 lite": (197, "bf16"),
    "TPU v5e": (197, "bf16"),
    "TPU v5p": (459, "bf16"),
    "TPU v5": (459, "bf16"),
    "TPU v4": (275, "bf16"),
}
"""Dense TFLOP/s of a chip with float32 sums, by words of jax's `device_kind`.

From the data sheets of NVIDIA (a half of what they state with sparsity) and from the
pages of Google Cloud on its TPUs. The first that fits counts.
"""


class Peak(NamedTuple):
    """FLOP/s of all devices together, and what they are in words."""

    flops: float
    name: str


def find_peak(devices: Sequence[Any]) -> Peak:
    """Gives the peak of devices of one kind: a data sheet's, or one measured here.

    Measured, it is a matrix product: in float32 on a CPU, whose devices are one
    processor, and in bfloat16 on a chip that `CHIPS` does not know.
    """
    kind, count = devices[0].device_kind, len(devices)
    for words, (tera, number) in CHIPS.items():
        if re.search(rf"\b{re.escape(words)}\b", kind):
            text = f"{tera} TFLOP/s {number}, data sheet of {_maker(kind)}"
            return Peak(count * tera * TERA, _times(count, text))
    if devices[0].platform == "cpu":
        count, number = jax.process_count(), "float32"
    else:
        number = "bfloat16"
    flops = measure_product(number)
    text = f"{flops / TERA:.3g} TFLOP/s {number}, a matrix product measured here"
    return Peak(count * flops, _times(count, text))


def _maker(kind: str) -> str:
    """The chip by its maker's name: "Tesla T4" is NVIDIA's, as all such are."""
    return kind if kind.startswith(("NVIDIA", "TPU")) else f"NVIDIA {kind}"


def _times(count: int, text: str) -> str:
    return text if count == 1 else f"{count} x {text}"


@cache
def measure_product(number: str, *, seconds: float = 0.15) -> float:
    """Measures FLOP/s of a square matrix product on one device, at its best.

    Args:
      number: type of the matrices.
      seconds: how long to go on.
    """
    side = 1024 if number == "float32" else 8192
    matrix = jax.device_put(jnp.ones((side, side), number), jax.local_devices()[0])
    multiply = jax.jit(jnp.matmul)
    multiply(matrix, matrix).block_until_ready()
    best, until = float("inf"), time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        multiply(matrix, matrix).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best
