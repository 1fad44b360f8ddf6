"""PyTorch's side of `benchmarks/convolution.py`; runs under another interpreter.

python convolution_peer.py SIZE BATCH  Takes commands as `common.serve` does: depth,
memory ("default" or "channels_last"), backward; gives the seconds that the pass of
MONAI's ResNet took. Needs torch and monai, which brainjax never needs.
"""

import functools
import importlib
import sys
import time

from common import serve

torch = importlib.import_module("torch")


@functools.cache
def network(depth: int, memory: str):
    """Gives MONAI's ResNet without its last layer, its stem of stride 2."""
    nets = importlib.import_module("monai.networks.nets")
    made = getattr(nets, f"resnet{depth}")(
        spatial_dims=3, n_input_channels=1, conv1_t_stride=2, feed_forward=False
    )
    if memory == "channels_last":
        made = made.to(memory_format=torch.channels_last_3d)
    return made


def seconds(volumes, depth: int, memory: str, backward: bool) -> float:
    """Gives how long one pass takes, the volumes in memory."""
    made = network(depth, memory).train(backward)
    if memory == "channels_last":
        volumes = volumes.contiguous(memory_format=torch.channels_last_3d)
    made.zero_grad()
    start = time.perf_counter()
    with torch.set_grad_enabled(backward):
        found = made(volumes)
        if backward:
            found.square().sum().backward()
    return time.perf_counter() - start


def main() -> None:
    """Serves commands until standard input ends."""
    size, batch = map(int, sys.argv[1:])
    torch.set_num_threads(2)
    volumes = torch.randn(batch, 1, size, size, size)

    def answer(**command) -> dict[str, float]:
        return {"seconds": seconds(volumes, **command)}

    serve({"torch": torch.__version__}, answer)


if __name__ == "__main__":
    main()
