"""Dask workers as jobs of a cluster's queue, described by a few words."""

import contextlib
import difflib
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.records.runners import Way

CLUSTERS = {"slurm": "SLURMCluster"}
"""Class of dask_jobqueue by the name of the queue's system."""

PASSED = {"queue": str, "account": str, "walltime": str, "interface": str}
OWN = {"memory": str, "jobs": int, "workers": int}
"""Words of ours: memory of one worker; jobs in all; workers in one job."""

MEMORY = 4_000_000_000
RETRIES = 2


class Jobs(NamedTuple):
    """A cluster's description: which class, how many jobs, what each is given."""

    kind: str
    jobs: int
    words: dict[str, Any]


def parse_cluster(way: Way) -> Jobs:
    """Gives what "slurm:queue=short,walltime=02:00:00,memory=4GB,jobs=20" asks for.

    What is not said is the way's (jobs, memory), else dask-jobqueue's own settings
    (~/.config/dask/jobqueue.yaml), as any other word of a job script is.

    Raises:
      InputRefusedError: an unknown system or word, with the near miss; a bad number.
    """
    name, _, rest = (way.cluster or "").partition(":")
    if name not in CLUSTERS:
        raise InputRefusedError(
            f"wanted a cluster of {', '.join(CLUSTERS)}, got {name}"
        )
    said = dict(_word(text) for text in rest.split(",") if text.strip())
    each = said.pop("workers", 1)
    jobs = said.pop("jobs", max(1, way.workers // each))
    memory = each * _bytes(said.pop("memory", way.memory_bytes or MEMORY))
    words = {"cores": each, "processes": each, "memory": f"{memory} B", **said}
    return Jobs(CLUSTERS[name], jobs, words)


def make_cluster(jobs: Jobs) -> Any:
    """Gives the cluster with its scheduler in this process and no job yet.

    Raises:
      MissingExtraError: without dask-jobqueue.
      InputRefusedError: the cluster's own objection, in one line.
    """
    try:
        import dask.config
        import dask_jobqueue
    except ImportError:
        raise MissingExtraError("dask-jobqueue", "dask") from None
    # The scheduler reads it when it starts.
    with dask.config.set({"distributed.scheduler.allowed-failures": RETRIES}):
        try:
            kind = getattr(dask_jobqueue, jobs.kind)
            cluster = kind(
                job_cls=_that_tells(kind.job_cls),
                scheduler_options={"dashboard": False, "dashboard_address": ":0"},
                **jobs.words,
            )
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputRefusedError(f"{jobs.kind}: wanted jobs, got {reason}") from None
    return cluster


def _that_tells(job: Any) -> Any:
    """Gives a class of jobs that notes in `refusals` why one could not be submitted.

    Dask only logs it, and waits for the job's workers.
    """
    from distributed.deploy.spec import ProcessInterface

    class Telling(job):
        refusals: ClassVar[list[str]] = []

        async def start(self) -> None:
            try:
                await super().start()
            except (OSError, RuntimeError, ValueError) as error:
                said = str(error).rpartition("stderr:\n")[2]
                reason = " ".join(said.split())[:300] or "no word of why"
                self.refusals.append(f"{self.submit_command}: {reason}")
                await ProcessInterface.start(self)  # or Dask would log it at length

    return Telling


def check_submitted(cluster: Any) -> None:
    """Refuses a cluster whose queue took no job; its command's own words, one line."""
    refusals = cluster.job_cls.refusals
    if refusals:
        raise InputRefusedError(
            f"cluster: wanted jobs in the queue, got {len(refusals)} that were "
            f"refused, the first: {refusals[0]}"
        )


@contextlib.contextmanager
def start_cluster(way: Way) -> Iterator[Any]:
    """Gives a cluster whose jobs are in the queue; takes them out at the end."""
    jobs = parse_cluster(way)
    with make_cluster(jobs) as cluster:
        cluster.scale(jobs=jobs.jobs)
        yield cluster


def _word(text: str) -> tuple[str, Any]:
    name, _, value = (part.strip() for part in text.partition("="))
    kinds = PASSED | OWN
    if name not in kinds or not value:
        near = difflib.get_close_matches(name, kinds, 1)
        hint = f" (did you mean {near[0]}?)" if near and name != near[0] else ""
        raise InputRefusedError(
            f"wanted words of {', '.join(kinds)} as name=value, got "
            f"{text.strip()}{hint}"
        )
    if kinds[name] is str:
        return name, value
    if not value.isdigit() or int(value) < 1:
        raise InputRefusedError(f"{name}: wanted a number from 1, got {value}")
    return name, int(value)


def _bytes(memory: str | int) -> int:
    from dask.utils import parse_bytes

    try:
        return int(parse_bytes(memory))
    except ValueError:
        raise InputRefusedError(f"memory: wanted as 4GB, got {memory}") from None
