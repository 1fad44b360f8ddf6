"""Compiles for an accelerator that is not there; needs jax[cuda12] or jax[cuda13].

The compiler is told what the chip is (XLA's target configuration) and compiles as it
would beside one, but for autotuning, which must time kernels: products are left to
cuBLAS. Memory is what the program would take; nothing can be run.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh

from brainjax.models.platforms import traced_for
from brainjax.parallel import AXES

FLAGS = "--xla_gpu_enable_triton_gemm=false --xla_gpu_autotune_level=0"
HBM = {"h100": (80, 3352), "h200": (141, 4800)}
"""Of the targets: GB, and GB/s."""


def target_mesh(name: str, data: int = 1, fsdp: int = 1) -> Mesh:
    """Gives the mesh of accelerators that are not there, eight to a machine.

    Raises SystemExit where jax has no compiler for them.
    """
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
    count = data * fsdp
    try:
        topology = topologies.get_topology_desc(
            platform="cuda",
            target_config=_configuration(name),
            topology=f"1x{-(-count // 8)}x{min(count, 8)}",
        )
    except Exception as error:
        raise SystemExit(
            f"{name}: wanted jax[cuda12] or jax[cuda13] installed, got: {error}"
        ) from None
    devices = np.array(topology.devices).reshape(data, fsdp)
    return Mesh(devices, AXES, axis_types=(AxisType.Auto,) * 2)


@contextmanager
def as_if_on(platform: str) -> Iterator[None]:
    """Lets what chooses by platform be traced as on another: "cpu", "cuda", "rocm"."""
    backend = "gpu" if platform in ("cuda", "rocm") else platform
    with (
        mock.patch.object(jax, "default_backend", return_value=backend),
        traced_for(platform),
    ):
        yield


def _configuration(name: str) -> str:
    size, speed = HBM[name]
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {speed}000000000 device_memory_size: {size}000000000
  l2_cache_size: 52428800 clock_rate_ghz: 1.98
  shared_memory_per_block_optin: 232448 cuda_compute_capability {{ major: 9 }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }}
device_description_str: "NVIDIA {name.upper()}"
"""
