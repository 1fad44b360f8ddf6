"""Where a study's networks start from: a run, the same at random, no network at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from brainjax.configuration import Config, construct, to_dict
from brainjax.errors import InputRefusedError
from brainjax.models.pure import to_pure
from brainjax.study.grid import digest
from brainjax.tasks.labels import chosen
from brainjax.train.restore import Run, load_run, make_network

KINDS = ("run", "scratch", "encoder", "clinical")


class Init(NamedTuple):
    """One initialisation of a study.

    Attributes:
      name: key of `config.inits`.
      kind: of `KINDS`.
      identity: what its answers depend on; the checkpoint's hash, or the settings.
      run: the run whose encoder it takes, with its weights or without; else None.
      path: of that run.
      encoder: settings of a network of its own; view: its input in voxels.
      columns: of the clinical model.
      data: a prepared data set of its own recipe, "" for the study's.
      optimizer: what it wants otherwise than the study's fine-tuning.
    """

    name: str
    kind: str
    identity: str
    run: Run | None = None
    path: str = ""
    encoder: dict[str, Any] | None = None
    view: tuple[int, int, int] = (0, 0, 0)
    columns: tuple[str, ...] = ()
    data: str = ""
    optimizer: dict[str, Any] | None = None

    @property
    def pretrained(self) -> bool:
        """Whether it brings weights that learnt from scans."""
        return self.kind == "run"


def make_init(config: Config, name: str, fold: int) -> Init:
    """Reads one of `config.inits`; a run may be one of each fold ("runs/x_{fold}").

    Raises:
      InputRefusedError: an unknown kind or key, no such run.
    """
    settings = to_dict(config)["inits"][name]
    kind = chosen(f"config.inits.{name}.kind", settings.pop("kind", "run"), KINDS)
    make = {
        "run": _run,
        "scratch": _scratch,
        "encoder": _encoder,
        "clinical": _clinical,
    }[kind]
    if kind == "scratch":
        settings["donor"] = make_init(config, _like(config, name, settings), fold)
        settings.pop("like", None)
    if kind == "run":
        settings["fold"] = fold
    return construct(f"inits.{name}", make, name, **settings)


def _like(config: Config, name: str, settings: dict[str, Any]) -> str:
    runs = [n for n in config.inits if config.inits[n].get("kind", "run") == "run"]
    like = settings.get("like") or (runs[0] if runs else "")
    if like not in runs:
        raise InputRefusedError(
            f"config.inits.{name}.like: wanted one of {', '.join(runs) or 'no runs'}, "
            f"got {like!r}"
        )
    return like


def _run(
    name: str,
    *,
    path: str,
    fold: int = 0,
    data: str = "",
    optimizer: dict | None = None,
) -> Init:
    path = path.replace("{fold}", str(fold))
    run = load_run(path)
    return Init(
        *(name, "run", run.checkpoint, run, path),
        view=run.view,
        data=data,
        optimizer=optimizer,
    )


def _scratch(name: str, *, donor: Init, optimizer: dict | None = None) -> Init:
    assert donor.run is not None
    described = {"encoder": donor.run.network["encoder"], "view": donor.view}
    return donor._replace(
        name=name,
        kind="scratch",
        identity=digest(described),
        optimizer=optimizer if optimizer is not None else donor.optimizer,
    )


def _encoder(
    name: str,
    *,
    encoder: dict[str, Any],
    view: Sequence[int],
    data: str = "",
    optimizer: dict | None = None,
) -> Init:
    x, y, z = (int(side) for side in view)
    identity = digest({"encoder": encoder, "view": [x, y, z]})
    return Init(
        *(name, "encoder", identity),
        encoder=encoder,
        view=(x, y, z),
        data=data,
        optimizer=optimizer,
    )


def _clinical(name: str, *, columns: Sequence[str]) -> Init:
    return Init(name, "clinical", digest(list(columns)), columns=tuple(columns))


def network_of(init: Init, *, seed: int) -> tuple[Any, dict, dict]:
    """Gives graph, parameters and statistics of an encoder, to encode with.

    A run's are its own; others are drawn from `seed`.
    """
    if init.run is not None and init.pretrained:
        return init.run.graphdef, init.run.params, init.run.batch_stats
    encoder = init.run.network["encoder"] if init.run is not None else init.encoder
    settings = {"encoder": {**(encoder or {}), "shape": list(init.view)}}
    pure = to_pure(make_network("encoder", settings, seed=seed))
    return pure.graphdef, pure.params, pure.batch_stats


def seen_subjects(inits: Sequence[Init]) -> set[str]:
    """Gives the subjects that any of the weights learnt from."""
    return {
        s for init in inits if init.pretrained and init.run for s in init.run.subjects
    }


def data_path(init: Init, config: Config) -> Path:
    """Gives the prepared data set that an initialisation reads."""
    return Path(init.data or config.data.path)
