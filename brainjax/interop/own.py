"""Reads back what `export` wrote, exactly: beside the arrays lies a description."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainjax.errors import InputRefusedError
from brainjax.interop.account import Row
from brainjax.interop.files import TensorFile, open_tensors
from brainjax.interop.networks import Network, add_head, as_two, read_network
from brainjax.interop.statement import Statement
from brainjax.interop.trees import unflatten
from brainjax.tasks import Task, task_from_dict
from brainjax.train.restore import NETWORKS
from brainjax.volume.recipe import AnyRecipe, recipe_from_dict

FACT = "brainjax"
"""Name of the description among a file's facts."""

MAX_TEXT = 2**22

MONAI_NAMED = ("vit", "resnet", "segresnet", "densenet")
"""Encoders that `export` writes under MONAI's (or nidl's) names; others keep ours."""


class Description(NamedTuple):
    """What `export` said of a run.

    Attributes:
        kind: of the run; network: constructor keywords; recipe; task, if any.
        checkpoint: that the arrays are of.
        subjects: hashed names of those it learnt from.
    """

    kind: str
    network: dict[str, Any]
    recipe: AnyRecipe
    task: Task | None
    checkpoint: str
    subjects: list[str]


def read_description(file: TensorFile) -> Description | None:
    """Gives the description, None where another package wrote the file.

    Raises:
        InputRefusedError: there is one, and it is damaged.
    """
    text = file.facts.get(FACT)
    if text is None:
        return None
    with _damage_is_refused(file):
        if len(text) > MAX_TEXT:
            raise ValueError(f"{len(text)} letters")
        given = json.loads(text)
        if given["kind"] not in NETWORKS:
            raise ValueError(f"kind {given['kind']!r}")
        return Description(
            kind=given["kind"],
            network={**given["network"], "encoder": {**given["network"]["encoder"]}},
            recipe=recipe_from_dict(given["recipe"]),
            task=task_from_dict(given["task"]) if given["task"] else None,
            checkpoint=str(given["checkpoint"]),
            subjects=[str(name) for name in given["subjects"]],
        )


def read_own(
    file: TensorFile, description: Description, statement: Statement
) -> Network:
    """Reads what `export` wrote; the head of MONAI's naming lies in a file beside it.

    Raises:
        InputRefusedError: the arrays are not what the description says, or something
            is stated that it says already.
    """
    for word in ("task", "origin", "settings", "prefix"):
        if getattr(statement, word):
            raise InputRefusedError(
                f"{file.path}: wanted no statement of the {word}: brainjax wrote this "
                "file, and it says it all"
            )
    with _damage_is_refused(file):
        network = _encoder_or_more(file, description, statement)
        if description.kind == "finetune":
            network = _with_head(file, description, network)
        return network._replace(origin="brainjax")


def _encoder_or_more(
    file: TensorFile, description: Description, statement: Statement
) -> Network:
    settings = dict(description.network["encoder"])
    name = settings.pop("name", "vit")
    if description.kind == "segmentation":
        settings |= {k: v for k, v in description.network.items() if k != "encoder"}
        return read_network(file, statement._replace(origin="monai", settings=settings))
    if name in MONAI_NAMED:
        origin = "nidl" if is_nidl(name, settings) else "monai"
        return read_network(file, statement._replace(origin=origin, settings=settings))
    if statement.pool or statement.shape or statement.patch:
        raise InputRefusedError(
            f"{file.path}: encoder {name} takes no --pool, --shape or --patch"
        )
    trees = unflatten({key: file.read(key) for key in file.tensors})
    stats = trees.get("batch_stats", {})
    return Network(
        "encoder",
        {"encoder": {"name": name, **settings}},
        {"encoder": trees["params"]},
        {"encoder": stats} if stats else {},
        "brainjax",
        [Row(key, info.shape, "mapped", "") for key, info in file.tensors.items()],
    )


def is_nidl(name: str, keywords: Mapping[str, Any]) -> bool:
    """Whether a ViT has what nidl's has and MONAI's has not."""
    return name == "vit" and bool(
        keywords.get("registers") or keywords.get("prefix_positions")
    )


def _with_head(file: TensorFile, description: Description, network: Network) -> Network:
    """Sets the head as it was; without its file the encoder's features are left."""
    keywords = description.network
    if network.kind == "encoder":
        path = _head_path(file)
        if not path.is_file():
            row = Row(path.name, (), "ignored", "not beside the file: features only")
            return network._replace(rows=[*network.rows, row])
        beside = open_tensors(path)
        other = read_description(beside)
        if other is None or other.checkpoint != description.checkpoint:
            raise InputRefusedError(
                f"{path}: wanted the head of {description.checkpoint}, as "
                f"{file.path.name} has it, got that of "
                f"{other.checkpoint if other else 'another package'}"
            )
        arrays = {key: beside.read(key) for key in beside.tensors}
        rows = [_row(path.name, key, array) for key, array in arrays.items()]
        network = add_head(network, arrays)
        network = network._replace(rows=network.rows + rows)
    if network.keywords["outputs"] == 1 and keywords["outputs"] == 2:
        network = as_two(network)
    same = {key: keywords[key] for key in ("head", "frozen")}
    same["inputs"] = keywords.get("inputs", 1)
    if "sequences" in keywords:
        same["sequences"] = keywords["sequences"]
    return network._replace(keywords={**network.keywords, **same})


def _head_path(file: TensorFile) -> Path:
    return file.path.with_name("head" + file.path.suffix)


def _row(file: str, key: str, array: np.ndarray) -> Row:
    return Row(f"{file}:{key}", array.shape, "mapped", "head")


@contextmanager
def _damage_is_refused(file: TensorFile) -> Iterator[None]:
    """What a description can be damaged to fails in many ways; each is one line."""
    try:
        yield
    except InputRefusedError as error:
        # Most refusals name the file already, or that of the head beside it.
        named = str(error).startswith((str(file.path), str(_head_path(file))))
        start = "" if named else f"{file.path}: "
        raise InputRefusedError(f"{start}{error}") from None
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
        raise InputRefusedError(
            f"{file.path}: wanted brainjax's description of a run, got a damaged one "
            f"({reason})"
        ) from None
    except (AttributeError, RecursionError):
        raise InputRefusedError(
            f"{file.path}: wanted brainjax's description of a run, got other JSON"
        ) from None
