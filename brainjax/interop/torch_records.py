"""What PyTorch's pickles describe: storages and tensors, as records of our own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from brainjax.errors import InputRefusedError
from brainjax.interop.inert import Name, Opaque, shown
from brainjax.interop.pickles import put_items

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
"""dtype of a storage, by PyTorch's name of its class."""

DTYPES = frozenset(
    (
        *STORAGES.values(),
        *("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e4m3fnuz"),
        *("float8_e5m2", "float8_e5m2fnuz"),
    )
)


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """Elements that a file holds: `count` of `dtype` under `key`.

    A view (files before PyTorch 0.4) starts `start` elements into it and has `length`.
    """

    dtype: str
    key: str
    count: int
    start: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A strided view of a storage; offset and strides are in elements of `dtype`."""

    dtype: str
    storage: Storage
    offset: Any
    shape: tuple[Any, ...]
    strides: tuple[Any, ...]


def make_storage(identity: Any) -> Storage | Opaque:
    """Makes the record of a persistent id: ("storage", class, key, location, count).

    Files before PyTorch 1.6 add a view: None, or (key, start, length).
    """
    parts: tuple[Any, ...] = identity if type(identity) is tuple else ()
    if len(parts) > 1 and parts[0] == "module":
        # A class of module, which the format before 1.6 kept with its source.
        return Opaque(shown(parts[1]), parts)
    if not 5 <= len(parts) <= 6:
        raise InputRefusedError(f"wanted a storage, got {shown(identity)}")
    word, kind, key, _, count, *views = list(parts)
    name = kind.text if isinstance(kind, Name) else ""
    module, _, name = name.rpartition(".")
    if word != "storage" or module not in ("torch", "torch.storage", "torch.cuda"):
        raise InputRefusedError(f"wanted a storage of torch, got {shown(kind)}")
    if name not in STORAGES:
        raise InputRefusedError(f"cannot read a storage of {shown(kind)}")
    start, length = 0, count
    if views and views[0] is not None:
        _, start, length = _tuple(views[0], 3)
    if type(key) is not str or not all(_is_size(n) for n in (count, start, length)):
        raise InputRefusedError(f"a storage of {shown(count)} under {shown(key)}")
    if start + length > count:
        raise InputRefusedError(
            f"a view of {length} at {start} leaves its storage of {count} elements"
        )
    return Storage(STORAGES[name], key, count, start, length)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _tuple(args: Any, least: int) -> tuple[Any, ...]:
    if type(args) is not tuple or len(args) < least:
        raise InputRefusedError(f"its pickle is damaged (called with {shown(args)})")
    return args


def _rebuild_tensor(args: Any) -> Tensor | Opaque:
    storage, offset, shape, strides = _tuple(args, 4)[:4]
    if not isinstance(storage, Storage):
        return Opaque("torch._utils._rebuild_tensor", args)
    if type(shape) is not tuple or type(strides) is not tuple:
        raise InputRefusedError(f"a tensor of size {shown(shape)}")
    return Tensor(storage.dtype, storage, offset, shape, strides)


def _rebuild_typed(args: Any) -> Tensor | Opaque:
    tensor, dtype = _rebuild_tensor(_tuple(args, 7)), args[6]
    name = dtype.text.removeprefix("torch.") if isinstance(dtype, Name) else ""
    if isinstance(tensor, Opaque) or name not in DTYPES:
        return Opaque(f"tensor of {shown(dtype)}", args)
    return Tensor(name, tensor.storage, tensor.offset, tensor.shape, tensor.strides)


def _rebuild_subclass(args: Any) -> Any:
    function, kind, inner = _tuple(args, 3)[:3]
    name = function.text if isinstance(function, Name) else ""
    subclass = kind.text if isinstance(kind, Name) else ""
    if name not in REBUILDS or subclass not in TENSOR_CLASSES:
        return Opaque(f"tensor of class {shown(kind)}", args)
    return REBUILDS[name](inner)


def _ordered_dict(args: Any) -> dict[Any, Any] | Opaque:
    # Pairs are copied where they are looked for: here a pickle could have it done
    # again and again.
    return Opaque(ORDERED, args) if _tuple(args, 0) else {}


def to_dict(value: Any) -> dict[Any, Any] | None:
    """Gives a dict that a file holds, also one that Python 2 made of pairs; or None."""
    if not isinstance(value, Opaque) or value.name != ORDERED:
        return value if type(value) is dict else None
    pairs, found = value.args[0], {}
    if type(pairs) is not list or any(
        type(one) not in (list, tuple) or len(one) != 2 for one in pairs
    ):
        raise InputRefusedError(f"wanted pairs of an OrderedDict, got {shown(pairs)}")
    put_items(found, pairs)
    put_items(found, value.items.items())
    return found


def _path(args: Any) -> str:
    """Joins the parts of a pathlib path as text; it is never used as one."""
    parts = _tuple(args, 0)[:64]
    return "/".join(part[:256] for part in parts if type(part) is str)


ORDERED = "collections.OrderedDict"

TENSOR_CLASSES = (
    *("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter"),
    "monai.data.meta_tensor.MetaTensor",
)

REBUILDS: dict[str, Callable[[Any], Any]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_typed,
    "torch._utils._rebuild_parameter": lambda args: _tuple(args, 1)[0],
    "torch._utils._rebuild_parameter_with_state": lambda args: _tuple(args, 1)[0],
}

CALLS: dict[str, Callable[[Any], Any]] = {
    **REBUILDS,
    "torch._tensor._rebuild_from_type_v2": _rebuild_subclass,
    "torch.nn.parameter.Parameter": lambda args: _tuple(args, 1)[0],
    "torch.Size": lambda args: _tuple(args, 1)[0],
    ORDERED: _ordered_dict,
    "collections.defaultdict": lambda args: {},
    **{
        # Lists: a set would hash what the file chose.
        f"{module}.{name}": lambda args: args[0] if _tuple(args, 0) else []
        for module in ("builtins", "__builtin__")
        for name in ("set", "frozenset")
    },
    **{
        f"pathlib.{name}": _path
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    },
}
"""What becomes of the calls that we know; every other one stays `Opaque`."""
