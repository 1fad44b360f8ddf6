"""Whether the label could be read from how a scan was made: site, sequence, spacing."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from brainjax.tasks.labels import is_number

SITES = (
    *("site", "site_id", "scanner", "scanner_id", "centre", "center", "hospital"),
    *("institution", "manufacturer", "vendor", "model", "field_strength", "protocol"),
    *("cohort", "dataset", "batch", "magneticfieldstrength", "manufacturersmodelname"),
)
"""Columns of a table that say how or where a scan was made, in lower case."""

PERMUTATIONS = 2000
SEED = 0
LEVEL = 0.01
"""Of all tests of a run together, by Bonferroni."""
STRENGTH = 0.2
"""Associations weaker than this are named, and no leak."""
MOST_CLASSES = 10

Codes = Int[np.ndarray, " n"]


class Association(NamedTuple):
    """How well a label and a property of the scans go together.

    Attributes:
      what: the property.
      measure: name of the strength, in words.
      strength: 0 to 1.
      p: of permuted labels, whole subjects at a time.
      n: scans.
    """

    what: str
    measure: str
    strength: float
    p: float
    n: int

    @property
    def words(self) -> str:
        """For readers."""
        return f"{self.what}: {self.measure} (p = {self.p:.2g}, {self.n} scans)"


def scan_properties(rows: Sequence[dict]) -> dict[str, list[Any]]:
    """Gives what the manifest knows of how scans were made, by name; what varies."""
    names = dict.fromkeys(key for row in rows for key in row["labels"])
    found = {
        name: [row["labels"].get(name) for row in rows]
        for name in names
        if name.lower() in SITES
    }
    found["sequence"] = [row["sequence"] for row in rows]
    for name, give in (("finest", min), ("coarsest", max)):
        sides = [row.get("original_spacing") for row in rows]
        found[f"{name} spacing"] = [s and round(float(give(s)), 2) for s in sides]
    found["orientation"] = [row.get("orientation") for row in rows]
    found["stored type"] = [row.get("dtype") for row in rows]
    return {k: v for k, v in found.items() if len({x for x in v if x is not None}) > 1}


def associate(
    what: str, made: Sequence[Any], labels: Sequence[Any], subjects: Sequence[str]
) -> Association | None:
    """Measures how well a property and a label go together; None where neither varies.

    Words are classes; numbers of more than ten values are taken by their ranks. Two
    classes against a number are an AUC, classes against classes Cramér's V, numbers
    against numbers Spearman's correlation, several classes against a number the
    correlation ratio of its ranks.
    """
    known = [
        i for i, pair in enumerate(zip(made, labels, strict=True)) if None not in pair
    ]
    ours, theirs = [made[i] for i in known], [labels[i] for i in known]
    if len(set(ours)) < 2 or len(set(theirs)) < 2:
        return None
    x, y = _as_variable(ours), _as_variable(theirs)
    measure, strength = _measure(x, y)
    value = strength(x.values, y.values)
    drawn = _permuted(strength, x, y, [subjects[i] for i in known])
    p = (1 + int((drawn >= value - 1e-12).sum())) / (1 + len(drawn))
    return Association(what, measure(value), value, p, len(known))


class _Variable(NamedTuple):
    """Ranks 0 to 1 of a number, or class codes."""

    values: np.ndarray
    numeric: bool


def _as_variable(values: list[Any]) -> _Variable:
    if all(is_number(v) for v in values) and len(set(values)) > MOST_CLASSES:
        from scipy.stats import rankdata

        return _Variable(rankdata(values) / len(values), True)
    names = sorted({str(v) for v in values})
    return _Variable(np.array([names.index(str(v)) for v in values]), False)


def _measure(x: _Variable, y: _Variable) -> tuple[Callable, Callable]:
    """The measure in words (of its value), and the function of both variables."""
    if x.numeric and y.numeric:
        return (lambda v: f"Spearman {v:.2f}"), _spearman
    if not x.numeric and not y.numeric:
        return (lambda v: f"Cramér's V {v:.2f}"), cramers_v
    turned = _ratio if y.numeric else (lambda a, b: _ratio(b, a))
    classes = x if y.numeric else y
    if len(np.unique(classes.values)) > 2:
        return (lambda v: f"correlation ratio {v:.2f}"), turned
    distance = _auc if y.numeric else (lambda a, b: _auc(b, a))
    return (lambda v: f"AUC {0.5 + v / 2:.2f}"), distance


def _permuted(
    strength: Callable, x: _Variable, y: _Variable, subjects: list[str]
) -> Float[np.ndarray, " p"]:
    """The strength after the labels were dealt out anew.

    Where all scans of a subject have one label, subjects swap theirs; else scans do.
    """
    groups = np.unique(subjects, return_inverse=True)[1]
    count = int(groups.max()) + 1
    first = np.array([y.values[np.argmax(groups == g)] for g in range(count)])
    generator = np.random.default_rng(SEED)
    by_subject = np.array_equal(first[groups], y.values)
    pool = first if by_subject else y.values
    drawn = []
    for _ in range(PERMUTATIONS):
        dealt = generator.permutation(pool)
        drawn.append(strength(x.values, dealt[groups] if by_subject else dealt))
    return np.array(drawn)


def cramers_v(x: Codes, y: Codes) -> float:
    """Cramér's V of two classifications: 0 independent, 1 one tells the other."""
    table = np.zeros((int(x.max()) + 1, int(y.max()) + 1))
    np.add.at(table, (x, y), 1)
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    smaller = min(table.shape) - 1
    if smaller < 1:
        return 0.0
    square = ((table - expected) ** 2 / expected).sum() / table.sum()
    return float(np.sqrt(square / smaller))


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(abs(np.corrcoef(x, y)[0, 1]))


def _ratio(classes: Codes, ranks: np.ndarray) -> float:
    """The correlation ratio: the share of spread between classes, as its root."""
    counts = np.bincount(classes)
    present = counts > 0
    means = np.bincount(classes, ranks)[present] / counts[present]
    between = (counts[present] * (means - ranks.mean()) ** 2).sum()
    return float(np.sqrt(between / max(((ranks - ranks.mean()) ** 2).sum(), 1e-30)))


def _auc(classes: Codes, ranks: np.ndarray) -> float:
    """|2 AUC - 1| of a number between two classes."""
    from scipy.stats import rankdata

    ours = classes == classes.max()
    m, n = int(ours.sum()), int((~ours).sum())
    area = (rankdata(ranks)[ours].sum() - m * (m + 1) / 2) / max(m * n, 1)
    return float(abs(2 * area - 1))
