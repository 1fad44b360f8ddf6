"""Which scans a run trains on, validates on and never sees, by subject."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from brainjax.augment import Augmentation
from brainjax.errors import InputRefusedError
from brainjax.records.splits import folds_by_subject, split_by_subject
from brainjax.records.store import RecordDataset
from brainjax.volume.exact import check_trainable


class Split(NamedTuple):
    """Indices of records; no subject is in two of the three."""

    train: Int[np.ndarray, " n"]
    val: Int[np.ndarray, " m"]
    test: Int[np.ndarray, " k"]


def split_scans(
    dataset: RecordDataset,
    *,
    seed: int = 0,
    val: float = 0.1,
    test: float = 0.2,
    stratify: str = "",
    folds: int = 0,
    fold: int = 0,
    without: Sequence[str] = (),
) -> Split:
    """Splits a prepared data set by subject; the same for every run with these words.

    Args:
      dataset: a prepared data set.
      seed: of the draw.
      val: share of subjects for validation (with folds: of those not in the test fold).
      test: share of held-out subjects; with folds, the fold replaces it.
      stratify: name of a label to balance the parts by; none if empty.
      folds: number of cross-validation folds, 0 for a single split.
      fold: which of them is held out, from 0.
      without: names of subjects that no part gets, such as those pretrained on.

    Raises:
      InputRefusedError: shares outside 0..1, an unknown label, too few subjects.
    """
    left_out = frozenset(without)
    pool = np.flatnonzero([row["subject"] not in left_out for row in dataset.rows])
    subjects = [str(dataset.subject_ids[i]) for i in pool]
    named = dataset.labels(stratify) if stratify else None
    labels = None if named is None else [named[i] for i in pool]
    words = {"seed": seed, "val": val, "test": test, "folds": folds, "fold": fold}
    return Split(*(pool[part] for part in _split(subjects, labels, **words)))


def _split(
    subjects: list[str],
    labels: list[Any] | None,
    *,
    seed: int,
    val: float,
    test: float,
    folds: int,
    fold: int,
) -> Split:
    """Splits scans by subject; see `split_scans`."""
    if not folds:
        if not (val >= 0 and test >= 0 and val + test < 1):
            raise InputRefusedError(
                f"split: wanted val + test under 1, got {val} + {test}"
            )
        fractions = {"train": 1 - val - test, "val": val, "test": test}
        parts = split_by_subject(
            subjects, seed=seed, fractions=fractions, stratify=labels
        )
        return Split(*(parts[name] for name in Split._fields))
    if not 0 <= fold < folds:
        raise InputRefusedError(f"split.fold: wanted 0 to {folds - 1}, got {fold}")
    numbers = folds_by_subject(subjects, seed=seed, folds=folds, stratify=labels)
    rest = np.flatnonzero(numbers != fold)
    parts = split_by_subject(
        [subjects[i] for i in rest],
        seed=seed,
        fractions={"train": 1 - val, "val": val},
        stratify=None if labels is None else [labels[i] for i in rest],
    )
    held_out = np.flatnonzero(numbers == fold)
    return Split(rest[parts["train"]], rest[parts["val"]], held_out)


def few_subjects(
    dataset: RecordDataset,
    indices: Int[np.ndarray, " n"],
    *,
    count: int,
    seed: int,
    draw: int = 0,
) -> Int[np.ndarray, " m"]:
    """Draws the scans of `count` subjects out of `indices`; all of them for 0."""
    ids = dataset.subject_ids[indices]
    present = np.unique(ids)
    if not count:
        return indices
    if count > len(present):
        raise InputRefusedError(
            f"data.train_subjects: wanted {count}, the split has {len(present)}"
        )
    # The first draw is the one there was before there were others.
    key = [seed, count, draw] if draw else [seed, count]
    drawn = np.random.default_rng(key).permutation(present)[:count]
    return indices[np.isin(ids, drawn)]


def refuse_untrainable(
    dataset: RecordDataset, source: str, augmentation: Augmentation
) -> None:
    """Raises InputRefusedError where an augmentation would spoil an exact recipe."""
    orientations = [row.get("orientation") or "unstated" for row in dataset.rows]
    check_trainable(
        dataset.recipe, source, orientations=orientations, flip=augmentation.flip
    )


def name_subjects(dataset: RecordDataset, *parts: Int[np.ndarray, " n"]) -> list[str]:
    """Gives the subjects of some scans, by name, each once."""
    indices = np.concatenate(parts)
    return sorted({dataset.rows[int(index)]["subject"] for index in indices})


def hash_scans(dataset: RecordDataset, indices: Int[np.ndarray, " n"]) -> str:
    """Gives 12 hex characters that change with any volume, or their order."""
    codes = [dataset.rows[int(index)]["codes_sha256"] for index in indices]
    return hashlib.sha256("".join(codes).encode()).hexdigest()[:12]


def hash_labelled(dataset: RecordDataset, indices: Int[np.ndarray, " n"]) -> str:
    """Gives 12 hex characters that change with any volume, map, or their order."""
    maps = [str(dataset.rows[int(i)].get("label_map_sha256")) for i in indices]
    both = "".join([hash_scans(dataset, indices), *maps])
    return hashlib.sha256(both.encode()).hexdigest()[:12]
