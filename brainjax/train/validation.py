"""What a run is measured by while it learns, and what stands guard over it after."""

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from brainjax.evaluate.features import Answers, answer_scans, make_answer
from brainjax.evaluate.guards import fit_guards
from brainjax.parallel import first_does
from brainjax.train.folder import RunFolder
from brainjax.train.input import read_volumes
from brainjax.train.labelled import Labels
from brainjax.train.restore import load_run
from brainjax.train.state import Blueprint, State
from brainjax.volume.canonical import Stored

MOST_FEATURES = 2000
"""Training scans that guards are fitted to at most, evenly over all of them."""


class Validation:
    """The loss on the validation scans, written to the log; lower is better."""

    def __init__(
        self, labels: Labels, blueprint: Blueprint, view: tuple[int, int, int]
    ):
        self.log: Any = None
        self.task, val = labels.task, labels.split.val
        self.volumes = read_volumes(labels.dataset, val)
        targets, weights = self.task.encode(labels.of(val))
        self.targets, self.weights = jnp.asarray(targets), jnp.asarray(weights)
        self.answer = make_answer(blueprint.graphdef, view=view)

    def __call__(self, step: int, state: State) -> float:
        found = answer_scans(
            self.answer, state["params"], state["batch_stats"], self.volumes
        )
        outputs = jnp.asarray(found.outputs)
        loss = float(self.task.loss(outputs, self.targets, self.weights))
        self.log.write(step, {"validation/loss": loss})
        return loss


def save_guards(folder: RunFolder, labels: Labels, validate: Validation) -> None:
    """Fits guards to the best step of a run, and writes them into its folder.

    Every process of a run calls it; process 0 writes.
    """
    run = load_run(folder.path)
    train = np.unique(labels.split.train)
    places = np.linspace(0, len(train) - 1, min(len(train), MOST_FEATURES))
    train, val = train[places.astype(int)], labels.split.val

    def answer(volumes: Iterable[Stored]) -> Answers:
        return answer_scans(validate.answer, run.params, run.batch_stats, volumes)

    learnt = answer(labels.dataset.read(int(index)) for index in train)
    held = answer(validate.volumes)
    guards = fit_guards(
        labels.task,
        np.asarray(held.outputs),
        labels.of(val),
        np.asarray(learnt.features),
        checkpoint=run.checkpoint,
        val_subjects=labels.subjects(val),
        train_subjects=labels.subjects(train),
    )
    first_does(lambda: guards.save(folder.guards))
