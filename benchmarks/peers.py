"""The SimCLR training step beside PyTorch and MONAI, in one run.

python benchmarks/peers.py --peer-python ../monai-venv/bin/python
python benchmarks/peers.py --device gpu --peer-python ...
python benchmarks/peers.py --peer-sides eager:float32 compile:bfloat16 ...

All sides do the same work on the same views: forward of both views in one call,
projector, NT-Xent, backward, clipping, AdamW. PyTorch's is MONAI's ViT of the same size
under the same projector; its bfloat16 is autocast. `step.py` says how sides are
measured and what its options mean; the first side is what the others are compared with.
"""

import argparse
import json
import os
from collections.abc import Callable

from common import Peer, by_device, start
from step import ours, report_on, settle, step_arguments


def theirs(options: argparse.Namespace) -> dict[str, Callable[[], Peer]]:
    """Gives what starts the process of each of the peers' sides."""

    def begin(side: str) -> Peer:
        form, dtype = side.split(":")
        shared = {"batch": options.batch, "device": options.device}
        words = {"form": form, "dtype": dtype, "size": options.size, **shared}
        return Peer(options.peer_python, "peers_torch.py", json.dumps(words))

    return {f"PyTorch {s}": lambda s=s: begin(s) for s in options.peer_sides}


def main() -> None:
    """Measures, prints a table, writes JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    step_arguments(parser)
    parser.add_argument("--peer-sides", nargs="+", help="eager|compile:DTYPE")
    options = start(parser)
    settle(options)
    by_device(
        options,
        {"peer_sides": ["eager:float32", "eager:bfloat16"]},
        {"peer_sides": ["eager:bfloat16", "compile:bfloat16"]},
    )
    if not options.peer_python:
        raise SystemExit("--peer-python: wanted an interpreter with torch and monai")
    if options.views != "given":
        raise SystemExit("--views: wanted given, which peers start from")
    report_on(ours(options) | theirs(options), options)


if __name__ == "__main__":
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    main()
