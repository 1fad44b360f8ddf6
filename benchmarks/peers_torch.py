"""PyTorch's side of `benchmarks/peers.py`; runs under another interpreter.

MONAI's ViT of the size of ours (mean of the tokens, no dropout), SimCLR's projector,
NT-Xent, gradient clipping and AdamW; "eager" or "compile", float32 or autocast to
bfloat16. Needs torch and monai, which brainjax itself never needs.
"""

import importlib
import json
import os
import sys
import time
from typing import Any

from common import Growth, serve
from step import draw_views

SIZES = {
    "B": (96, {"hidden_size": 768, "mlp_dim": 3072, "num_layers": 12, "num_heads": 12}),
    "small": (32, {"hidden_size": 32, "mlp_dim": 128, "num_layers": 2, "num_heads": 2}),
}
TEMPERATURE, CLIP, DECAY, RATE = 0.1, 1.0, 0.05, 1e-4


def network(size: str) -> Any:
    """Gives MONAI's ViT under a projector."""
    torch = importlib.import_module("torch")
    monai = importlib.import_module("monai.networks.nets")
    nn = torch.nn
    side, widths = SIZES[size]
    encoder = monai.ViT(1, (side,) * 3, (16,) * 3, **widths)
    width = widths["hidden_size"]
    projector = nn.Sequential(
        nn.Linear(width, 2048, bias=False),
        nn.BatchNorm1d(2048),
        nn.ReLU(),
        nn.Linear(2048, 128, bias=False),
        nn.BatchNorm1d(128, affine=False),
    )

    class Contrastive(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.projector = encoder, projector

        def forward(self, views):
            return self.projector(self.encoder(views)[0].mean(dim=1))

    return Contrastive()


def work(form: str, dtype: str, batch: int, device: str, size: str) -> None:
    """Serves one side: {"ask": "seconds"} or {"ask": "facts"}."""
    torch = importlib.import_module("torch")
    functional = torch.nn.functional
    place = "cuda" if device == "gpu" else "cpu"
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    if place == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as jax does
    torch.manual_seed(0)
    model = network(size).to(place)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    cube = SIZES[size][0]
    views = torch.from_numpy(draw_views(batch, cube).reshape(-1, 1, *[cube] * 3))
    views = views.to(place)
    mirror = torch.arange(2 * batch, device=place) ^ 1  # The scan's other view.
    own = torch.eye(2 * batch, dtype=torch.bool, device=place)

    def loss_of(views):
        with torch.autocast(place, torch.bfloat16, enabled=dtype == "bfloat16"):
            projected = model(views)
        unit = functional.normalize(projected.float(), dim=1)
        logits = (unit @ unit.T / TEMPERATURE).masked_fill(own, -torch.inf)
        return functional.cross_entropy(logits, mirror)

    chosen = torch.compile(loss_of) if form == "compile" else loss_of
    losses: list[float] = []
    busy: list[float] = []
    growth = Growth()
    held = sum(4 * p.numel() for p in model.parameters())

    def seconds() -> float:
        begun, worked = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss = chosen(views)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        losses.append(loss.item())
        if place == "cuda":
            torch.cuda.synchronize()
        busy.append(time.process_time() - worked)
        return time.perf_counter() - begun

    first = seconds()

    def answer(ask: str) -> dict[str, Any]:
        if ask == "seconds":
            return {"seconds": seconds()}
        on_gpu = place == "cuda"
        peak = torch.cuda.max_memory_allocated() if on_gpu else held + growth.bytes()
        compiling = round(first, 2) if form == "compile" else 0
        return {
            "losses": losses,
            "processor_s": busy,
            "compile_s": compiling,
            "peak_bytes": peak,
        }

    versions = {
        name: importlib.import_module(name).__version__ for name in ("torch", "monai")
    }
    serve(versions, answer)


if __name__ == "__main__":
    work(**json.loads(sys.argv[1]))
