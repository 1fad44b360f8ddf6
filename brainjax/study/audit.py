"""Leaks of a run: what its test subjects share with what it learnt from."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from brainjax.checkpoint import Checkpoints
from brainjax.configuration import construct
from brainjax.errors import InputRefusedError
from brainjax.records.cases import Cases, open_cases
from brainjax.records.store import RecordDataset
from brainjax.study.confounding import LEVEL, STRENGTH, associate, scan_properties
from brainjax.study.duplicates import Scans, Twins, near_twins, same_voxels
from brainjax.tasks import make_task
from brainjax.train.folder import RunFolder, read_json
from brainjax.train.restore import seen_among
from brainjax.train.scans import Split, split_scans

SHOWN = 3
"""Examples in a line."""


class Finding(NamedTuple):
    """One line of an audit: what was looked at, whether it leaks, what was found."""

    what: str
    leak: bool
    text: str


class Audited(NamedTuple):
    """What an audit knows of a run.

    Attributes:
      path: of the run; config: of it.
      dataset, split: as the run split it; None where it has no data of its own.
      learnt: names of subjects its checkpoints say that it learnt from.
    """

    path: Path
    config: dict
    dataset: RecordDataset | None
    split: Split | None
    learnt: list[str]


def audit_run(path: str | Path) -> list[Finding]:
    """Looks for leaks of one run, following it to the runs it started from.

    Raises:
      InputRefusedError: not a run, or its data set is gone.
    """
    run = open_run(Path(path))
    if run.dataset is None or run.split is None:
        text = f"a converted run: no test subjects here, {len(run.learnt)} learnt from"
        return [Finding("subjects", False, text)]
    donors = _donors(run)
    found = [*_subjects(run, donors), *_duplicates(run, donors)]
    return found + _confounders(run)


def open_run(path: Path) -> Audited:
    """Reads what an audit needs of a run; no array is touched.

    Raises:
      InputRefusedError: not a run, or its data set is gone.
    """
    folder = RunFolder(path)
    config = read_json(folder.config)
    learnt = []
    if folder.checkpoints.is_dir():
        learnt = Checkpoints(folder.checkpoints).read_extra()["subjects"]
    if "data" not in config:
        return Audited(path, config, None, None, learnt)
    data = config["data"]
    cases = open_cases(data["path"], tuple(data.get("sequences") or ()))
    split = construct("split", split_scans, dataset=cases, **config["split"])
    if isinstance(cases, Cases):
        # Cases are split; what is compared are their scans.
        split = Split(*(_scans_of(cases, part) for part in split))
        return Audited(path, config, cases.scans, split, learnt)
    return Audited(path, config, cases, split, learnt)


def _scans_of(cases: Cases, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    records = cases.records[indices].ravel()
    return records[records >= 0]


def _donors(run: Audited) -> list[Audited]:
    """The runs it started from that are still there, the nearest first."""
    found, init = [], run.config.get("init") or ""
    pretrained = run.config.get("weights", "pretrained") == "pretrained"
    while pretrained and init and (Path(init) / "config.json").is_file():
        try:
            found.append(open_run(Path(init)))
        except InputRefusedError:
            break  # its data set is gone; its subjects are in the run's own list
        init = found[-1].config.get("init") or ""
    return found


def _names(run: Audited, *parts: str) -> set[str]:
    assert run.dataset is not None
    assert run.split is not None
    indices = [i for part in parts for i in getattr(run.split, part)]
    return {run.dataset.rows[int(i)]["subject"] for i in indices}


def _subjects(run: Audited, donors: list[Audited]) -> list[Finding]:
    test, own = _names(run, "test"), _names(run, "train", "val")
    before = {s for donor in donors for s in donor.learnt}
    for donor in donors:
        before |= _names(donor, "train", "val") if donor.split is not None else set()
    # What the checkpoint says counts too: data or split may have changed since.
    checks = [
        ("subjects in test and in training or validation", own),
        ("subjects in test and learnt from by the checkpoint", set(run.learnt)),
        ("subjects in test and in pretraining", before),
    ]
    found = []
    for what, others in checks:
        if not others:
            continue
        shared = sorted(seen_among(test, others))
        counts = f"{len(test)} tested, {len(others)} learnt from"
        found.append(_finding(what, shared, counts))
    found.append(_alike(test, own | before | set(run.learnt)))
    return found


def _alike(test: set[str], others: set[str]) -> Finding:
    """Names that differ only in how they are written: SUB-A1 and a1."""
    written: dict[str, str] = {_plain(name): name for name in others}
    shared = [
        f"{name} and {written[_plain(name)]}"
        for name in sorted(test - others)
        if _plain(name) in written
    ]
    return _finding("subjects written in two ways", shared, f"{len(test)} tested")


def _plain(name: str) -> str:
    kept = "".join(c for c in name.lower() if c.isalnum() or c == "#")
    return kept.removeprefix("sub")


def _duplicates(run: Audited, donors: list[Audited]) -> list[Finding]:
    assert run.dataset is not None
    assert run.split is not None
    tested = Scans(run.dataset, [int(i) for i in run.split.test])
    same, near, count = [], [], 0
    for other in (run, *donors):
        if other.dataset is None or other.split is None:
            continue
        indices = np.concatenate([other.split.train, other.split.val])
        learnt = Scans(other.dataset, [int(i) for i in indices])
        count += len(indices)
        same += same_voxels(tested, learnt)
        if other.dataset.shape == run.dataset.shape:
            near += near_twins(tested, learnt)
    counts = f"{len(tested.indices)} tested scans, {count} learnt from"
    return [
        _finding("same voxels under two names", _pairs(same), counts),
        _finding("nearly the same voxels under two names", _pairs(near), counts),
    ]


def _pairs(twins: Sequence[Twins]) -> list[str]:
    return [
        f"{twin.tested['source']} is {twin.learnt['source']}"
        + (f" (correlation {twin.alike:.2f})" if twin.alike < 1 else "")
        for twin in twins
    ]


def _confounders(run: Audited) -> list[Finding]:
    """Whether the label could be read from how the scans were made."""
    if "task" not in run.config:
        return []
    assert run.dataset is not None
    assert run.split is not None
    task = make_task(**run.config["task"])
    labels = _plain_values(task.values(run.dataset.labels))
    known = [int(i) for part in run.split for i in part if labels[int(i)] is not None]
    rows = [run.dataset.rows[i] for i in known]
    wanted = run.config["data"].get("sequences") or []
    properties = scan_properties(rows)
    # A case of several sequences has all of them; and a label is not its own cause.
    for name in (task.target, *(["sequence"] if wanted else [])):
        properties.pop(name, None)
    values, subjects = [labels[i] for i in known], [row["subject"] for row in rows]
    tests = [associate(k, v, values, subjects) for k, v in properties.items()]
    found = [test for test in tests if test is not None]
    if not found:
        text = "no site, sequence or spacing that varies among the labelled scans"
        return [Finding(f"{task.target} by how scans were made", False, text)]
    level = LEVEL / len(found)
    return [
        Finding(
            f"{task.target} by {test.what}",
            test.p <= level and test.strength >= STRENGTH,
            f"{test.words}" + (" goes with the label" if test.p <= level else ""),
        )
        for test in found
    ]


def _plain_values(values: Sequence) -> list:
    """Labels as one value each: of survival, whether the event came."""
    return [
        value if not isinstance(value, tuple) else str(bool(value[1]))
        for value in values
    ]


def _finding(what: str, shared: Sequence[str], counts: str) -> Finding:
    if not shared:
        return Finding(what, False, f"none ({counts})")
    more = "" if len(shared) <= SHOWN else f" and {len(shared) - SHOWN} more"
    return Finding(
        what, True, f"{len(shared)}: {', '.join(shared[:SHOWN])}{more} ({counts})"
    )


def show_audit(path: str | Path, found: Sequence[Finding]) -> int:
    """Prints one line a check; gives the number of leaks."""
    leaks = sum(finding.leak for finding in found)
    verdict = f"{leaks} leak{'' if leaks == 1 else 's'}" if leaks else "no leak found"
    print(f"{path}: {len(found)} checks, {verdict}")
    for finding in found:
        print(
            f"  {'LEAK ' if finding.leak else 'clean'}  {finding.what}: {finding.text}"
        )
    return leaks
