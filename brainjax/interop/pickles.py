"""Pickles as data: what one describes, read without executing or importing anything.

A pickle is a program; unpickling runs it. Here its opcodes build plain values, and
inert stand-ins where it names or calls something: no name is ever looked up. What a
file can cost is bounded by its bytes, its opcodes and its text.
"""

import io
import pickletools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from brainjax.errors import InputRefusedError
from brainjax.interop.inert import Name, Opaque, refuse_dangerous, shown

MAX_BYTES = 32 * 2**20
"""Of one pickle. A checkpoint's own holds names and shapes: usually under 1 MB."""
MAX_TEXT = 64 * 2**20
"""Memory of all text: one wide character makes a string four times its bytes."""
MAX_OPCODES = 500_000
"""About forty describe a tensor."""
MAX_MARKS = 1_000
MAX_BITS = 4_096
MAX_NAME = 200

Call = Callable[[Any], Any]
"""Arguments of a known call -> our record of it."""


def load_pickle(
    data: bytes,
    start: int = 0,
    *,
    calls: Mapping[str, Call] | None = None,
    persistent: Call | None = None,
    limit: int = MAX_OPCODES,
) -> tuple[Any, int]:
    """Reads the pickle at `start`; gives its value and where it ends.

    Sets come as lists, and dict keys that are not plain scalars as `Opaque`.

    Args:
        data: bytes that hold the pickle; what follows it is left alone.
        calls: by "module.name", what to make of a call; every other is an `Opaque`.
        persistent: what to make of a persistent id; refused if None.
        limit: opcodes at most.

    Raises:
        InputRefusedError: not a pickle, one over the bounds, or one that names what
            only an attack needs; the message does not name the file.
    """
    stream = io.BytesIO(data)
    stream.seek(start)
    machine = _Machine(calls or {}, persistent)
    for count, (opcode, arg) in enumerate(_opcodes(stream)):
        if count >= limit:
            raise InputRefusedError(f"its pickle has more than {limit} opcodes")
        if opcode == "STOP":
            return machine.pop(), stream.tell()
        machine.step(opcode, arg)
    raise InputRefusedError("its pickle is cut off")


def put_items(target: dict[Any, Any], pairs: Iterable[tuple[Any, Any]]) -> None:
    """Sets items of a dict; refuses a key that is there, which no pickler writes."""
    for key, value in pairs:
        # Hashing a nested tuple, or many long integers, can be made to take forever.
        plain = type(key) in (str, bytes, float, bool, type(None))
        if not plain and not (type(key) is int and key.bit_length() < 64):
            key = Opaque(type(key).__name__, key)
        if key in target:
            raise InputRefusedError(f"its pickle has the key {shown(key)} twice")
        target[key] = value


def _opcodes(stream: io.BytesIO) -> Iterator[tuple[str, Any]]:
    opcodes = pickletools.genops(stream)
    while True:
        try:
            opcode, arg, _ = next(opcodes)
        except StopIteration:
            return
        except Exception as error:  # of many kinds: whatever broken bytes lead to
            line = str(error).partition("\n")[0]
            raise InputRefusedError(f"its pickle is damaged ({shown(line)})") from None
        yield opcode.name, arg


def _damaged(why: str) -> InputRefusedError:
    return InputRefusedError(f"its pickle is damaged ({why})")


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, calls: Mapping[str, Call], persistent: Call | None):
        self.calls, self.persistent = calls, persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[str, Name] = {}
        self.text = 0

    def step(self, opcode: str, arg: Any) -> None:
        if opcode in VALUES:
            self.push_value(arg)
        elif opcode in STEPS:
            STEPS[opcode](self, arg)
        else:
            raise InputRefusedError(f"its pickle has {opcode}, wanted a checkpoint's")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise _damaged("nothing on the stack")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.push(value)
        return value

    def mark(self) -> None:
        if len(self.marked) >= MAX_MARKS:
            raise InputRefusedError(f"its pickle nests more than {MAX_MARKS} deep")
        self.marked.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        if not self.marked:
            raise _damaged("no mark")
        items, self.stack = self.stack, self.marked.pop()
        return items

    def push_value(self, value: Any) -> None:
        if isinstance(value, str | bytes | bytearray):
            self.text += sys.getsizeof(value)
            if self.text > MAX_TEXT:
                raise InputRefusedError(f"its pickle has over {MAX_TEXT} bytes of text")
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise InputRefusedError(f"its pickle has an integer over {MAX_BITS} bits")
        self.push(value)

    def push_tuple(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise _damaged(f"memo {shown(index)} is empty")
        self.push(self.memo[index])

    def put(self, index: int) -> None:
        self.memo[index] = self.top()

    def push_name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise _damaged("a name that is not text")
        if len(module) + len(name) > MAX_NAME:
            raise InputRefusedError(f"its pickle has a name over {MAX_NAME} letters")
        refuse_dangerous(module, name)
        # One object a name, however often it is named.
        text = f"{module}.{name}"
        self.push(self.names.setdefault(text, Name(text)))

    def call(self, function: Any, args: Any) -> None:
        name = function.text if isinstance(function, Name) else shown(function)
        self.push(self.calls[name](args) if name in self.calls else Opaque(name, args))

    def persist(self, identity: Any) -> None:
        if self.persistent is None:
            raise InputRefusedError("its pickle refers to data outside it")
        self.push(self.persistent(identity))

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if type(target) is list:
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise _damaged(f"appends to {shown(target)}")

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Opaque):
            target = target.items
        if type(target) is not dict or len(items) % 2:
            raise _damaged(f"sets items of {shown(target)}")
        put_items(target, zip(items[::2], items[1::2], strict=True))

    def build(self, state: Any) -> None:
        target = self.top()
        if isinstance(target, Opaque):
            target.state = state

    def push_dict(self, items: list[Any]) -> None:
        self.push({})
        self.set_items(items)

    def push_object(self, items: list[Any]) -> None:
        if not items:
            raise _damaged("a call of nothing")
        self.call(items[0], tuple(items[1:]))

    def push_instance(self, name: str) -> None:
        args = tuple(self.pop_mark())
        self.push_name(*_halves(name))
        self.call(self.pop(), args)


def _halves(name: str) -> tuple[str, str]:
    module, _, name = name.partition(" ")
    return module, name


def _pop_twice(machine: _Machine) -> list[Any]:
    last = machine.pop()
    return [machine.pop(), last]


def _call_top(machine: _Machine, keywords: bool = False) -> None:
    extra = [machine.pop()] if keywords else []
    function, args = _pop_twice(machine)
    machine.call(function, (args, *extra) if keywords else args)


VALUES = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT"),
        *("BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
        *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
"""Opcodes that push their argument."""

STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "MARK": lambda m, _: m.mark(),
    "POP": lambda m, _: m.pop() if m.stack else m.pop_mark(),
    "POP_MARK": lambda m, _: m.pop_mark(),
    "DUP": lambda m, _: m.push(m.top()),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_DICT": lambda m, _: m.push({}),
    # A list: a set would hash what the file chose.
    "EMPTY_SET": lambda m, _: m.push([]),
    "LIST": lambda m, _: m.push(m.pop_mark()),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_mark())),
    "DICT": lambda m, _: m.push_dict(m.pop_mark()),
    "FROZENSET": lambda m, _: m.push(m.pop_mark()),
    "TUPLE1": lambda m, _: m.push_tuple(1),
    "TUPLE2": lambda m, _: m.push_tuple(2),
    "TUPLE3": lambda m, _: m.push_tuple(3),
    "APPEND": lambda m, _: m.extend([m.pop()]),
    "APPENDS": lambda m, _: m.extend(m.pop_mark()),
    "ADDITEMS": lambda m, _: m.extend(m.pop_mark()),
    "SETITEM": lambda m, _: m.set_items(_pop_twice(m)),
    "SETITEMS": lambda m, _: m.set_items(m.pop_mark()),
    "GET": lambda m, index: m.get(index),
    "BINGET": lambda m, index: m.get(index),
    "LONG_BINGET": lambda m, index: m.get(index),
    "PUT": lambda m, index: m.put(index),
    "BINPUT": lambda m, index: m.put(index),
    "LONG_BINPUT": lambda m, index: m.put(index),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "GLOBAL": lambda m, name: m.push_name(*_halves(name)),
    "STACK_GLOBAL": lambda m, _: m.push_name(*_pop_twice(m)),
    "INST": lambda m, name: m.push_instance(name),
    "OBJ": lambda m, _: m.push_object(m.pop_mark()),
    "REDUCE": lambda m, _: _call_top(m),
    "NEWOBJ": lambda m, _: _call_top(m),
    "NEWOBJ_EX": lambda m, _: _call_top(m, keywords=True),
    "BUILD": lambda m, _: m.build(m.pop()),
    "PERSID": lambda m, identity: m.persist(identity),
    "BINPERSID": lambda m, _: m.persist(m.pop()),
}
"""What each other opcode does; one that is not here is refused."""
