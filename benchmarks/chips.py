"""What the makers state of their chips, and the arithmetic of the wire on paper.

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


def gradient_bytes(parameters: float, data: int, fsdp: int) -> float:
    """Gives on paper what a device sends for the parameters in a step, in float32.

    Parameters split over fsdp are gathered once; gradients are summed over all devices,
    by an all-reduce of which each keeps its part.
    """
    size, devices = 4 * parameters, data * fsdp
    return size * (fsdp - 1) / fsdp + 2 * size * (devices - 1) / devices


def loss_bytes(form: str, scans: int, devices: int, width: int) -> float:
    """Gives on paper what a device sends for the loss in a step, in float32.

    scans: of one device. Gather: both views' embeddings go to all others, once; their
    gradients are found where the embeddings are. Ring: a block goes round, once forward
    and once backward.
    """
    share = 2 * scans * width * 4
    passes = {"gather": 1, "ring": 2}[form]
    return passes * share * (devices - 1)


def wire_seconds(sent: float, devices: int, chip: str, *, ring: bool = False) -> float:
    """Gives how long a device takes to send bytes to the others of a pod.

    Within a domain of chips at the near speed. Beyond it, the chips of a domain share
    the work: of what goes round a whole pod each sends 1/domain; of a ring of
    neighbours, the chip at the domain's edge sends all.
    """
    c = CHIPS[chip]
    if devices <= c.domain:
        return sent / c.wire
    far = sent if ring else sent / c.domain
    return sent / c.wire + far / c.far
