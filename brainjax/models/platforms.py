"""What the transformer does differently by platform, decided here and nowhere else.

The choice falls while a program is traced, so that a checkpoint's config means the same
network everywhere: the numbers differ by rounding alone.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

from brainjax.errors import InputRefusedError
from brainjax.models.encoded import choice

ATTENTIONS = ("auto", "xla", "cudnn")
"""Forms of attention: XLA's own products, cuDNN's fused kernel, whichever is better."""

_traced_for: ContextVar[str | None] = ContextVar("traced_for", default=None)


def platform() -> str:
    """Gives the platform that is traced for: "cpu", "cuda", "rocm", "tpu"."""
    wanted = _traced_for.get()
    if wanted is not None:
        return wanted
    backend = jax.default_backend()
    if backend != "gpu":
        return backend
    version = jax.devices()[0].client.platform_version
    return "cuda" if "cuda" in version.lower() else "rocm"


@contextlib.contextmanager
def traced_for(name: str) -> Iterator[None]:
    """Traces as for another platform than this one, to read its program."""
    token = _traced_for.set(choice(name, ("cpu", "cuda", "rocm", "tpu"), "platform"))
    try:
        yield
    finally:
        _traced_for.reset(token)


def wide_products() -> bool:
    """Whether products of bfloat16 are asked for in float32 and rounded afterwards.

    XLA's CPU products that read bfloat16 and give float32 use the processor's bfloat16
    instructions; those that give bfloat16 widen their operands first and are half as
    fast. A GPU rounds inside the product, which saves writing float32.
    """
    return platform() == "cpu"


def separate_operands() -> bool:
    """Whether what a product reads is computed before it is transposed.

    XLA's CPU fuses the two, and works a GELU out one by one along the slow axis.
    """
    return platform() == "cpu"


def unrolled_blocks() -> bool:
    """Whether blocks that recompute nothing are written out instead of looped over.

    A loop stores all that its backward pass needs into stacks, which it first fills
    with zeros, and reads it out of them: a quarter of a step's traffic on an H200. A
    CPU takes three times as long without the loop. Blocks that recompute keep it:
    written out, the compiler would find what is computed twice and undo it.
    """
    return platform() in ("cuda", "rocm")


def attention_form(attention: str, *, head: int, bfloat16: bool) -> str:
    """Gives "xla" or "cudnn" for an attention of `ATTENTIONS`.

    "auto" is cuDNN where jax's binding of it takes these shapes without a mask: 16-bit
    operands, a head's width that 8 divides and of 128 at most (256 from Hopper on),
    and a GPU of Ampere or later; any number of tokens. Elsewhere than on NVIDIA's GPUs
    all are "xla", as a run must be readable anywhere.

    head: width of a head. bfloat16: whether that is the compute type.

    Raises:
        InputRefusedError: "cudnn" on a GPU of theirs, for what it cannot take.
    """
    if attention == "xla" or platform() != "cuda":
        return "xla"
    fits = bfloat16 and head % 8 == 0 and head <= 128 and _has_ampere()
    if attention == "cudnn" and not fits:
        raise InputRefusedError(
            "attention cudnn: wanted bfloat16, heads of a width up to 128 that 8 "
            f"divides, and Ampere or later, got {'b' if bfloat16 else ''}float"
            f"{16 if bfloat16 else 32} and heads of {head}"
        )
    return "cudnn" if fits else "xla"


def _has_ampere() -> bool:
    if _traced_for.get() is not None:
        return True
    capability = getattr(jax.devices()[0], "compute_capability", "0.0")
    return int(capability.split(".")[0]) >= 8
