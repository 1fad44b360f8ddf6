"""Fine-tuning: one task from labelled scans, pretrained encoder or from scratch."""

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from brainjax.augment import Augmentation, make_augmentation
from brainjax.configuration import Config, choose, construct, need, to_dict
from brainjax.errors import InputRefusedError
from brainjax.optim import make_optimizer
from brainjax.parallel import make_mesh
from brainjax.records.cases import open_cases
from brainjax.tasks import Segmentation
from brainjax.train.folder import RunFolder
from brainjax.train.input import Input, open_input
from brainjax.train.labelled import Labels, label_scans
from brainjax.train.restore import (
    Run,
    describe_run,
    encoder_params,
    load_run,
    make_network,
    refuse_other_recipe,
    refuse_seen_subjects,
)
from brainjax.train.scans import (
    hash_scans,
    name_subjects,
    refuse_untrainable,
)
from brainjax.train.segment import segment
from brainjax.train.selection import Selection, balanced
from brainjax.train.session import Session
from brainjax.train.staged import Stage, StagedInput
from brainjax.train.state import Blueprint, State, make_blueprint
from brainjax.train.step import make_finetune_update
from brainjax.train.summary import write_summary
from brainjax.train.validation import Validation, save_guards

WEIGHTS = ("pretrained", "random")
MODES = ("whole", "frozen", "adapters")


class Plan(NamedTuple):
    """What a fine-tuning run stands on, resolved from its config.

    Attributes:
      labels: the data set, its labelled scans by part, and the task fitted to them.
      selection: what config.data says.
      network: constructor keywords; view: the encoder's input in voxels.
      donor: the pretrained run whose encoder is taken over, or None.
      augmentation: of the training views.
    """

    labels: Labels
    selection: Selection
    network: dict[str, Any]
    view: tuple[int, int, int]
    donor: Run | None
    augmentation: Augmentation


def finetune(config: Config, workdir: str | Path) -> RunFolder:
    """Learns a task, or goes on where an earlier call was interrupted.

    The step with the best validation loss is kept, and is what `evaluate` and
    `predict` use. Test subjects are not touched.

    Args:
      config: as in configs/quickstart_age.py.
      workdir: the run folder; it keeps the config, and refuses another one.

    Raises:
      InputRefusedError: a setting, a label, the data set or the folder cannot be used.
    """
    need(config, "task")
    if config.task.name == Segmentation.name:
        return segment(config, workdir)
    plan = plan_finetuning(config)
    blueprint = _blueprint(config, plan)
    folder = RunFolder(workdir)
    with folder.claimed({"kind": "finetune", **to_dict(config)}):
        validate = Validation(plan.labels, blueprint, plan.view)
        session = construct(
            "train",
            Session,
            folder,
            blueprint,
            _describe(plan),
            start=partial(_start, blueprint, plan.donor),
            measure=validate,
            profile_steps=config.profile_steps,
            **config.train,
        )
        validate.log = session.log
        with closing(session):
            if not session.finished:
                _train(config, plan, blueprint, session, validate)
    return folder


def _train(
    config: Config,
    plan: Plan,
    blueprint: Blueprint,
    session: Session,
    validate: Validation,
) -> None:
    """Takes the run to its last step, sets guards and sums it up."""
    update = make_finetune_update(
        blueprint,
        plan.augmentation,
        plan.labels.task,
        seed=config.seed,
        sequence_dropout=plan.selection.sequence_dropout,
    )
    with closing(_open_scans(plan, session, seed=config.seed)) as scans:
        state = session.run(update, scans)
    best = session.checkpoints.best_step()
    # Before the summary: a run that has one is finished, and has guards.
    save_guards(session.folder, plan.labels, validate)
    facts = {
        "init": plan.donor.folder.name if plan.donor else "scratch",
        "encoder_mode": config.mode,
        "bad_records": scans.all_bad(),
        "train_scans": len(plan.labels.split.train),
        "checkpoint": session.checkpoints.hash(best),
        "best_step": best,
        "recipe": plan.labels.dataset.recipe.hash,
    }
    write_summary(session.folder, session.log, state, facts)


def plan_finetuning(config: Config) -> Plan:
    """Resolves a config to data, task and network.

    Raises:
      InputRefusedError: what is named does not exist or does not fit together.
    """
    need(config, "init", "task", "augment", "head")
    choose("weights", config.weights, WEIGHTS)
    choose("mode", config.mode, MODES)
    selection = construct("data", Selection, **config.data).check()
    path = selection.path
    dataset = open_cases(path, selection.sequences)
    like = load_run(config.init) if config.init else None
    if like is not None:
        refuse_other_recipe(like, dataset.recipe, path)
    elif config.weights == "pretrained":
        raise InputRefusedError(
            "init: wanted a pretraining run for weights = 'pretrained', got ''"
        )
    view = like.view if like else tuple(config.view)
    encoder = like.network["encoder"] if like else to_dict(config.encoder)
    augmentation = construct("augment", make_augmentation, view=view, **config.augment)
    refuse_untrainable(dataset, path, augmentation)
    labels = label_scans(config, dataset, selection)
    if config.weights == "pretrained" and like is not None:
        tested = name_subjects(dataset, labels.split.test)
        refuse_seen_subjects(like, tested, path)
    network = {
        "encoder": {**encoder, "shape": list(view)},
        "head": to_dict(config.head),
        "outputs": labels.task.outputs,
        "frozen": config.mode == "frozen",
        **_extra_keywords(config, selection),
    }
    donor = like if config.weights == "pretrained" else None
    return Plan(labels, selection, network, view, donor, augmentation)


def _extra_keywords(config: Config, selection: Selection) -> dict[str, Any]:
    """What only some networks are made with; others are described without it."""
    words: dict[str, Any] = {}
    if selection.sequences:
        words["inputs"] = len(selection.sequences)
        words["sequences"] = list(selection.sequences)
    if len(selection.sequences) > 1 and "fusion" in to_dict(config):
        words["fusion"] = config.fusion
    if config.mode == "adapters":
        need(config, "adapters")
        words["adapters"] = to_dict(config.adapters)
    return words


def _blueprint(config: Config, plan: Plan) -> Blueprint:
    words = {**config.optimizer, "frozen": ["encoder"]}
    if config.mode == "whole":
        words["frozen"] = []
    else:
        words.pop("layer_decay", None)  # of an encoder that stands still, none
    optimizer = construct(
        "optimizer", make_optimizer, steps=config.train.steps, **words
    )
    make = partial(make_network, "finetune", plan.network)
    mesh = construct("mesh", make_mesh, **config.mesh)
    return make_blueprint(make, optimizer, mesh, seed=config.seed)


def _describe(plan: Plan) -> dict[str, Any]:
    dataset, split, task, _ = plan.labels
    subjects = name_subjects(dataset, split.train, split.val)
    if plan.donor:
        subjects += plan.donor.subjects
    return describe_run(
        kind="finetune",
        network=plan.network,
        view=plan.view,
        recipe=dataset.recipe,
        task=task,
        subjects=subjects,
        data=hash_scans(dataset, split.train),
        donor=plan.donor.checkpoint if plan.donor else "",
    )


def _open_scans(plan: Plan, session: Session, *, seed: int) -> StagedInput:
    dataset, split, task, values = plan.labels
    chosen, stages = plan.selection, [Stage(0, split.train)]
    if chosen.balance:
        even = balanced(chosen.balance, split.train, task, values, seed=seed)
        stages.append(Stage(chosen.balance_after, even))
    encoded = task.encode(values)

    def open_stage(indices: Any, start_step: int) -> Input:
        return open_input(
            dataset,
            indices,
            labels=encoded,
            batch=session.batch,
            seed=seed,
            start_step=start_step,
            mesh=session.mesh,
        )

    return StagedInput(open_stage, stages, session.start)


def _start(blueprint: Blueprint, donor: Run | None) -> State:
    """A fresh state, with the donor's encoder in it; every leaf is accounted for."""
    state = blueprint.initialise()
    if donor is None:
        return state
    for part in ("params", "batch_stats"):
        given = getattr(donor, part).get("encoder", {})
        if part == "params":
            given = encoder_params(donor)
        places = blueprint.shardings[part].get("encoder", {})
        state[part] = {**state[part]}
        if given or places:
            # By way of the host: its places may be those of other processes.
            state[part]["encoder"] = jax.device_put(jax.device_get(given), places)
    return state
