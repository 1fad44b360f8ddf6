"""Work done ahead of the one who waits for it, in a thread."""

import threading
import weakref
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
_Made = tuple[Any, BaseException | None]
CHECK_S = 0.25
"""How often a thread that has run far enough ahead looks whether all has ended."""


class Ahead(Iterator[Item], Generic[Item]):
    """The items of an iterator, made in a thread of its own, `depth` ahead at most.

    An error of the iterator is raised by `next` when its turn comes. The thread ends
    with `close`, when nothing refers to this object any more, and with the program.
    """

    def __init__(self, items: Iterator[Item], *, depth: int = 2):
        self._made: SimpleQueue[_Made] = SimpleQueue()
        self._gate = _Gate(depth)
        # The thread must not refer to this object, or it would keep it alive. It is no
        # daemon: one that is killed inside the runtime takes the exit code with it.
        self._thread = threading.Thread(
            target=_work, args=(items, self._made, self._gate), name="brainjax-ahead"
        )
        weakref.finalize(self, self._gate.close)
        self._thread.start()

    def __next__(self) -> Item:
        if self._gate.closed:
            raise StopIteration
        item, error = self._made.get()
        if error is not None:
            self._made.put((None, error))  # Whoever asks again is told again.
            raise error
        self._gate.release()
        return item

    def close(self) -> None:
        """Ends the thread, after the item that it is at; nothing comes afterwards."""
        self._gate.close()
        self._thread.join()


class _Gate:
    """Lets a thread pass `depth` times, and once more for every release."""

    def __init__(self, depth: int):
        self._room = threading.Semaphore(depth)
        self.closed = False

    def passes(self) -> bool:
        """Waits for room; False when there is no need to go on."""
        while not self.closed and threading.main_thread().is_alive():
            if self._room.acquire(timeout=CHECK_S):
                return not self.closed
        return False

    def release(self) -> None:
        self._room.release()

    def close(self) -> None:
        self.closed = True
        self._room.release()


def _work(items: Iterator, made: "SimpleQueue[_Made]", gate: _Gate) -> None:
    try:
        while gate.passes():
            made.put((next(items), None))
    except BaseException as error:
        made.put((None, error))
