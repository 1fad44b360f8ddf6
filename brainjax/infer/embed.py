"""Raw scans to features, one row a scan."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from brainjax.evaluate.features import (
    Answers,
    answer_scans,
    encode_scans,
    make_answer,
    make_encode,
)
from brainjax.infer.scans import (
    check_out,
    check_recipe,
    list_scans,
    prepare_scans,
)
from brainjax.infer.table import Columns, write_table
from brainjax.records.sources import Source
from brainjax.train.restore import Run, load_run, with_pool
from brainjax.volume.canonical import Codes

Failures = list[tuple[str, str]]


def embed(
    run: str | Path | Run,
    scans: Sequence[str],
    *,
    out: Path,
    recipe: str | None = None,
    pool: str | None = None,
    orientation: str | None = None,
    workers: int = 1,
) -> Failures:
    """Writes the pooled features of raw scans to a CSV or Parquet table.

    One row a scan, in the order given: source, subject, session, sequence, recipe and
    checkpoint hash, then the features, which are the last columns.

    Args:
      run: a run's folder, or one that was read (`interop.read_checkpoint` reads other
        people's files).
      scans: NIfTI files, folders or tables.
      out: .csv or .parquet.
      recipe: name or hash that the run's must agree with; its own if None.
      pool: another way from tokens to features, such as "first_token"; the run's own
        if None.
      orientation: of scans whose header states none, such as "RAS".
      workers: scans prepared at a time.

    Returns:
      (path, reason) of every scan that was refused; the others are in the table.

    Raises:
      InputRefusedError: the run, the recipe, the list of scans or the output.
    """
    check_out(out)
    loaded = run if isinstance(run, Run) else load_run(run)
    check_recipe(loaded, recipe)
    if pool is not None:
        loaded = with_pool(loaded, pool)
    sources, features, failures = run_on_scans(
        loaded, scans, method="encode", orientation=orientation, workers=workers
    )
    columns = describe_sources(loaded, sources)
    width = features.shape[1] if len(features) else 0
    for number in range(width):
        columns[f"feature_{number}"] = features[:, number].tolist()
    write_table(columns, out)
    return failures


def run_on_scans(
    run: Run,
    scans: Sequence[str],
    *,
    method: str,
    orientation: str | None,
    workers: int,
) -> tuple[list[Source], Float[np.ndarray, "n d"], Failures]:
    """Runs one method of a run's network on raw scans.

    Returns:
      The scans that went through, what the network gave for each, and the failures.
    """
    words = {"orientation": orientation, "workers": workers}
    return encode_sources(run, list_scans(scans), method=method, **words)


def encode_sources(
    run: Run,
    sources: Sequence[Source],
    *,
    method: str = "encode",
    orientation: str | None = None,
    workers: int = 1,
) -> tuple[list[Source], Float[np.ndarray, "n d"], Failures]:
    """Like `run_on_scans`, of scans that are listed already."""
    through = _Through(run, sources, orientation=orientation, workers=workers)
    encode = make_encode(run.graphdef, view=run.view, method=method)
    outputs = encode_scans(
        encode, run.params, run.batch_stats, through.codes(), batch=through.batch
    )
    order = through.restore_order()
    return through.done, outputs[order], through.failures


def answer_sources(
    run: Run,
    sources: Sequence[Source],
    *,
    orientation: str | None = None,
    workers: int = 1,
) -> tuple[list[Source], Answers, Failures]:
    """Gives outputs and features of listed scans, for a run with a head."""
    through = _Through(run, sources, orientation=orientation, workers=workers)
    answer = make_answer(run.graphdef, view=run.view)
    answers = answer_scans(
        answer, run.params, run.batch_stats, through.codes(), batch=through.batch
    )
    order = through.restore_order()
    answers = Answers(*(values[order] for values in answers))
    return through.done, answers, through.failures


class _Through:
    """Raw scans on their way to the network; a bad one is left out and named."""

    def __init__(
        self,
        run: Run,
        sources: Sequence[Source],
        *,
        orientation: str | None,
        workers: int,
    ):
        self.done: list[Source] = []
        self.failures: Failures = []
        self._places = {source.path: n for n, source in enumerate(sources)}
        self.prepared = prepare_scans(
            sources, run.recipe, orientation=orientation, workers=workers
        )
        # One scan must not cost eight; few sizes, as each is a program to compile.
        self.batch = next((size for size in (1, 2, 4) if len(sources) <= size), 8)

    def codes(self) -> Iterator[Codes]:
        """Gives the volumes of the scans that could be prepared."""
        for source, codes, reason, _ in self.prepared:
            if codes is None:
                self.failures.append((str(source.path), reason))
            else:
                self.done.append(source)
                yield codes

    def restore_order(self) -> list[int]:
        """Puts `done` and `failures` into the order of the list they were given in.

        Returns:
          Where each of `done` was before, as rows of what the network gave.
        """
        places = [self._places[source.path] for source in self.done]
        order = sorted(range(len(places)), key=places.__getitem__)
        self.done = [self.done[row] for row in order]
        self.failures.sort(key=lambda failure: self._places[failure[0]])
        return order


def describe_sources(run: Run, sources: Sequence[Source]) -> Columns:
    """The columns every table of answers opens with."""
    return {
        "source": [str(source.path) for source in sources],
        "subject": [source.subject or "" for source in sources],
        "session": [source.session or "" for source in sources],
        "sequence": [source.sequence or "" for source in sources],
        "recipe": [run.recipe.hash] * len(sources),
        "checkpoint": [run.checkpoint] * len(sources),
    }
