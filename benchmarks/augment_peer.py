"""MONAI's side of `benchmarks/augment.py`; runs under another interpreter.

Reads commands on standard input, one line each: `FORM VIEWS`; writes the seconds that
took. FORM is "one" (one process, two threads) or "two" (two processes, one thread
each). Needs torch and monai, which brainjax itself never needs.
"""

import argparse
import importlib
import json
import multiprocessing
import sys
import time

import numpy as np


def chain():
    """Gives MONAI's five operations at p = 1, with the strengths of our chain."""
    transforms = importlib.import_module("monai.transforms")
    sigma = (0.05, 1.0)
    return transforms.Compose(
        [
            transforms.RandAffine(
                prob=1,
                rotate_range=(np.deg2rad(10),) * 3,
                scale_range=(0.07,) * 3,
                translate_range=(0.03 * 96,) * 3,
                mode="bilinear",
                padding_mode="zeros",
            ),
            transforms.RandBiasField(prob=1, degree=3, coeff_range=(-0.1, 0.1)),
            transforms.RandAdjustContrast(prob=1, gamma=(0.74, 1.35)),
            transforms.RandGaussianSmooth(
                prob=1, sigma_x=sigma, sigma_y=sigma, sigma_z=sigma
            ),
            transforms.RandGaussianNoise(prob=1, mean=0.0, std=0.05),
        ]
    )


def work(volume: np.ndarray, threads: int, inbox, outbox) -> None:
    """Makes as many views as the inbox asks for, and says when they are done."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(threads)
    transform, tensor = chain(), torch.from_numpy(volume)[None]
    for views in iter(inbox.get, None):
        for _ in range(views):
            transform(tensor)
        outbox.put(views)


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

    def seconds(self, views: int) -> float:
        """Gives how long the processes take for `views`, the volume in memory."""
        # Single views, so that neither process waits for a slower one.
        start = time.perf_counter()
        for _ in range(views):
            self.inbox.put(1)
        for _ in range(views):
            self.outbox.get()
        return time.perf_counter() - start


def main() -> None:
    """Serves commands until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("volume", help=".npy, float32 [x, y, z] in 0..1")
    volume = np.load(parser.parse_args().volume)
    pools = {"one": Pool(volume, 1, 2), "two": Pool(volume, 2, 1)}
    for pool in pools.values():
        pool.seconds(6)  # Imports, first allocations.
    versions = {
        name: importlib.import_module(name).__version__ for name in ("torch", "monai")
    }
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        form, views = line.split()
        print(pools[form].seconds(int(views)), flush=True)


if __name__ == "__main__":
    main()
