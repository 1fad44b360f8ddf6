"""What a checkpoint may hold, which steps are kept, and what may be removed."""

from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from brainjax.errors import InputRefusedError


def check_keys(state: Any) -> None:
    """Refuses keys that would come back as others: Orbax writes 0 as "0"."""
    for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]:
        for part in path:
            key = getattr(part, "key", "")
            if not isinstance(key, str):
                name = jax.tree_util.keystr(path)
                raise TypeError(f"state{name}: wanted string keys, got {key!r}")


def check_ours(folder: Path) -> None:
    """Refuses to remove a folder that merely has a number for its name."""
    names = {path.name for path in folder.iterdir()}
    if names and not names & {"_CHECKPOINT_METADATA", "commit_success.txt", "state"}:
        raise InputRefusedError(
            f"{folder}: wanted a checkpoint, got a folder with {min(names)}"
        )


def preservation(keep: int, best: str | None) -> Any:
    """Gives Orbax's policy: the newest `keep`, and the "min" or "max" score."""
    policies = ocp.training.preservation_policies
    chosen: list[Any] = [policies.LatestN(keep)]
    if best:
        # BestN keeps the last after sorting, so "min" sorts downwards.
        chosen.append(
            policies.BestN(
                get_metric_fn=lambda metrics: metrics["score"],
                reverse=best == "min",
                n=1,
                keep_checkpoints_without_metrics=False,
            )
        )
    return policies.AnyPreservationPolicy(chosen)
