"""What the tasks of the runners' tests do. Light: every process of theirs loads it."""

import os
import signal
import time
from pathlib import Path


def behave(folder: str, task: tuple[int, str]) -> int:
    """Does what the task's word says, and notes that it was begun."""
    number, word = task
    with open(f"{folder}/{number}", "a") as notes:
        notes.write(f"{os.getpid()}\n")
    BEHAVIOURS[word]()
    return number * number


def fail() -> None:
    raise ValueError("two\nlines")


BEHAVIOURS = {
    "good": lambda: None,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda: os._exit(7),
    "hang": lambda: time.sleep(60),
    "fail": fail,
}

ENDS = {
    "good": None,
    "kill": "wanted a volume, got a killed process (out of memory?)",
    "crash": "wanted a volume, got a process that ended with SIGSEGV",
    "exit": "wanted a volume, got a process that ended with code 7",
    "hang": "got no answer in 1 s",
    "fail": "ValueError: two lines",
}


def poisoned(words: list[str], total: int) -> list[tuple[int, str]]:
    """Spreads some words over a batch of good tasks."""
    tasks = ["good"] * total
    for n, word in enumerate(words):
        tasks[n * (total // len(words))] = word
    return list(enumerate(tasks))


def kill_neighbour(folder: str, task: int) -> int:
    """The first to come waits to be killed by the second."""
    notes = Path(folder)
    (notes / f"{task}.{os.getpid()}").touch()
    if task == 1:
        while not (others := list(notes.glob("0.*"))):
            time.sleep(0.01)
        os.kill(int(others[0].suffix[1:]), signal.SIGKILL)
    if task == 0 and len(list(notes.glob("0.*"))) == 1:
        time.sleep(60)
    return task


def leave_a_note(folder: str, task: int) -> int:
    """A task as preparing has them: slow, and left alone where its file is there."""
    note = Path(folder) / f"{task}.note"
    if not note.exists():
        with open(f"{folder}/begun", "a") as begun:
            begun.write(f"{task}\n")
        time.sleep(0.3)
        half = note.with_suffix(f".{os.getpid()}.half")
        half.write_text(str(task))
        half.replace(note)
    return task
