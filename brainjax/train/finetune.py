"""Fine-tuning: one task from labelled scans, pretrained encoder or from scratch."""

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainjax.augment import Augmentation, make_augmentation
from brainjax.configuration import Config, construct, need, to_dict
from brainjax.errors import InputRefusedError
from brainjax.evaluate.features import encode_scans, make_encode
from brainjax.optim import make_optimizer
from brainjax.parallel import make_mesh
from brainjax.records.store import RecordDataset, open_dataset
from brainjax.tasks import Task, make_task
from brainjax.train.folder import RunFolder
from brainjax.train.input import Input, open_input, read_volumes
from brainjax.train.restore import (
    Run,
    describe_run,
    load_run,
    make_network,
    refuse_other_recipe,
    refuse_seen_subjects,
)
from brainjax.train.scans import (
    Split,
    few_subjects,
    hash_scans,
    name_subjects,
    refuse_untrainable,
    split_scans,
)
from brainjax.train.session import Session
from brainjax.train.state import Blueprint, State, make_blueprint
from brainjax.train.step import make_finetune_update
from brainjax.train.summary import write_summary

WEIGHTS = ("pretrained", "random")
MODES = ("whole", "frozen")


class Plan(NamedTuple):
    """What a fine-tuning run stands on, resolved from its config.

    Attributes:
      dataset, split: labelled scans only; the training part may be a few subjects.
      task: fitted to the training labels.
      network: constructor keywords; view: the encoder's input in voxels.
      donor: the pretrained run whose encoder is taken over, or None.
      augmentation: of the training views.
    """

    dataset: RecordDataset
    split: Split
    task: Task
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
    plan = plan_finetuning(config)
    blueprint = _blueprint(config, plan)
    folder = RunFolder(workdir)
    with folder.claimed({"kind": "finetune", **to_dict(config)}):
        validate = Validation(plan, blueprint)
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
                _train(config, plan, blueprint, session)
    return folder


def _train(config: Config, plan: Plan, blueprint: Blueprint, session: Session) -> None:
    """Takes the run to its last step and sums it up."""
    update = make_finetune_update(
        blueprint, plan.augmentation, plan.task, seed=config.seed
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


def plan_finetuning(config: Config) -> Plan:
    """Resolves a config to data, task and network.

    Raises:
      InputRefusedError: what is named does not exist or does not fit together.
    """
    need(config, "init", "task", "augment", "head")
    _choose("weights", config.weights, WEIGHTS)
    _choose("mode", config.mode, MODES)
    dataset = open_dataset(config.data.path)
    like = load_run(config.init) if config.init else None
    if like is not None:
        refuse_other_recipe(like, dataset.recipe, config.data.path)
    elif config.weights == "pretrained":
        raise InputRefusedError(
            "init: wanted a pretraining run for weights = 'pretrained', got ''"
        )
    view = like.view if like else tuple(config.view)
    encoder = like.network["encoder"] if like else to_dict(config.encoder)
    augmentation = construct("augment", make_augmentation, view=view, **config.augment)
    refuse_untrainable(dataset, config.data.path, augmentation)
    split = labelled_split(config, dataset)
    if config.weights == "pretrained" and like is not None:
        tested = name_subjects(dataset, split.test)
        refuse_seen_subjects(like, tested, config.data.path)
    task = construct("task", make_task, **config.task)
    labels = dataset.labels(config.task.target)
    task = task.fit([labels[i] for i in split.train])
    network = {
        "encoder": {**encoder, "shape": list(view)},
        "head": to_dict(config.head),
        "outputs": task.outputs,
        "frozen": config.mode == "frozen",
    }
    donor = like if config.weights == "pretrained" else None
    return Plan(dataset, split, task, network, view, donor, augmentation)


def labelled_split(config: Config, dataset: RecordDataset) -> Split:
    """The config's split, without scans that lack the target."""
    labels = dataset.labels(config.task.target)
    split = construct("split", split_scans, dataset=dataset, **config.split)
    known = np.array([label is not None for label in labels])
    parts = Split(*(part[known[part]] for part in split))
    train = few_subjects(
        dataset, parts.train, count=config.data.train_subjects, seed=config.seed
    )
    if not len(train) or not len(parts.val):
        raise InputRefusedError(
            f"{config.data.path}: wanted scans labelled {config.task.target!r} to "
            f"train and to validate on, got {len(train)} and {len(parts.val)}"
        )
    return parts._replace(train=train)


class Validation:
    """The loss on the validation scans, written to the log; lower is better."""

    def __init__(self, plan: Plan, blueprint: Blueprint):
        self.log: Any = None
        self.task = plan.task
        self.volumes = read_volumes(plan.dataset, plan.split.val)
        labels = plan.dataset.labels(plan.task.target)
        targets, weights = plan.task.encode([labels[i] for i in plan.split.val])
        self.targets, self.weights = jnp.asarray(targets), jnp.asarray(weights)
        self.encode = make_encode(blueprint.graphdef, view=plan.view, method="__call__")

    def __call__(self, step: int, state: State) -> float:
        outputs = encode_scans(
            self.encode, state["params"], state["batch_stats"], self.volumes
        )
        loss = float(self.task.loss(jnp.asarray(outputs), self.targets, self.weights))
        self.log.write(step, {"validation/loss": loss})
        return loss


def _blueprint(config: Config, plan: Plan) -> Blueprint:
    frozen = ["encoder"] if plan.network["frozen"] else []
    optimizer = construct(
        "optimizer",
        make_optimizer,
        steps=config.train.steps,
        frozen=frozen,
        **config.optimizer,
    )
    make = partial(make_network, "finetune", plan.network, seed=config.seed)
    return make_blueprint(make, optimizer, construct("mesh", make_mesh, **config.mesh))


def _describe(plan: Plan) -> dict[str, Any]:
    subjects = name_subjects(plan.dataset, plan.split.train, plan.split.val)
    if plan.donor:
        subjects += plan.donor.subjects
    return describe_run(
        kind="finetune",
        network=plan.network,
        view=plan.view,
        recipe=plan.dataset.recipe,
        task=plan.task,
        subjects=subjects,
        data=hash_scans(plan.dataset, plan.split.train),
        donor=plan.donor.checkpoint if plan.donor else "",
    )


def _open_scans(plan: Plan, session: Session, *, seed: int) -> Input:
    return open_input(
        plan.dataset,
        plan.split.train,
        labels=plan.task.encode(plan.dataset.labels(plan.task.target)),
        batch=session.batch,
        seed=seed,
        start_step=session.start,
        mesh=session.mesh,
    )


def _start(blueprint: Blueprint, donor: Run | None) -> State:
    """A fresh state, with the donor's encoder in it; every leaf is accounted for."""
    state = blueprint.initialise()
    if donor is None:
        return state
    for part in ("params", "batch_stats"):
        given = getattr(donor, part).get("encoder", {})
        places = blueprint.shardings[part].get("encoder", {})
        state[part] = {**state[part]}
        if given or places:
            # By way of the host: its places may be those of other processes.
            state[part]["encoder"] = jax.device_put(jax.device_get(given), places)
    return state


def _choose(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputRefusedError(
            f"config.{key}: wanted one of {', '.join(allowed)}, got {value!r}"
        )
