"""MONAI's side of `benchmarks/augment.py`; runs under another interpreter.

python augment_peer.py VOLUME.npy CORES  Takes commands as `common.serve` does: name (of
an operation, or "chain"), form, views; gives the seconds. Form is "one" (one process, a
thread a core) or "many" (a process a core, one thread each). Needs torch and monai,
which brainjax itself never needs.
"""

import importlib
import multiprocessing
import sys
import time

import numpy as np
from common import serve


def operations() -> dict:
    """Gives MONAI's operations at p = 1, with the strengths of our chain."""
    transforms = importlib.import_module("monai.transforms")
    sigma = (0.05, 1.0)
    found = {
        "affine": transforms.RandAffine(
            prob=1,
            rotate_range=(np.deg2rad(10),) * 3,
            scale_range=(0.07,) * 3,
            translate_range=(0.03 * 96,) * 3,
            mode="bilinear",
            padding_mode="zeros",
        ),
        "bias": transforms.RandBiasField(prob=1, degree=3, coeff_range=(-0.1, 0.1)),
        "gamma": transforms.RandAdjustContrast(prob=1, gamma=(0.74, 1.35)),
        "blur": transforms.RandGaussianSmooth(
            prob=1, sigma_x=sigma, sigma_y=sigma, sigma_z=sigma
        ),
        "noise": transforms.RandGaussianNoise(prob=1, mean=0.0, std=0.05),
    }
    return found | {"chain": transforms.Compose(list(found.values()))}


def work(volume: np.ndarray, threads: int, inbox, outbox) -> None:
    """Makes one view for each name in the inbox, and says when it is done."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    known, tensor = operations(), torch.from_numpy(volume)[None]
    for name in iter(inbox.get, None):
        known[name](tensor)
        outbox.put(1)


class Pool:
    """A few processes that share the views asked for."""

    def __init__(self, volume: np.ndarray, processes: int, threads: int):
        context = multiprocessing.get_context("spawn")
        self.inbox, self.outbox = context.Queue(), context.Queue()
        self.processes = [
            context.Process(
                target=work,
                args=(volume, threads, self.inbox, self.outbox),
                daemon=True,
            )
            for _ in range(processes)
        ]
        for process in self.processes:
            process.start()

    def seconds(self, name: str, views: int) -> float:
        """Gives how long the processes take for `views`, the volume in memory."""
        # Single views, so that no process waits for a slower one.
        start = time.perf_counter()
        for _ in range(views):
            self.inbox.put(name)
        for _ in range(views):
            self.outbox.get()
        return time.perf_counter() - start


def main() -> None:
    """Serves commands until standard input ends."""
    path, cores = sys.argv[1], int(sys.argv[2])
    volume = np.load(path)
    pools = {"one": Pool(volume, 1, cores), "many": Pool(volume, cores, 1)}
    for pool in pools.values():
        pool.seconds("chain", 3 * cores)  # Imports, first allocations.

    def answer(name: str, form: str, views: int) -> dict[str, float]:
        return {"seconds": pools[form].seconds(name, views)}

    names = ("torch", "monai")
    serve({name: importlib.import_module(name).__version__ for name in names}, answer)


if __name__ == "__main__":
    main()
