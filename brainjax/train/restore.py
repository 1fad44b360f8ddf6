"""A finished or interrupted run, read back: network, parameters, recipe, task."""

import hashlib
from collections.abc import Iterable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

from brainjax.checkpoint import Checkpoints
from brainjax.errors import InputRefusedError
from brainjax.models import ENCODERS
from brainjax.models.adapters import merge_adapters
from brainjax.models.pure import Pure, to_pure
from brainjax.models.unetr import UNETR
from brainjax.tasks import Segmentation, Task, task_from_dict
from brainjax.train.networks import Contrastive, Features, Predictor
from brainjax.train.segmenter import Segmenter
from brainjax.volume.recipe import AnyRecipe, recipe_from_dict

BEST = {
    "pretrain": None,
    "finetune": "min",
    "segment": "min",
    "encoder": None,
    "segmentation": None,
}
"""Which checkpoint a kind of run keeps beside the latest, by its score."""


class Run(NamedTuple):
    """A run's network and everything an answer of it depends on.

    Attributes:
      folder: of the run, or the foreign file that it was read from.
      kind: row of `NETWORKS`: "pretrain", "finetune" and "segment" are trained here,
        "encoder" and "segmentation" were converted (a converted encoder with a head is
        "finetune").
      network: constructor keywords of the network, JSON values.
      view: the encoder's input, in voxels; the recipe's field of view fills it.
      recipe: how a raw scan becomes a volume.
      task: what the outputs mean; None after pretraining, and where a converted file
        does not say.
      graphdef, params, batch_stats: the network; where a run averages its parameters,
        the average.
      step: of the checkpoint.
      checkpoint: its hash, 12 hex characters.
      subjects: names of the subjects it learnt from or chose its best step by, those
        of its donor included; or `hash_subject` of them, where it came by a file.
    """

    folder: Path
    kind: str
    network: dict[str, Any]
    view: tuple[int, int, int]
    recipe: AnyRecipe
    task: Task | None
    graphdef: Any
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    step: int
    checkpoint: str
    subjects: list[str]


def describe_run(
    *,
    kind: str,
    network: dict[str, Any],
    view: tuple[int, ...],
    recipe: AnyRecipe,
    task: Task | Segmentation | None,
    subjects: Iterable[str],
    data: str,
    donor: str = "",
) -> dict[str, Any]:
    """Gives what goes beside the arrays into every checkpoint, as JSON.

    A resumed run must agree with all of it: `data` is the hash of the volumes learnt
    from, `donor` that of the checkpoint the encoder came from.
    """
    return {
        "kind": kind,
        "network": network,
        "view": list(view),
        "recipe": recipe.to_dict(),
        "task": None if task is None else task.to_dict(),
        "subjects": sorted(set(subjects)),
        "data": data,
        "donor": donor,
    }


def make_network(kind: str, network: dict[str, Any], *, seed: Any) -> nnx.Module:
    """Builds the network of a kind of run; parameters are drawn from `seed`.

    seed: a whole number, which may be traced.
    """
    return NETWORKS[kind](**network, rngs=nnx.Rngs(jax.random.key(seed)))


NETWORKS = {
    "pretrain": Contrastive,
    "finetune": Predictor,
    "encoder": Features,
    "segmentation": UNETR,
    "segment": Segmenter,
}
"""Networks by the kind of run; each has `encode`, and its encoder as "encoder" (a
`Segmenter`'s is its segmenter's, if it has one)."""


def plan_network(kind: str, network: dict[str, Any]) -> Pure:
    """Gives a network's structure, and the shapes of its parameters; allocates none."""
    return to_pure(nnx.eval_shape(partial(make_network, kind, network, seed=0)))


def load_run(folder: str | Path) -> Run:
    """Reads a run's best checkpoint (its latest after pretraining), hashes verified.

    Raises:
      InputRefusedError: not a run, no checkpoint yet, or none that is intact.
    """
    folder = Path(folder)
    if not folder.exists():
        raise InputRefusedError(
            f"{folder}: wanted the folder of a run with checkpoints, got nothing there"
        )
    if folder.is_file():
        raise InputRefusedError(
            f"{folder}: wanted the folder of a run, got a file; `brainjax convert` "
            "makes a run of another package's checkpoint"
        )
    if not (folder / "checkpoints").is_dir():
        raise InputRefusedError(
            f"{folder}: wanted the folder of a run with checkpoints, got none there"
        )
    checkpoints = Checkpoints(folder / "checkpoints")
    extra = checkpoints.read_extra()
    kind = extra["kind"]
    step = None
    # A converted head has one step, and no score.
    if BEST[kind] and extra["data"]:
        checkpoints = Checkpoints(folder / "checkpoints", best=BEST[kind])
        step = checkpoints.best_step()
    planned = plan_network(kind, extra["network"])
    # What a run was measured by is what answers.
    answering = "ema" if extra.get("ema") else "params"
    abstract = {answering: planned.params, "batch_stats": planned.batch_stats}
    found = checkpoints.restore(
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), abstract),
        step,
        parts=list(abstract),
    )
    extra = found.extra
    return Run(
        folder=folder,
        kind=kind,
        network=extra["network"],
        view=tuple(extra["view"]),
        recipe=recipe_from_dict(extra["recipe"]),
        task=None if extra["task"] is None else task_from_dict(extra["task"]),
        graphdef=planned.graphdef,
        params=found.state[answering],
        batch_stats=found.state["batch_stats"],
        step=found.step,
        # What was converted is named by its weights: the same from any copy.
        checkpoint=found.hash if extra["data"] else extra["donor"],
        subjects=extra["subjects"],
    )


def with_pool(run: Run, pool: str) -> Run:
    """Gives the run with another way from tokens to features, such as "first_token".

    Raises:
      InputRefusedError: the encoder has no choice, or not this one.
    """
    encoder = run.network["encoder"]
    known = signature(ENCODERS[encoder.get("name", "vit")].__init__).parameters
    if "pool" not in known:
        raise InputRefusedError(
            f"--pool {pool}: encoder {encoder.get('name', 'vit')} of {run.folder} has "
            "one way only"
        )
    network = {**run.network, "encoder": {**encoder, "pool": pool}}
    planned = plan_network(run.kind, network)
    return run._replace(network=network, graphdef=planned.graphdef)


def encoder_params(run: Run) -> dict[str, Any]:
    """Gives the parameters of a run's encoder, with what its adapters learnt."""
    encoder = run.params.get("encoder", {})
    if "adapters" not in run.params:
        return encoder
    words = run.network["adapters"]
    scale = {"scale": words["scale"]} if "scale" in words else {}
    return merge_adapters(encoder, run.params["adapters"], **scale)


def without_adapters(run: Run) -> Run:
    """Gives the run with what its adapters learnt added to the encoder's kernels."""
    if "adapters" not in run.params:
        return run
    network = {k: words for k, words in run.network.items() if k != "adapters"}
    params = {k: tree for k, tree in run.params.items() if k != "adapters"}
    params["encoder"] = encoder_params(run)
    graphdef = plan_network(run.kind, network).graphdef
    return run._replace(network=network, params=params, graphdef=graphdef)


def hash_subject(name: str) -> str:
    """Gives what stands for a subject in exported files: "#" and 12 hex characters."""
    if name.startswith("#"):
        return name
    return "#" + hashlib.sha256(name.encode()).hexdigest()[:12]


def seen_among(subjects: Iterable[str], seen: set[str]) -> list[str]:
    """Gives those of some subjects that are among `seen`, by name or by hash."""
    return [s for s in subjects if s in seen or hash_subject(s) in seen]


def refuse_seen_subjects(run: Run, subjects: Iterable[str], source: str | Path) -> None:
    """Raises InputRefusedError where a run is to be tested on what it learnt from."""
    shared = sorted(set(seen_among(subjects, set(run.subjects))))
    if shared:
        raise InputRefusedError(
            f"{source}: wanted test subjects that {run.folder} never saw, got "
            f"{len(shared)} it learnt from, such as {shared[0]}; use the split that it "
            "was trained with"
        )


def refuse_other_recipe(run: Run, recipe: AnyRecipe, source: str | Path) -> None:
    """Raises InputRefusedError where volumes were made by another recipe."""
    if recipe.hash != run.recipe.hash:
        raise InputRefusedError(
            f"{source}: made by recipe {recipe.describe()} {recipe.hash}, {run.folder} "
            f"learnt from {run.recipe.describe()} {run.recipe.hash}"
        )
