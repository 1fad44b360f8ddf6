"""A task of any column: what its values are says whether it has numbers or classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from brainjax.tasks.classification import Classification
from brainjax.tasks.labels import is_number, known
from brainjax.tasks.regression import Regression
from brainjax.tasks.stored import Labels

MOST_CLASSES = 10
"""So many different whole numbers are classes still."""


@dataclass(frozen=True)
class Auto:
    """A column that `fit` makes a regression or a classification; never survival."""

    target: str
    unit: str = ""

    name: ClassVar[str] = "auto"

    @classmethod
    def make(cls, *, target: str, unit: str = "") -> "Auto":
        """Makes an unfitted task."""
        return cls(target, unit)

    @property
    def columns_read(self) -> tuple[str, ...]:
        """Columns of the table that it needs."""
        return (self.target,)

    def values(self, labels: Labels) -> list[Any]:
        """Gives the label of every scan, None where it is unknown.

        Raises:
          InputRefusedError: there is no such column.
        """
        return labels(self.target)

    def fit(self, values: Sequence[Any]) -> Regression | Classification:
        """Learns the task that suits the training labels.

        Numbers that are not whole, or of which more than `MOST_CLASSES` differ, are a
        regression; anything else is a classification.

        Raises:
          InputRefusedError: as that task does.
        """
        found = known(values)
        numbers = [value for value in found if is_number(value)]
        many = len(set(numbers)) > MOST_CLASSES or any(v != v // 1 for v in numbers)
        make = Regression.make if many else Classification.make
        return make(target=self.target, unit=self.unit).fit(values)
