"""What the makers state of their chips, for the arithmetic on paper.

Sources: NVIDIA's data sheets of H100 SXM and H200 SXM (dense bf16, HBM, NVLink 900 GB/s
both ways) and of its DGX systems (one 400 Gb/s InfiniBand adapter a GPU); Google
Cloud's pages on TPU v5e, v5p and v6e (docs.cloud.google.com/tpu/docs/v6e and so on).
One way is half of what is stated for both.
"""

from typing import NamedTuple

GIGA, TERA = 1e9, 1e12


class Chip(NamedTuple):
    """Of one chip: FLOP/s in dense bf16, bytes of HBM, bytes/s each way.

    wire: to its neighbours in a domain of `domain` chips; far: beyond it.
    """

    flops: float
    memory: float
    memory_speed: float
    wire: float
    domain: int
    far: float


CHIPS = {
    "h100": Chip(989e12, 80 * GIGA, 3.35 * TERA, 450 * GIGA, 8, 50 * GIGA),
    "h200": Chip(989e12, 141 * GIGA, 4.8 * TERA, 450 * GIGA, 8, 50 * GIGA),
    # A torus: all links of a chip together, one way. Beyond it, the hosts' network.
    "v5e": Chip(197e12, 16 * GIGA, 0.819 * TERA, 200 * GIGA, 256, 3.1 * GIGA),
    "v5p": Chip(459e12, 95 * GIGA, 2.765 * TERA, 600 * GIGA, 8960, 6.2 * GIGA),
    "v6e": Chip(918e12, 32 * GIGA, 1.638 * TERA, 400 * GIGA, 256, 12.5 * GIGA),
}
