"""The real pretraining step on shapes alone, for the programs that only read it."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from brainjax.augment import Augmentation, make_augmentation
from brainjax.configuration import Config, construct, load_config, to_dict
from brainjax.optim import make_optimizer
from brainjax.parallel import batch_sharding
from brainjax.train.restore import make_network
from brainjax.train.simclr import make_pretrain_update
from brainjax.train.state import Blueprint, make_blueprint
from brainjax.train.step import Update

CONFIG = Path(__file__).parents[1] / "configs" / "pretrain_vit_b.py"
SMALL = ["view=32,32,32", "encoder.width=32", "encoder.depth=2", "encoder.heads=2"]
"""A ViT that compiles in seconds, for `--size small`."""


class Plan(NamedTuple):
    """What a config says of a pretraining step: state, views, loss, micro-batch."""

    blueprint: Blueprint
    augmentation: Augmentation
    loss: dict[str, Any]
    view: tuple[int, int, int]
    micro_batch: int


class Step(NamedTuple):
    """A pretraining step, not yet compiled.

    batch: ShapeDtypeStructs of what it takes beside `blueprint.abstract`.
    """

    update: Update
    blueprint: Blueprint
    batch: dict[str, jax.ShapeDtypeStruct]

    def trace(self) -> Any:
        """Traces it; allocates nothing."""
        return self.update.trace(  # pyright: ignore[reportFunctionMemberAccess]
            self.blueprint.abstract, self.batch
        )


def plan(mesh: jax.sharding.Mesh, overrides: list[str], path: Path = CONFIG) -> Plan:
    """Plans what a pretraining config describes, on a mesh of any devices.

    Args:
      mesh: where it will run; its devices need not be attached.
      overrides: of the config, "--config.a.b=value".
      path: of the config.
    """
    config = cast(Config, load_config(path, overrides))
    network = {
        "encoder": {"shape": list(config.view), **to_dict(config.encoder)},
        "projector": to_dict(config.projector),
    }
    optimizer = construct(
        "optimizer", make_optimizer, steps=config.train.steps, **config.optimizer
    )
    make = partial(make_network, "pretrain", network)
    x, y, z = config.view
    return Plan(
        blueprint=make_blueprint(make, optimizer, mesh, seed=config.seed),
        augmentation=make_augmentation(view=(x, y, z), **config.augment),
        loss={"seed": config.seed, **config.loss},
        view=(x, y, z),
        micro_batch=config.train.micro_batch,
    )


def plan_step(
    mesh: jax.sharding.Mesh,
    overrides: list[str],
    *,
    batch: int,
    stored: int,
    rows: int = 0,
) -> Step:
    """Plans the step of `configs/pretrain_vit_b.py` on shapes alone.

    Args:
      mesh, overrides: as for `plan`.
      batch: scans in a step, over all devices.
      stored: voxels of a stored volume along each axis.
      rows: scans of a data set that lies on the devices; 0 for one that is fed.
    """
    found = plan(mesh, overrides)
    update = make_pretrain_update(
        found.blueprint,
        found.augmentation,
        micro_batch=found.micro_batch,
        **found.loss,
    )
    return Step(update, found.blueprint, _batch(mesh, batch, stored, rows))


def step_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what describes the step: sizes, and overrides of its config."""
    add = parser.add_argument
    add("--batch", type=int, help="scans in a step, over all devices")
    add("--stored", type=int, help="voxels of a stored volume along an axis")
    add("--size", choices=("small", "B"), default="B", help="of the ViT")
    add("--rows", type=int, default=0, help="scans of a data set on the devices")
    add("overrides", nargs="*", help="of configs/pretrain_vit_b.py: config.a.b=value")


def overrides_of(options: argparse.Namespace) -> list[str]:
    """Gives the overrides that the command line asks for."""
    small = [f"config.{word}" for word in SMALL] if options.size == "small" else []
    return [f"--{word}" for word in [*small, *options.overrides]]


def _batch(
    mesh: jax.sharding.Mesh, batch: int, stored: int, rows: int
) -> dict[str, jax.ShapeDtypeStruct]:
    place, numbers = batch_sharding(mesh), ("subjects", "positions")
    of = partial(jax.ShapeDtypeStruct, sharding=place)
    found = {name: of((batch,), jnp.int32) for name in numbers}
    if rows:
        # Padded to a multiple of the devices, as on_device.py does.
        rows = -(-rows // mesh.size) * mesh.size
        volumes = of((rows, stored, stored, stored), jnp.uint8)
        return {"dataset": volumes, "rows": of((batch,), jnp.int32), **found}
    return {"volumes": of((batch, stored, stored, stored), jnp.uint8), **found}
