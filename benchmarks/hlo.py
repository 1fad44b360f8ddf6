"""Reads the text of an XLA program: what runs, how often, and what goes over the wire.

Works on `lowered.as_text(dialect="hlo")` and on `compiled.as_text()`. A loop's body
counts as often as it runs; what is inside a fusion is marked, as it touches no memory.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

NO_BYTES = ("token", "opaque")
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
_UNKNOWN = ("collective-broadcast", "ragged-all-to-all")
_CALLED = ("to_apply", "calls", "body", "branch_computations")
_CALLED += ("true_computation", "false_computation", "called_computations")
# Their to_apply is a scalar function of two numbers, not a part of the program.
_REDUCERS = ("reduce", "reduce-window", "scatter", "sort", "map", "select-and-scatter")
_REDUCERS += (*COLLECTIVES, "all-reduce-start", "reduce-scatter-start", "topk")


# What moves nothing by itself.
_FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while")
_FREE += ("call", "conditional", "after-all", "partition-id", "opt-barrier", "iota")


class Shape(NamedTuple):
    """An array: name of its element type, and sizes."""

    dtype: str
    sizes: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Gives what it takes in memory."""
        if self.dtype in NO_BYTES:
            return 0
        digits = re.search(r"\d+", self.dtype)
        bits = int(digits[0]) if digits else 8  # pred
        return -(-math.prod(self.sizes) * bits // 8)


class Instruction(NamedTuple):
    """One line: `shapes` are its results; `rest` the attributes, as written."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    rest: str

    @property
    def bytes(self) -> int:
        """Gives the bytes of the results; the workspace of a library call is none."""
        shapes = self.shapes
        if self.opcode == "custom-call" and len(shapes) > 1:
            shapes = [shape for shape in shapes if shape.dtype not in ("s8", "u8")]
        return sum(shape.bytes for shape in shapes)

    @property
    def source(self) -> str:
        """Gives the path of jax functions that made it, or nothing."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found[1] if found else ""

    @property
    def target(self) -> str:
        """Gives the name of the library function that a custom call is of."""
        found = re.search(r'custom_call_target="([^"]*)"', self.rest)
        return found[1] if found else ""


class Running(NamedTuple):
    """An instruction, how often it runs, whether in a fusion, and its neighbours."""

    instruction: Instruction
    times: int
    fused: bool
    scope: dict[str, Instruction]

    def operand(self, number: int) -> Instruction:
        """Gives the instruction that made an operand."""
        return self.scope[self.instruction.operands[number]]


class Traffic(NamedTuple):
    """What a collective operation makes each device send.

    bytes: of one run, by the ring algorithm; group: devices that take part together.
    """

    kind: str
    bytes: float
    times: int
    group: int
    shapes: tuple[Shape, ...]
    source: str

    @property
    def total(self) -> float:
        """Gives the bytes of a whole step."""
        return self.bytes * self.times


class Program:
    """The computations of a module by name; `entry` is where it begins."""

    def __init__(self, text: str):
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            line = re.sub(r"/\*.*?\*/", "", line)
            if line.endswith("{") and not line.startswith((" ", "HloModule")):
                name = line.removeprefix("ENTRY ").split()[0].lstrip("%")
                current = self.computations[name] = {}
                if line.startswith("ENTRY"):
                    self.entry = name
            elif line.startswith(" ") and " = " in line:
                instruction = _parse(line.strip().removeprefix("ROOT "))
                current[instruction.name] = instruction
        if not self.entry:
            raise ValueError("wanted the text of an HLO module, got none with an ENTRY")

    def walk(self) -> Iterator[Running]:
        """Gives every instruction of a run."""
        yield from self._walk(self.entry, 1, False)

    def _walk(self, name: str, times: int, fused: bool) -> Iterator[Running]:
        scope = self.computations[name]
        for instruction in scope.values():
            yield Running(instruction, times, fused, scope)
            opcode = instruction.opcode
            if opcode in _REDUCERS:
                continue
            often = times * (self.trips(instruction, scope) if opcode == "while" else 1)
            for called in _called(instruction):
                yield from self._walk(called, often, fused or opcode == "fusion")

    def inside(self, line: Instruction) -> list[Instruction]:
        """Gives the instructions of a fusion; of all else nothing."""
        if line.opcode != "fusion":
            return []
        return list(self.computations[_called(line)[0]].values())

    def moved(self, running: Running) -> int:
        """Gives the bytes of memory that one run of an instruction reads and writes.

        Slices count as what is taken or put, not as what they are taken from; what is
        inside a fusion, and what only names another array, counts as nothing.
        """
        line = running.instruction
        if running.fused or line.opcode in _FREE or line.opcode.endswith("-done"):
            return 0
        inside = self.inside(line)
        if not inside:
            # As a fusion of itself alone.
            inputs = [running.scope[name] for name in line.operands]
            return _written([*inputs, line]) + sum(
                _read(each, [line]) for each in inputs
            )
        parameters = [each for each in inside if each.opcode == "parameter"]
        return _written(inside) + sum(_read(each, inside) for each in parameters)

    def trips(self, loop: Instruction, scope: dict[str, Instruction]) -> int:
        """Gives how often a loop's body runs.

        As XLA says it, or the bound that a counter from 0 is compared with.

        Raises ValueError where neither can be read.
        """
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.rest)
        if known:
            return int(known[1])
        condition = re.search(r"condition=%?([\w.\-]+)", loop.rest)
        lines = self.computations[condition[1] if condition else ""]
        bounds = [
            int(line.operands[0])
            for line in lines.values()
            if line.opcode == "constant" and line.shapes[0].dtype in ("s32", "s64")
        ]
        text = "".join(line.rest for line in lines.values())
        if len(bounds) != 1 or ("direction=LT" not in text and "calls=" not in text):
            raise ValueError(f"loop {loop.name}: cannot read how often it runs")
        return bounds[0]


def traffic(program: Program, devices: int) -> list[Traffic]:
    """Gives the collectives of a program partitioned over `devices`.

    Bytes that each device sends, B what it holds before, g the size of a group:
    all-gather B (g - 1), reduce-scatter and all-to-all B (g - 1) / g, all-reduce twice
    that, collective-permute B. An asynchronous pair counts once; of a conditional every
    branch does.
    """
    found = []
    for running in program.walk():
        line = running.instruction
        kind = line.opcode.removesuffix("-start")
        if kind in _UNKNOWN:
            raise ValueError(f"{line.name}: no rule for the traffic of {kind}")
        if kind not in COLLECTIVES:
            continue
        shapes = tuple(
            shape for name in line.operands for shape in running.scope[name].shapes
        )
        before, group = sum(shape.bytes for shape in shapes), _group(line, devices)
        share = {
            "all-reduce": 2 * (group - 1) / group,
            "all-gather": group - 1,
            "collective-permute": 1 if group > 1 else 0,
        }.get(kind, (group - 1) / group)
        found.append(
            Traffic(kind, before * share, running.times, group, shapes, line.source)
        )
    return found


class Product(NamedTuple):
    """A matrix product: its numbers, and its FLOPs in one run."""

    left: str
    right: str
    result: str
    flops: int


def product(running: Running) -> Product | None:
    """Reads a matrix product: a `dot`, or a call of cuBLAS; None for all else.

    A call of cuDNN's fused attention counts as its products together: two forward, five
    backward, as one of the two forward is done again.
    """
    line = running.instruction
    if line.target.startswith("__cudnn$fmha"):
        return _attention(line)
    if line.opcode == "dot":
        found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line.rest)
    elif line.target.startswith("__cublas"):
        found = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', line.rest)
    else:
        return None
    axes = [int(axis) for axis in re.findall(r"\d+", found[1] if found else "")]
    left, right, result = (
        each.shapes[0] for each in (running.operand(0), running.operand(1), line)
    )
    deep = math.prod(left.sizes[axis] for axis in axes)
    flops = 2 * math.prod(result.sizes) * deep
    return Product(left.dtype, right.dtype, result.dtype, flops)


def _attention(line: Instruction) -> Product:
    found = re.search(
        r'"intermediate_tensor_shape".*?"dimensions":\s*\[([^\]]*)\]', line.rest
    )
    weights = math.prod(map(int, re.findall(r"\d+", found[1] if found else "0")))
    result = line.shapes[0]
    products = 5 if line.target.endswith("Backward") else 2
    flops = 2 * products * weights * result.sizes[-1]
    return Product(result.dtype, result.dtype, result.dtype, flops)


def _parse(line: str) -> Instruction:
    name, text = line.split(" = ", 1)
    end = _matching(text, 0) + 1 if text.startswith("(") else text.index(" ")
    shapes, text = text[:end], text[end:].lstrip()
    opening = text.index("(")
    closing = _matching(text, opening)
    operands = _split(text[opening + 1 : closing])
    return Instruction(
        name=name.strip().lstrip("%"),
        opcode=text[:opening],
        shapes=_shapes(shapes),
        operands=tuple(operand.split()[-1].lstrip("%") for operand in operands),
        rest=text[closing + 1 :],
    )


def _shapes(text: str) -> tuple[Shape, ...]:
    found = re.findall(r"([a-z]\w*)\[([\d,<=]*)\]", text)
    return tuple(
        Shape(dtype, tuple(int(n.lstrip("<=")) for n in sizes.split(",") if n))
        for dtype, sizes in found
    )


def _matching(text: str, opening: int) -> int:
    depth = 0
    for place in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if not depth:
            return place
    raise ValueError(f"a parenthesis is not closed: {text[:80]}")


def _split(text: str) -> list[str]:
    parts, depth, begun = [], 0, 0
    for place, letter in enumerate(text):
        depth += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append(text[begun:place])
            begun = place + 1
    return [part.strip() for part in (*parts, text[begun:]) if part.strip()]


def _called(instruction: Instruction) -> list[str]:
    names = []
    for key in _CALLED:
        found = re.search(rf"\b{key}=(\{{[^}}]*\}}|%?[\w.\-]+)", instruction.rest)
        if found:
            names += re.findall(r"[\w.\-]+", found[1])
    return names


def _read(array: Instruction, users: list[Instruction]) -> int:
    """Gives the bytes of an array that those who use it read."""
    total = 0
    for user in users:
        if array.name not in user.operands or user.opcode in ("tuple", "bitcast"):
            continue
        first = user.operands[0] == array.name
        if user.opcode == "dynamic-update-slice" and first:
            continue
        if user.opcode in ("dynamic-slice", "slice", "gather") and first:
            total += user.bytes
        else:
            return array.bytes
    return min(total, array.bytes)


def _written(lines: list[Instruction]) -> int:
    """Gives the bytes that the last of some instructions writes: an update, or all."""
    known, root = {line.name: line for line in lines}, lines[-1]
    names = root.operands if root.opcode == "tuple" else (root.name,)
    total = 0
    for name in names:
        line = known[name]
        while line.opcode == "bitcast":
            line = known[line.operands[0]]
        if line.opcode == "dynamic-update-slice":
            line = known[line.operands[1]]
        total += line.bytes
    return total


def _group(line: Instruction, devices: int) -> int:
    pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", line.rest)
    if pairs:
        return 2 if re.search(r"\{(\d+),(?!\1\})", pairs[0]) else 1
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", line.rest)
    if listed:
        return len(listed[1].split(","))
    tiled = re.search(r"replica_groups=\[\d+,(\d+)\]", line.rest)
    return int(tiled[1]) if tiled else devices
