"""What benchmarks/throughput.py has done in each worker: a module that all can load."""

import os
import resource
import time
from typing import NamedTuple

from brainjax.records.staging import Job, Task, stage


class Measured(NamedTuple):
    """One scan: why there is no record of it ("": there is), and by whom it was made.

    peak: bytes that process used at its largest so far.
    cpu_s: processor seconds, which a busy machine stretches less than the clock's.
    """

    reason: str
    pid: int
    peak: int
    cpu_s: float


def stage_and_measure(job: Job, task: Task) -> Measured:
    """Stages a scan; says what its process has needed."""
    began = time.process_time()
    staged = stage(job, task)
    cpu_s = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(
        staged.reason if staged.key is None else "", os.getpid(), peak, cpu_s
    )
