"""Training a segmenter: `finetune` of task "segmentation"."""

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from brainjax.augment.labels import LabelledAugmentation, Parts
from brainjax.configuration import Config, construct, to_dict
from brainjax.models.pure import run
from brainjax.parallel import replicated
from brainjax.tasks import Segmentation
from brainjax.train.ema import move_ema
from brainjax.train.folder import RunFolder
from brainjax.train.input import Input, open_input
from brainjax.train.restore import describe_run
from brainjax.train.scans import hash_labelled, name_subjects
from brainjax.train.segment_plan import (
    SegmentPlan,
    plan_blueprint,
    plan_segmenting,
    start_state,
)
from brainjax.train.segment_validation import SegmentValidation
from brainjax.train.session import Session
from brainjax.train.state import Blueprint
from brainjax.train.step import Update, compile_update, descend
from brainjax.train.summary import write_summary
from brainjax.train.views import drop_channels, labelled_views, stored_volumes


def segment(config: Config, workdir: str | Path) -> RunFolder:
    """Learns to segment, or goes on where an earlier call was interrupted.

    The step with the best validation Dice is kept, of the averaged weights where there
    are any, and is what answers. Test subjects are not touched.

    Args:
      config: as in configs/segment_ixi.py.
      workdir: the run folder; it keeps the config, and refuses another one.

    Raises:
      InputRefusedError: a setting, a label map, the data set or the folder cannot be
        used.
    """
    plan = plan_segmenting(config)
    blueprint = plan_blueprint(config, plan)
    folder = RunFolder(workdir)
    with folder.claimed({"kind": "segment", **to_dict(config)}):
        validate = SegmentValidation(plan, blueprint)
        session = construct(
            "train",
            Session,
            folder,
            blueprint,
            _describe(plan),
            start=partial(start_state, blueprint, plan),
            measure=validate,
            profile_steps=config.profile_steps,
            **config.train,
        )
        validate.log = session.log
        with closing(session):
            if not session.finished:
                _train(config, plan, blueprint, session)
    return folder


def _train(
    config: Config, plan: SegmentPlan, blueprint: Blueprint, session: Session
) -> None:
    """Takes the run to its last step and sums it up."""
    update = make_segment_update(
        blueprint,
        plan.augmentation,
        plan.task,
        seed=config.seed,
        ema=plan.ema,
        sequence_dropout=plan.selection.sequence_dropout,
    )
    with closing(_open_scans(plan, session, seed=config.seed)) as scans:
        state = session.run(update, scans)
    best = session.checkpoints.best_step()
    facts = {
        "init": plan.donor.folder.name if plan.donor else "scratch",
        "encoder_mode": config.mode,
        "bad_records": scans.all_bad(),
        "train_scans": len(plan.split.train),
        "checkpoint": session.checkpoints.hash(best),
        "best_step": best,
        "recipe": plan.dataset.recipe.hash,
    }
    write_summary(session.folder, session.log, state, facts)


def make_segment_update(
    blueprint: Blueprint,
    augmentation: LabelledAugmentation,
    task: Segmentation,
    *,
    seed: int,
    ema: float = 0.0,
    sequence_dropout: float = 0.0,
) -> Update:
    """Compiles the step of a segmentation task.

    The batch's volumes are [b, s + 1, x, y, z], uint8: sequences, and the parts of the
    label map last; or rows of a data set of such.

    ema: decay of the average of the parameters; 0 for none, and the state has none.
    sequence_dropout: chance of leaving out a sequence of a case.
    """
    mesh, parts = blueprint.mesh, parts_of(task)

    def loss_of(params, batch_stats, batch, *, seed):
        positions = batch["positions"]
        volumes = stored_volumes(batch, mesh)
        views, labels = labelled_views(
            volumes, positions, augmentation, parts, mesh, seed=seed
        )
        if sequence_dropout:
            views = drop_channels(views, positions, rate=sequence_dropout, seed=seed)
        segmented, batch_stats = run(
            blueprint.graphdef, params, batch_stats, views, train=True
        )
        return task.loss(segmented, labels, batch["weights"]), (batch_stats, {})

    def update(state, batch, seed):
        after, metrics = descend(
            state, batch, loss_of=partial(loss_of, seed=seed), blueprint=blueprint
        )
        return (move_ema(after, state, ema) if ema else after), metrics

    compiled = compile_update(update, blueprint, replicated(mesh))
    # An argument, so that runs that differ in their seed share a compiled program.
    given = np.uint32(seed)
    return lambda state, batch: compiled(state, batch, given)


def parts_of(task: Segmentation) -> Parts:
    """Gives what augmentation has to know of a task's numbers."""
    found = task.partition
    return Parts(found.regions, found.tissues, found.mirrored)


def _describe(plan: SegmentPlan) -> dict[str, Any]:
    subjects = name_subjects(plan.dataset, plan.split.train, plan.split.val)
    if plan.donor:
        subjects += plan.donor.subjects
    return describe_run(
        kind="segment",
        network=plan.network,
        view=plan.view,
        recipe=plan.dataset.recipe,
        task=plan.task,
        subjects=subjects,
        data=hash_labelled(plan.dataset, plan.split.train),
        donor=plan.donor.checkpoint if plan.donor else "",
    ) | {"ema": plan.ema}


def _open_scans(plan: SegmentPlan, session: Session, *, seed: int) -> Input:
    return open_input(
        plan.dataset,
        plan.split.train,
        labels=plan.task.encode(plan.values),
        batch=session.batch,
        seed=seed,
        start_step=session.start,
        mesh=session.mesh,
    )
