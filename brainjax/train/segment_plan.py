"""What a segmentation run stands on: data, task, network and where it begins."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from brainjax.augment.labels import (
    LabelledAugmentation,
    make_label_augmentation,
)
from brainjax.augment.synthesis import make_synthesis
from brainjax.configuration import Config, choose, construct, need, to_dict
from brainjax.errors import InputRefusedError
from brainjax.models.encoded import triple
from brainjax.models.segmenters import settings_of
from brainjax.optim import make_optimizer
from brainjax.parallel import make_mesh
from brainjax.records.cases import open_cases
from brainjax.records.segmentations import Segmentations
from brainjax.tasks import Segmentation, make_task
from brainjax.train.ema import start_ema, with_ema
from brainjax.train.restore import (
    Run,
    encoder_params,
    load_run,
    make_network,
    refuse_other_recipe,
    refuse_seen_subjects,
)
from brainjax.train.scans import Split, name_subjects, split_scans
from brainjax.train.segmenter import ENCODER
from brainjax.train.selection import Selection, select
from brainjax.train.state import Blueprint, State, make_blueprint

log = logging.getLogger("brainjax")

MODES = ("whole", "frozen")
WEIGHTS = ("pretrained", "random")
HEADS = {"out", "deep_outs"}
"""Parts of a segmenter that give logits."""

MOST_UNPAINTED = 0.5
"""Share of a scan's labelled voxels that may have no tissue where tissues are painted:
more, and the tissues are of another numbering."""


class SegmentPlan(NamedTuple):
    """What a segmentation run stands on, resolved from its config.

    Attributes:
      dataset: volumes with the parts of their label maps.
      task: what they are; split: labelled scans only; values: the weight of every scan.
      selection: what config.data says.
      network: constructor keywords; view: the network's input in voxels.
      donor: the pretrained run whose encoder is taken over, or the segmentation run
        whose whole network is; or None.
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


def plan_segmenting(config: Config) -> SegmentPlan:
    """Resolves a config to data, task and network.

    Raises:
      InputRefusedError: what is named does not exist or does not fit together.
    """
    need(config, "init", "segmenter", "augment", "synthesis", "ema")
    choose("weights", config.weights, WEIGHTS)
    choose("mode", config.mode, MODES)
    if not 0 <= config.ema < 1:
        raise InputRefusedError(f"config.ema: wanted 0 to under 1, got {config.ema}")
    selection = construct("data", Selection, **config.data).check()
    task = construct("task", make_task, **config.task)
    cases = open_cases(selection.path, selection.sequences)
    dataset = Segmentations(cases, task.numbering())
    like = _find_run(config, dataset)
    donor = like if config.weights == "pretrained" else None
    view = _view(config.view) or (like.view if like else dataset.shape)
    split, values = _split(config, dataset, task, selection)
    if donor is not None:
        tested = name_subjects(dataset, split.test)
        refuse_seen_subjects(donor, tested, selection.path)
    words = to_dict(config.segmenter)
    if like is not None and like.kind == "segment":
        words = like.network["segmenter"]
    elif like is not None:
        if "encoder" not in settings_of(words["name"]):
            raise InputRefusedError(
                f"config.segmenter.name: wanted one with an encoder for that of "
                f"{config.init}, such as unetr, got {words['name']!r}"
            )
        words["encoder"] = {**like.network["encoder"], "shape": list(view)}
    network = {
        "segmenter": {**words, "shape": list(view)},
        "outputs": task.outputs,
        "frozen": config.mode == "frozen",
        "sequences": list(selection.sequences),
    }
    augmentation = plan_augmentation(config, task, view)
    _check_tissues(dataset, split, task, augmentation)
    return SegmentPlan(
        *(dataset, task, split, values, selection, network, view, donor),
        augmentation=augmentation,
        ema=float(config.ema),
    )


def _find_run(config: Config, dataset: Segmentations) -> Run | None:
    """Gives the run that config.init names: the network is as its encoder, or as it."""
    if not config.init:
        if config.weights == "pretrained":
            raise InputRefusedError(
                "init: wanted a pretraining run for weights = 'pretrained', got ''"
            )
        return None
    like = load_run(config.init)
    refuse_other_recipe(like, dataset.recipe, config.data.path)
    if dataset.channels > 1 and like.kind != "segment":
        raise InputRefusedError(
            f"config.data.sequences: wanted one for the encoder of {config.init}, got "
            f"{dataset.channels}"
        )
    return like


def _split(
    config: Config, dataset: Segmentations, task: Segmentation, selection: Selection
) -> tuple[Split, Sequence[Any]]:
    """Gives the labelled scans by part, and the weight of every scan."""
    for key in ("train_per_class", "balance", "balance_after"):
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
      InputRefusedError: an unknown strength, families that are not the tissues, or
        mirror images of a structure that has no other side.
    """
    contrasts = None
    if config.synthesis:
        contrasts = construct("synthesis", make_synthesis, **config.synthesis)
        if contrasts.tissues != len(task.tissues):
            raise InputRefusedError(
                f"config.synthesis.families: wanted one for each of the "
                f"{len(task.tissues)} of config.task.tissues, got {contrasts.tissues}"
            )
    made = construct(
        "augment",
        make_label_augmentation,
        view=view,
        contrasts=contrasts,
        **config.augment,
    )
    if made.base.flip and task.one_sided():
        raise InputRefusedError(
            f"config.augment.flip: wanted 0 where {task.one_sided()[0]} has no other "
            f"side among the classes, got {made.base.flip}"
        )
    return made


def _view(given: Any) -> tuple[int, int, int] | None:
    """Gives the view of a config; None where it states none."""
    sizes = (given,) if isinstance(given, int) else tuple(given)
    return triple(sizes[0] if len(sizes) == 1 else sizes, "view") if sizes else None


def _check_tissues(
    dataset: Segmentations,
    split: Split,
    task: Segmentation,
    augmentation: LabelledAugmentation,
) -> None:
    """Refuses tissues of another numbering than the label maps', by the first scan."""
    if augmentation.contrasts is None:
        return
    index = int(split.train[0])
    members = task.partition.regions.any(axis=1).astype(np.int64)
    counts = np.bincount(dataset.read(index)[-1].ravel(), minlength=256)
    counts = counts[: members.size] * members
    share = counts[task.partition.tissues == 0].sum() / max(counts.sum(), 1)
    if share > MOST_UNPAINTED:
        raise InputRefusedError(
            f"config.task.tissues: wanted the ids of {dataset.rows[index]['source']}, "
            f"got none for {share:.0%} of its labelled voxels"
        )


def plan_blueprint(config: Config, plan: SegmentPlan) -> Blueprint:
    """Plans the state of a segmentation run, without allocating it."""
    words = {"frozen": [], **config.optimizer}
    if words["frozen"]:
        raise InputRefusedError(
            "config.optimizer.frozen: wanted none for a segmentation (config.mode "
            f"holds the encoder still), got {list(words['frozen'])}"
        )
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


def start_state(blueprint: Blueprint, plan: SegmentPlan) -> State:
    """A fresh state, with what is the donor's in it; every leaf is accounted for."""
    state, donor = blueprint.initialise(), plan.donor
    if donor is None:
        return state
    if donor.kind == "segment":
        for part in ("params", "batch_stats"):
            given = _taken_over(donor, part, state[part])
            state[part] = jax.device_put(given, blueprint.shardings[part])
        return start_ema(state) if plan.ema else state
    given = {"params": encoder_params(donor)}
    given["batch_stats"] = donor.batch_stats.get("encoder", {})
    for part, tree in given.items():
        segmenter = state[part].get("segmenter", {})
        places = blueprint.shardings[part].get("segmenter", {}).get("encoder", {})
        if tree or places:
            # By way of the host: its places may be those of other processes.
            encoder = jax.device_put(jax.device_get(tree), places)
            state[part] = {"segmenter": {**segmenter, "encoder": encoder}}
    return start_ema(state) if plan.ema else state


def _taken_over(donor: Run, part: str, fresh: Any) -> Any:
    """Gives a donor's network; of other outputs, the last layers stay as they begin.

    Raises:
      InputRefusedError: the donor's first layer is of other sequences, or it has other
        levels of deep supervision.
    """
    given: dict[tuple, Any] = flatten_dict(jax.device_get(getattr(donor, part)))  # type: ignore[assignment]
    wanted: dict[tuple, Any] = flatten_dict(fresh)  # type: ignore[assignment]
    shapes = {key: np.shape(leaf) for key, leaf in given.items()}
    other = {key for key in wanted if shapes.get(key) != wanted[key].shape}
    outs = {key for key in other if HEADS & set(key)}
    if other - outs:
        raise InputRefusedError(
            f"config.init: wanted a run of as many sequences as this one, got "
            f"{len(donor.network['sequences']) or 1} of {donor.folder}"
        )
    if outs:
        log.info("segment: %s gives all but its outputs", donor.folder)
    return unflatten_dict(
        {key: (wanted if key in outs else given)[key] for key in wanted}
    )
