"""PyTorch's side of `benchmarks/ntxent.py`; runs under another interpreter.

The usual NT-Xent: the cosines of all views with all views in one matrix, its diagonal
masked, and a cross-entropy whose answer is the other view. Float32, no TF32. Needs
torch, which brainjax itself never needs.
"""

import importlib
import json
import os
import sys

from common import Growth, serve
from ntxent import Clock, embeddings


def work(form: str, pairs: int, dim: int, temperature: float, device: str) -> None:
    """Serves "eager" or "compile" at one batch, with the commands of our side."""
    torch = importlib.import_module("torch")
    functional = importlib.import_module("torch.nn.functional")
    place = "cuda" if device == "gpu" else "cpu"
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_float32_matmul_precision("highest")
    first, second = (
        torch.from_numpy(array).to(place).requires_grad_()
        for array in embeddings(pairs, dim)
    )

    def loss(first, second):
        views = functional.normalize(torch.cat([first, second]), dim=1)
        logits = views @ views.T / temperature
        own = torch.eye(2 * pairs, dtype=torch.bool, device=logits.device)
        answers = torch.arange(2 * pairs, device=logits.device).roll(pairs)
        return functional.cross_entropy(logits.masked_fill(own, -torch.inf), answers)

    chosen = {"eager": lambda: loss, "compile": lambda: torch.compile(loss)}[form]()

    def run() -> dict[str, float]:
        first.grad = second.grad = None
        clock = Clock()
        value = chosen(first, second)
        value.backward()
        value = value.item()  # Waits for the device.
        if place == "cuda":
            torch.cuda.synchronize()
        found["loss"] = value
        return clock.read()

    found: dict[str, float] = {}
    growth = Growth()
    compiling = run()["seconds"]
    found["slope"] = first.grad.norm().item()

    def answer(ask: str) -> dict:
        if ask == "seconds":
            return run()
        on_device = place == "cuda"
        return {
            **found,
            "compile_s": round(compiling, 2) if form == "compile" else 0,
            "program_bytes": 0,
            "growth_bytes": growth.bytes(),
            "device_peak_bytes": torch.cuda.max_memory_allocated() if on_device else 0,
        }

    serve({"torch": torch.__version__}, answer)


if __name__ == "__main__":
    work(**json.loads(sys.argv[1]))
