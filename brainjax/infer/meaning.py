"""What an answer means, in the words that a user reads beside it."""

from math import isfinite

from brainjax.evaluate.guards import Guards
from brainjax.tasks import Regression, Survival, Task

RESEARCH = "Research use only: not a medical device, not for any decision on a person."

_AGE = (
    "The prediction is the age that the brain looks like to this network; prediction "
    "minus age, the brain-age gap, is mostly the network's error and its pull to the "
    "mean age, and no diagnosis."
)
_SURVIVAL = (
    "The prediction is a risk that ranks subjects: higher is an earlier event. It is "
    "no time and no probability, and is not to be compared between runs."
)
_NUMBER = "The prediction estimates {target}, for scans like those learnt from."
_CLASS = (
    "A probability says how often {target} was so among scans that look alike to this "
    "network, in data like those learnt from."
)
_NOTHING = "This run has no guards.npz: no interval, and no word on unfamiliar scans."


def meaning(task: Task) -> str:
    """Says in a sentence what a task's prediction is, and what it is not."""
    if isinstance(task, Survival):
        return _SURVIVAL
    if isinstance(task, Regression):
        return (_AGE if task.target == "age" else _NUMBER).format(target=task.target)
    return _CLASS.format(target=task.target)


def guarded(task: Task, guards: Guards | None) -> str:
    """Says in a sentence what the guards of a run promise."""
    if guards is None:
        return _NOTHING
    said = []
    if isfinite(guards.quantile):
        said.append(
            f"Intervals or sets hold the truth for {guards.coverage:.0%} of subjects "
            f"like the {guards.validated} they were fitted to."
        )
    elif not isinstance(task, Survival):
        said.append(f"No interval: only {guards.validated} validation subjects.")
    if guards.reference is not None and isfinite(guards.reference.threshold):
        said.append(
            "in_distribution = no marks scans unlike those of training: do not use "
            "their answers."
        )
    return " ".join(said)


def read_out(task: Task, guards: Guards | None) -> str:
    """Gives the one line that goes with a table of answers."""
    return " ".join(
        part for part in (RESEARCH, meaning(task), guarded(task, guards)) if part
    )
