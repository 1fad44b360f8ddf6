"""Training a segmenter: `finetune` of task "segmentation"."""

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from brainjax.augment.labels import (
    LabelledAugmentation,
    Parts,
    make_label_augmentation,
)
from brainjax.augment.synthesis import make_synthesis
from brainjax.configuration import Config, construct, need, to_dict
from brainjax.errors import InputRefusedError
from brainjax.models.pure import run
from brainjax.optim import make_optimizer
from brainjax.parallel import make_mesh, replicated
from brainjax.records.cases import open_cases
from brainjax.records.segmentations import Segmentations
from brainjax.tasks import Segmentation, make_task
from brainjax.train.ema import move_ema, start_ema, with_ema
from brainjax.train.folder import RunFolder
from brainjax.train.input import Input, open_input
from brainjax.train.restore import (
    Run,
    describe_run,
    encoder_params,
    load_run,
    make_network,
    refuse_other_recipe,
    refuse_seen_subjects,
)
from brainjax.train.scans import Split, hash_scans, name_subjects, split_scans
from brainjax.train.segment_validation import SegmentValidation
from brainjax.train.segmenter import ENCODER
from brainjax.train.selection import Selection, select
from brainjax.train.session import Session
from brainjax.train.state import Blueprint, State, make_blueprint
from brainjax.train.step import Update, compile_update, descend
from brainjax.train.summary import write_summary
from brainjax.train.views import drop_channels, labelled_views, stored_volumes

MODES = ("whole", "frozen")
WEIGHTS = ("pretrained", "random")


class SegmentPlan(NamedTuple):
    """What a segmentation run stands on, resolved from its config.

    Attributes:
      dataset: volumes with the parts of their label maps.
      task: what they are; split: labelled scans only; values: the weight of every scan.
      selection: what config.data says.
      network: constructor keywords; view: the network's input in voxels.
      donor: the pretrained run whose encoder is taken over, or None.
      augmentation: of the training views.
      ema: decay of the average that answers; 0 for none.
    """

    dataset: Segmentations
    task: Segmentation
    split: Split
    values: Sequence[Any]
    selection: Selection
    network: dict[str, Any]
    view: tuple[int, int, int]
    donor: Run | None
    augmentation: LabelledAugmentation
    ema: float


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
            start=partial(_start, blueprint, plan),
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


def plan_segmenting(config: Config) -> SegmentPlan:
    """Resolves a config to data, task and network.

    Raises:
      InputRefusedError: what is named does not exist or does not fit together.
    """
    need(config, "init", "segmenter", "augment", "synthesis", "ema")
    _choose("weights", config.weights, WEIGHTS)
    _choose("mode", config.mode, MODES)
    if not 0 <= config.ema < 1:
        raise InputRefusedError(f"config.ema: wanted 0 to under 1, got {config.ema}")
    selection = construct("data", Selection, **config.data).check()
    task = construct("task", make_task, **config.task)
    cases = open_cases(selection.path, selection.sequences)
    dataset = Segmentations(cases, task.numbering())
    donor = _find_donor(config, dataset)
    view = tuple(config.view) or (donor.view if donor else dataset.shape)
    split, values = _split(config, dataset, task, selection)
    if donor is not None:
        tested = name_subjects(dataset, split.test)
        refuse_seen_subjects(donor, tested, selection.path)
    words = to_dict(config.segmenter)
    if donor is not None:
        words["encoder"] = {**donor.network["encoder"], "shape": list(view)}
    network = {
        "segmenter": {**words, "shape": list(view)},
        "outputs": task.outputs,
        "frozen": config.mode == "frozen",
        "sequences": list(selection.sequences),
    }
    return SegmentPlan(
        *(dataset, task, split, values, selection, network, view, donor),
        augmentation=plan_augmentation(config, task, view),
        ema=float(config.ema),
    )


def _find_donor(config: Config, dataset: Segmentations) -> Run | None:
    if config.weights == "random":
        return None
    if not config.init:
        raise InputRefusedError(
            "init: wanted a pretraining run for weights = 'pretrained', got ''"
        )
    donor = load_run(config.init)
    refuse_other_recipe(donor, dataset.recipe, config.data.path)
    if dataset.channels > 1:
        raise InputRefusedError(
            f"config.data.sequences: wanted one for the pretrained encoder of "
            f"{config.init}, got {dataset.channels}"
        )
    return donor


def _split(
    config: Config, dataset: Segmentations, task: Segmentation, selection: Selection
) -> tuple[Split, Sequence[Any]]:
    """Gives the labelled scans by part, and the weight of every scan."""
    for key in ("train_per_class", "balance"):
        if getattr(selection, key):
            raise InputRefusedError(
                f"config.data.{key}: wanted none for a segmentation, got "
                f"{getattr(selection, key)!r}"
            )
    values = task.values(dataset.labels)
    split = construct("split", split_scans, dataset=dataset, **config.split)
    known = dataset.labelled & np.array([value is not None for value in values])
    split = Split(*(part[known[part]] for part in split))
    if not len(split.train) or not len(split.val):
        raise InputRefusedError(
            f"{dataset.folder}: wanted scans with label maps to train and to validate "
            f"on, got {len(split.train)} and {len(split.val)}"
        )
    train = select(selection, dataset, split.train, task, values, seed=config.seed)
    return split._replace(train=train), values


def plan_augmentation(
    config: Config, task: Segmentation, view: tuple[int, int, int]
) -> LabelledAugmentation:
    """Gives the augmentation of a config, contrasts made up among it.

    Raises:
      InputRefusedError: an unknown strength, or families that are not the tissues.
    """
    contrasts = None
    if config.synthesis:
        contrasts = construct("synthesis", make_synthesis, **config.synthesis)
        if contrasts.tissues != len(task.tissues):
            raise InputRefusedError(
                f"config.synthesis.families: wanted one for each of the "
                f"{len(task.tissues)} of config.task.tissues, got {contrasts.tissues}"
            )
    return construct(
        "augment",
        make_label_augmentation,
        view=view,
        contrasts=contrasts,
        **config.augment,
    )


def plan_blueprint(config: Config, plan: SegmentPlan) -> Blueprint:
    """Plans the state of a segmentation run, without allocating it."""
    words = {**config.optimizer, "frozen": []}
    if config.mode == "frozen":
        words["frozen"] = [ENCODER]
        words.pop("layer_decay", None)  # of an encoder that stands still, none
    optimizer = construct(
        "optimizer", make_optimizer, steps=config.train.steps, **words
    )
    make = partial(make_network, "segment", plan.network)
    mesh = construct("mesh", make_mesh, **config.mesh)
    blueprint = make_blueprint(make, optimizer, mesh, seed=config.seed)
    return with_ema(blueprint) if plan.ema else blueprint


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
        data=hash_scans(plan.dataset, plan.split.train),
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


def _start(blueprint: Blueprint, plan: SegmentPlan) -> State:
    """A fresh state, with the donor's encoder in it; every leaf is accounted for."""
    state = blueprint.initialise()
    if plan.donor is None:
        return state
    given = {"params": encoder_params(plan.donor)}
    given["batch_stats"] = plan.donor.batch_stats.get("encoder", {})
    for part, tree in given.items():
        segmenter = state[part].get("segmenter", {})
        places = blueprint.shardings[part].get("segmenter", {}).get("encoder", {})
        if tree or places:
            # By way of the host: its places may be those of other processes.
            encoder = jax.device_put(jax.device_get(tree), places)
            state[part] = {"segmenter": {**segmenter, "encoder": encoder}}
    return start_ema(state) if plan.ema else state


def _choose(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputRefusedError(
            f"config.{key}: wanted one of {', '.join(allowed)}, got {value!r}"
        )
