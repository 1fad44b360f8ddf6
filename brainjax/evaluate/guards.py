"""What stands guard over a run's answers, fitted once and saved beside its checkpoint.

Intervals or sets of classes, calibrated probabilities, and a word on whether a scan
looks like those that were learnt from. Fitted to validation and training scans; they
hold for scans like those, and say nothing of a single person. Research use only.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from brainjax.errors import InputRefusedError
from brainjax.evaluate.calibration import fit_temperature
from brainjax.evaluate.conformal import class_scores, class_sets, conformal_quantile
from brainjax.evaluate.metrics import number_subjects
from brainjax.evaluate.outlying import Reference, fit_reference, outlying_scores
from brainjax.evaluate.regression import Bias, fit_bias
from brainjax.evaluate.sealed import read_sealed, write_sealed
from brainjax.tasks import Classification, Regression, Task
from brainjax.tasks.labels import number

log = logging.getLogger("brainjax")

FORMAT = 1
FILE = "guards.npz"
"""Name of the file in a run's folder."""


@dataclass(frozen=True)
class Guards:
    """What `fit_guards` learnt; None or NaN where there was too little to learn from.

    Attributes:
      task: `to_dict()` of the task they were fitted for.
      checkpoint: hash of the checkpoint whose answers they are for.
      coverage: share of truths that intervals or sets hold.
      validated: validation subjects that they rest on.
      temperature: of a classification; NaN otherwise.
      quantile: half width of the interval, in units, or bound of `class_sets`.
      bias: of a regression's answers, by the truth; None otherwise.
      reference: of the training scans' features.
    """

    task: dict[str, Any]
    checkpoint: str
    coverage: float
    validated: int
    temperature: float
    quantile: float
    bias: Bias | None
    reference: Reference | None

    def probabilities(
        self, task: Classification, outputs: Float[np.ndarray, "n k"]
    ) -> Float[np.ndarray, "n k"]:
        """Gives calibrated probabilities, in the order of the task's classes."""
        return task.probabilities(np.asarray(outputs, np.float64) / self.temperature)

    def interval(
        self, task: Regression, outputs: Float[np.ndarray, "n k"]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Gives the ends of every scan's interval, in units; NaN for none."""
        answers = np.asarray(task.decode(outputs), np.float64)
        return answers - self.quantile, answers + self.quantile

    def sets(
        self, task: Classification, outputs: Float[np.ndarray, "n k"]
    ) -> list[list[str]]:
        """Gives the classes that hold the truth with probability `coverage`."""
        inside = class_sets(task.probabilities(outputs), self.quantile)
        names = np.array(task.classes, object)
        return [names[row].tolist() for row in inside]

    def columns(
        self,
        task: Task,
        outputs: Float[np.ndarray, "n k"],
        features: Float[np.ndarray, "n d"] | None,
    ) -> dict[str, list[Any]]:
        """Gives the columns that guards add to a table of answers.

        coverage with low and high (regression, in units) or prediction_set (classes
        joined by "|"), if there were enough validation subjects; calibrated_<class>;
        ood_score, ood_threshold and in_distribution ("yes" or "no"), if features are
        given as they were for `fit_guards`.

        Raises:
          InputRefusedError: features of another width than those of training.
        """
        found = self._answers(task, outputs)
        if features is not None and self.reference is not None:
            found |= self._distribution(self.reference, np.asarray(features))
        return found

    def _answers(self, task: Task, outputs) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        if np.isfinite(self.quantile):
            found["coverage"] = [self.coverage] * len(outputs)
        if isinstance(task, Regression) and found:
            low, high = self.interval(task, outputs)
            return found | {"low": low.tolist(), "high": high.tolist()}
        if isinstance(task, Classification):
            if found:
                found["prediction_set"] = [
                    "|".join(names) for names in self.sets(task, outputs)
                ]
            calibrated = self.probabilities(task, outputs).T.tolist()
            for name, column in zip(task.classes, calibrated, strict=True):
                found[f"calibrated_{name}"] = column
        return found

    def _distribution(self, reference: Reference, features) -> dict[str, list[Any]]:
        if features.shape[1] != len(reference.mean):
            raise InputRefusedError(
                f"guards: wanted {len(reference.mean)} features a scan, got "
                f"{features.shape[1]}; they belong to another network"
            )
        scores = outlying_scores(reference, features)
        found: dict[str, list[Any]] = {"ood_score": scores.tolist()}
        if np.isfinite(reference.threshold):
            inside = scores <= reference.threshold
            found["ood_threshold"] = [reference.threshold] * len(scores)
            found["in_distribution"] = ["yes" if one else "no" for one in inside]
        return found

    def save(self, path: str | Path) -> None:
        """Writes one file, whole or not at all; the same bytes for the same guards."""
        facts = {
            "format": FORMAT,
            "task": self.task,
            "checkpoint": self.checkpoint,
            "coverage": self.coverage,
            "validated": self.validated,
            "bias": self.bias,
        }
        arrays = {"temperature": self.temperature, "quantile": self.quantile}
        if self.reference is not None:
            arrays |= self.reference._asdict()
        write_sealed(Path(path), facts, arrays)

    @classmethod
    def load(cls, path: str | Path, *, checkpoint: str | None = None) -> "Guards":
        """Reads what `save` wrote; no pickle is ever opened.

        Args:
          path: the file.
          checkpoint: hash of the checkpoint that answers; any if None.

        Raises:
          InputRefusedError: no such file, damaged, or fitted for another checkpoint.
        """
        try:
            guards = cls._read(*read_sealed(Path(path)))
        except (ValueError, KeyError, TypeError) as error:
            raise InputRefusedError(
                f"{path}: wanted the guards of a run, got none that can be read "
                f"({error}); run fine-tuning again"
            ) from None
        if checkpoint is not None and guards.checkpoint != checkpoint:
            raise InputRefusedError(
                f"{path}: wanted guards for checkpoint {checkpoint}, got those of "
                f"{guards.checkpoint or 'none'}; run fine-tuning again"
            )
        return guards

    @classmethod
    def _read(cls, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> "Guards":
        if facts.pop("format") != FORMAT:
            raise ValueError("another format")
        bias = facts.pop("bias")
        numbers = {k: float(v) for k, v in arrays.items() if not v.ndim}
        found: dict[str, Any] = arrays | numbers
        return cls(
            **facts,
            temperature=found.pop("temperature"),
            quantile=found.pop("quantile"),
            bias=None if bias is None else Bias(*bias),
            reference=Reference(**found) if found else None,
        )


def fit_guards(
    task: Task,
    val_outputs: Float[np.ndarray, "m k"],
    val_values: Sequence[Any],
    train_features: Float[np.ndarray, "n d"],
    *,
    coverage: float = 0.9,
    checkpoint: str = "",
    val_subjects: Sequence[Any] | None = None,
    train_subjects: Sequence[Any] | None = None,
) -> Guards:
    """Learns guards; what there is too little for is left out, with a warning.

    Args:
      task: fitted.
      val_outputs: of the network, on the validation scans.
      val_values: their labels, as `task.values` gives them; None where there is none.
      train_features: of the training scans, not augmented, as `features.answer_scans`
        gives them.
      coverage: of intervals and sets, between 0 and 1.
      checkpoint: hash of the checkpoint that gave outputs and features.
      val_subjects, train_subjects: of the scans; every scan its own if None.

    Raises:
      InputRefusedError: a coverage outside 0..1, a label of another type.
    """
    if not 0 < coverage < 1:
        raise InputRefusedError(f"coverage: wanted between 0 and 1, got {coverage}")
    rows = [i for i, value in enumerate(val_values) if value is not None]
    subjects = range(len(val_values)) if val_subjects is None else val_subjects
    groups = number_subjects([subjects[i] for i in rows])
    given = _Validation(
        np.asarray(val_outputs, np.float64)[rows].reshape(-1, task.outputs),
        [val_values[i] for i in rows],
        groups,
        coverage,
    )
    found = _fit_answers(task, given)
    reference = fit_reference(train_features, train_subjects)
    _warn(task, found.quantile, given, reference, len(train_features))
    return Guards(
        task=task.to_dict(),
        checkpoint=checkpoint,
        coverage=coverage,
        validated=len(np.unique(groups)),
        temperature=found.temperature,
        quantile=found.quantile,
        bias=found.bias,
        reference=reference,
    )


class _Validation(NamedTuple):
    outputs: Float[np.ndarray, "m k"]
    values: list[Any]
    groups: Int[np.ndarray, " m"]
    coverage: float


class _Fitted(NamedTuple):
    temperature: float
    quantile: float
    bias: Bias | None


def _fit_answers(task: Task, given: _Validation) -> _Fitted:
    """Learns what depends on the task's kind."""
    outputs, values, groups, coverage = given
    if isinstance(task, Regression):
        truth = np.array([number(value, task.target) for value in values], np.float64)
        answers = np.asarray(task.decode(outputs), np.float64)
        scores = np.abs(answers - truth)
        quantile = conformal_quantile(scores, groups, coverage=coverage)
        return _Fitted(np.nan, quantile, fit_bias(truth, answers))
    if isinstance(task, Classification):
        codes = class_codes(task, values)
        # Of the outputs as they are: the temperature has seen these scans already.
        scores = class_scores(task.probabilities(outputs), codes)
        quantile = conformal_quantile(scores, groups, coverage=coverage)
        return _Fitted(fit_temperature(outputs, codes), quantile, None)
    return _Fitted(np.nan, np.nan, None)


def _warn(
    task: Task,
    quantile: float,
    given: _Validation,
    reference: Reference | None,
    scans: int,
) -> None:
    """Says what answers will lack; a survival task has no interval in any case."""
    bounded = isinstance(task, Regression | Classification)
    if bounded and not np.isfinite(quantile):
        log.warning(
            "guards: wanted %d validation subjects or more for %g %% coverage, got %d; "
            "answers have no interval",
            np.ceil(1 / (1 - given.coverage) - 1e-9) - 1,
            100 * given.coverage,
            len(np.unique(given.groups)),
        )
    if reference is None or not np.isfinite(reference.threshold):
        log.warning(
            "guards: wanted finite features of 3 training subjects or more, got %d "
            "scans; answers do not say whether a scan looks like them",
            scans,
        )


def class_codes(task: Classification, values: Sequence[Any]) -> Int[np.ndarray, " n"]:
    """Gives numbers of known labels' classes; -1 for one that training never saw."""
    place = {name: code for code, name in enumerate(task.classes)}
    return np.array([place.get(name, -1) for name in task.names(values)], np.int64)
