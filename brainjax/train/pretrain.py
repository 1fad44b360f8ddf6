"""Pretraining by contrast: SimCLR on unlabelled scans, config to run folder."""

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from brainjax.augment import Augmentation, make_augmentation
from brainjax.configuration import Config, construct, need, to_dict
from brainjax.optim import make_optimizer
from brainjax.parallel import make_mesh
from brainjax.records.store import RecordDataset, open_dataset
from brainjax.train.folder import RunFolder
from brainjax.train.input import Input, open_input
from brainjax.train.probe import FrozenFeatures, Probe, write_views
from brainjax.train.restore import describe_run, make_network
from brainjax.train.scans import (
    Split,
    hash_scans,
    name_subjects,
    refuse_untrainable,
    split_scans,
)
from brainjax.train.session import Session
from brainjax.train.simclr import Contrasting
from brainjax.train.state import Blueprint, make_blueprint
from brainjax.train.summary import write_summary


def pretrain(config: Config, workdir: str | Path) -> RunFolder:
    """Pretrains an encoder, or goes on where an earlier call was interrupted.

    Only the training part of the split is learnt from; validation subjects serve the
    probe, test subjects nothing at all.

    Args:
      config: as in configs/quickstart.py.
      workdir: the run folder; it keeps the config, and refuses another one.

    Raises:
      InputRefusedError: a setting, the data set or the folder cannot be used.
      DivergedError: too many steps in a row were not finite.
      Terminated: SIGTERM came; the state is saved.
    """
    need(config, "augment", "encoder", "projector", "loss", "probe")
    dataset = open_dataset(config.data.path)
    split = construct("split", split_scans, dataset=dataset, **config.split)
    blueprint, augmentation = plan_pretraining(config), _augmentation(config)
    refuse_untrainable(dataset, config.data.path, augmentation)
    parts = construct(
        "loss", Contrasting, blueprint, augmentation, seed=config.seed, **config.loss
    )
    folder = RunFolder(workdir)
    with folder.claimed({"kind": "pretrain", **to_dict(config)}):
        session = construct(
            "train",
            Session,
            folder,
            blueprint,
            _describe(config, dataset, split),
            views=2 * parts.crops,
            profile_steps=config.profile_steps,
            **config.train,
        )
        with closing(session):
            if not session.finished:
                _train(config, dataset, split, session, parts)
    return folder


def _train(
    config: Config,
    dataset: RecordDataset,
    split: Split,
    session: Session,
    parts: Contrasting,
) -> None:
    """Takes the run to its last step and sums it up."""
    folder, view = session.folder, tuple(config.view)
    features = FrozenFeatures(dataset, split, parts.blueprint.graphdef, view)
    probe = construct("probe", Probe, features, session.log, **config.probe)
    update = parts.compile(session.micro_batch)
    # Closed before the probe's last word: two batches ahead would stay on the devices.
    with closing(_open_scans(config, dataset, split, session, parts)) as scans:
        state = session.run(update, scans, hooks=[probe])
    write_views(folder, dataset, split.train, parts)
    features.write(folder, state)
    facts = {
        "bad_records": scans.all_bad(),
        "train_scans": len(split.train),
        "checkpoint": session.checkpoints.hash(),
        "recipe": dataset.recipe.hash,
    }
    write_summary(folder, session.log, state, facts)


def plan_pretraining(config: Config) -> Blueprint:
    """Plans network, optimizer and mesh of a pretraining run; allocates nothing."""
    make = partial(make_network, "pretrain", _network(config))
    optimizer = construct(
        "optimizer", make_optimizer, steps=config.train.steps, **config.optimizer
    )
    mesh = construct("mesh", make_mesh, **config.mesh)
    return make_blueprint(make, optimizer, mesh, seed=config.seed)


def _describe(config: Config, dataset: RecordDataset, split: Split) -> dict[str, Any]:
    return describe_run(
        kind="pretrain",
        network=_network(config),
        view=config.view,
        recipe=dataset.recipe,
        task=None,
        subjects=name_subjects(dataset, split.train),
        data=hash_scans(dataset, split.train),
    )


def _open_scans(
    config: Config,
    dataset: RecordDataset,
    split: Split,
    session: Session,
    parts: Contrasting,
) -> Input:
    return open_input(
        dataset,
        split.train,
        source=config.data.source,
        batch=session.batch,
        seed=config.seed,
        start_step=session.start,
        mesh=session.mesh,
        micro_batches=session.micro_batches,
        negatives=parts.negatives,
    )


def _network(config: Config) -> dict[str, Any]:
    return {
        "encoder": {"shape": list(config.view), **to_dict(config.encoder)},
        "projector": to_dict(config.projector),
    }


def _augmentation(config: Config) -> Augmentation:
    view = tuple(config.view)
    return construct("augment", make_augmentation, view=view, **config.augment)
