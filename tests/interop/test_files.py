"""Checkpoints are read as they were written, lazily, and without PyTorch."""

import json
import struct
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from brainjax.errors import InputRefusedError
from brainjax.interop.files import open_tensors, write_safetensors, write_torch
from tests.interop import hostile as make

WRITERS = {"torch zip": write_torch, "safetensors": write_safetensors}
DTYPES = ["f4", "f8", "f2", "i8", "i4", "i2", "i1", "u1", "?", "c8", ml_dtypes.bfloat16]

NAMES = st.text(max_size=9).filter(str.isprintable)


def write_tensor(path, value: bytes, data: bytes = make.ONES):
    """Writes one tensor under "weight" and opens the file."""
    return open_tensors(make.write_pickle(path, make.state_dict(weight=value), data))


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back_bit_for_bit(tmp_path, kind, dtype):
    bits = np.random.default_rng(0).integers(0, 2, (5, 3), np.uint8)
    arrays = {
        "z.weight": bits.astype(dtype),
        "scalar": np.asarray(bits[0, 0]).astype(dtype),
        "empty": np.zeros((0, 4), dtype),
        "transposed": bits.astype(dtype).T,
    }
    WRITERS[kind](tmp_path / "file", arrays)
    file = open_tensors(tmp_path / "file")
    assert file.kind == kind
    assert set(file.tensors) == set(arrays)
    for key, array in arrays.items():
        found = file.read(key)
        assert file.tensors[key] == (array.shape, array.dtype.name)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, hnp.arrays("f4", hnp.array_shapes())))
def test_any_names_and_shapes_come_back_in_order(tmp_path, arrays):
    if not arrays:
        return
    write_torch(tmp_path / "file", arrays)
    file = open_tensors(tmp_path / "file")
    assert list(file.tensors) == list(arrays)
    assert all(file.read(k).tobytes() == a.tobytes() for k, a in arrays.items())


def test_equal_content_is_an_equal_file_and_the_hash_says_so(tmp_path):
    arrays = {"a": np.ones(3, np.float32)}
    for name in ("one", "two"):
        write_torch(tmp_path / name, arrays, facts={"epoch": 3})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    digests = {open_tensors(tmp_path / name).sha256 for name in ("one", "two")}
    assert len(digests.pop()) == 64
    assert not digests
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


def test_facts_come_back_as_plain_values(tmp_path):
    facts = {
        "epoch": 12,
        "long": -(2**70),
        "hyper_parameters": {"lr": 1e-3, "sizes": [1, 2], "name": "ü", "best": True},
        "none": None,
    }
    write_torch(tmp_path / "file", {"a": np.ones(1)}, facts=facts)
    wanted = {**facts, "container": "state_dict", "left out": []}
    assert open_tensors(tmp_path / "file").facts == wanted
    write_safetensors(tmp_path / "file", {"a": np.ones(1)}, metadata={"epoch": "12"})
    assert open_tensors(tmp_path / "file").facts["epoch"] == "12"


def test_storages_start_where_pytorch_can_map_them(tmp_path):
    write_torch(tmp_path / "file", {"a": np.ones(3), "b": np.full(5, 2, np.float32)})
    data = (tmp_path / "file").read_bytes()
    assert data.index(np.full(5, 2, np.float32).tobytes()) % 64 == 0
    assert zipfile.ZipFile(tmp_path / "file").testzip() is None


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (make.tensor(), [[0, 1, 2], [3, 4, 5]]),
        (make.tensor((3, 2), (1, 3)), [[0, 3], [1, 4], [2, 5]]),
        (make.tensor((2,), (3,), offset=2), [2, 5]),
        (make.tensor((), (), offset=4), 4),
        (make.tensor((2, 2), (0, 1)), [[0, 1], [0, 1]]),
        (make.tensor((1, 3), (77, 1), offset=3), [[3, 4, 5]]),
        (make.tensor((0, 3), (3, 1)), np.zeros((0, 3))),
    ],
)
def test_strided_views_are_read(tmp_path, value, wanted):
    file = write_tensor(tmp_path / "file", value, floats(*range(6)))
    np.testing.assert_array_equal(file.read("weight"), wanted)
    assert file.tensors["weight"].shape == np.shape(wanted)


def test_shared_tensors_are_told_from_equal_ones(tmp_path):
    pickle = make.state_dict(
        a=make.tensor(), b=make.tensor(), view=make.tensor((3, 2), (1, 3))
    )
    file = open_tensors(make.write_pickle(tmp_path / "file", pickle))
    assert file.is_shared("a", "b")
    assert not file.is_shared("a", "view")
    write_torch(tmp_path / "apart", {"a": np.ones(2), "b": np.ones(2)})
    assert not open_tensors(tmp_path / "apart").is_shared("a", "b")


def test_any_byte_but_zero_is_true(tmp_path):
    pid = make.storage(count=4, kind="torch.BoolStorage")
    file = write_tensor(
        tmp_path / "file", make.tensor((4,), (1,), pid=pid), b"\0\1\7\0"
    )
    np.testing.assert_array_equal(file.read("weight"), [False, True, True, False])


def test_parameters_and_subclasses_are_their_tensors(tmp_path):
    hooks = make.call(make.name("collections.OrderedDict"))
    parameter = make.name("torch._utils._rebuild_parameter")
    pid = make.storage() + b"Q"
    sizes = (make.number(0), make.numbers((6,)), make.numbers((1,)))
    meta = make.call(
        make.name("torch._tensor._rebuild_from_type_v2"),
        make.name("torch._utils._rebuild_tensor_v2"),
        make.name("monai.data.meta_tensor.MetaTensor"),
        make.row(pid, *sizes, b"\x89", hooks),
        make.table(),
    )
    pickle = make.state_dict(
        a=make.call(parameter, make.tensor(), b"\x88", hooks), b=meta
    )
    file = open_tensors(make.write_pickle(tmp_path / "file", pickle))
    assert file.tensors == {"a": ((2, 3), "float32"), "b": ((6,), "float32")}


def test_the_format_before_1_6_is_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(make.legacy(data=floats(*range(6))))
    file = open_tensors(path)
    assert file.kind == "torch legacy"
    np.testing.assert_array_equal(file.read("weight"), [[0, 1, 2], [3, 4, 5]])


def test_its_views_of_storages_are_read(tmp_path):
    view = make.row(make.text("9"), make.number(2), make.number(4))
    value = make.tensor((3,), (1,), offset=1, pid=make.legacy_storage(view))
    pickle = make.PROTO + make.table(weight=value) + b"."
    (tmp_path / "file").write_bytes(make.legacy(pickle, data=floats(*range(6))))
    np.testing.assert_array_equal(
        open_tensors(tmp_path / "file").read("weight"), [3, 4, 5]
    )


@pytest.mark.parametrize(
    ("top", "container", "keys"),
    [
        ({"weight": make.tensor()}, "", ["weight"]),
        ({"net": make.table(a=make.tensor())}, "net", ["a"]),
        (
            {"model": make.table(state_dict=make.table(a=make.tensor()))},
            "model.state_dict",
            ["a"],
        ),
        # The first of the known names, whatever the file's order; a loss is no weight.
        (
            {
                "loss": make.tensor(),
                "model": make.table(b=make.tensor()),
                "state_dict": make.table(a=make.tensor()),
            },
            "state_dict",
            ["a"],
        ),
    ],
)
def test_the_state_dict_is_found(tmp_path, top, container, keys):
    pickle = make.PROTO + make.table(**top) + b"."
    file = open_tensors(make.write_pickle(tmp_path / "file", pickle))
    assert file.facts["container"] == container
    assert list(file.tensors) == keys


def test_a_state_dict_of_python_2_is_read(tmp_path):
    pairs = b"](](" + make.text("a") + make.tensor() + b"ee"
    ordered = make.call(make.name("collections.OrderedDict"), pairs)
    for pickle in (ordered, make.table(model=ordered)):
        path = make.write_pickle(tmp_path / "file", make.PROTO + pickle + b".")
        assert open_tensors(path).tensors == {"a": ((2, 3), "float32")}


def test_what_lies_beside_the_state_dict_does_not_matter(tmp_path):
    namespace = (
        make.name("argparse.Namespace")
        + b")\x81"
        + make.table(lr=make.number(2))
        + b"b"
    )
    unknown = make.call(make.name("my_project.Callback"), make.number(3))
    path = make.call(make.name("pathlib.PosixPath"), make.text("/"), make.text("data"))
    top = make.table(
        epoch=make.number(7),
        hyper_parameters=make.table(args=namespace, where=path, odd=unknown),
        optimizer_states=b"](" + make.table(exp_avg=make.tensor()) + b"e",
        callbacks=unknown,
        state_dict=make.table(a=make.tensor(), _extra_state=b"N"),
    )
    file = open_tensors(make.write_pickle(tmp_path / "file", make.PROTO + top + b"."))
    assert list(file.tensors) == ["a"]
    assert file.facts == {
        "epoch": 7,
        "hyper_parameters": {
            "args": {"lr": 2},
            "where": "//data",
            "odd": "<my_project.Callback>",
        },
        "state_dict._extra_state": None,
        "container": "state_dict",
        "left out": ["optimizer_states", "callbacks"],
    }
    json.dumps(file.facts)


def test_facts_are_bounded(tmp_path):
    # One list of 19,000 numbers, under 5,000 keys.
    shared = b"]q\0(" + b"K\1" * 19_000 + b"e0"
    repeats = b"".join(make.text(f"k{n}") + b"h\0" for n in range(5000))
    pickle = make.PROTO + shared + b"}(" + make.text("a") + make.tensor() + repeats
    file = open_tensors(make.write_pickle(tmp_path / "file", pickle + b"u."))
    assert len(file.facts["k0"]) == 19_000
    assert len(file.facts) == 5 + 2
    assert len(file.facts["left out"]) == 1000 - 5 + 1
    assert file.facts["left out"][-1] == "..."


def test_what_is_not_read_costs_nothing(tmp_path):
    # BrainIAC v1 has an unused weight of 8.6 GB; here it is a hole in the file.
    count = 8 * 2**28
    big = make.tensor((count,), (1,), pid=make.storage("1", count=count))
    apart = make.tensor((2,), (count - 1,), pid=make.storage("1", count=count))
    pickle = make.state_dict(big=big, weight=make.tensor(), apart=apart)
    parts = [*make.entries(pickle), make.Entry("archive/data/1", hole=4 * count)]
    path = make.write_zip(tmp_path / "file", parts)
    assert path.stat().st_size > 8e9
    tracemalloc.start()
    try:
        file = open_tensors(path)
        assert file.tensors["big"] == ((count,), "float32")
        np.testing.assert_array_equal(file.read("weight"), np.ones((2, 3)))
        np.testing.assert_array_equal(file.read("apart"), [0, 0])
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_a_file_that_changed_since_is_refused(tmp_path):
    for kind, write in WRITERS.items():
        path = tmp_path / kind
        write(path, {"weight": np.ones(100)})
        file = open_tensors(path)
        path.write_bytes(path.read_bytes()[:300])
        with pytest.raises(InputRefusedError, match="wanted 800 bytes"):
            file.read("weight")
        with pytest.raises(InputRefusedError, match="no array 'bias'"):
            file.read("bias")


def test_what_cannot_be_written_is_refused(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(InputRefusedError, match="cannot write an array of uint16"):
        write_torch(path, {"a": np.ones(2, np.uint16)})
    with pytest.raises(InputRefusedError, match="wanted plain facts"):
        write_torch(path, {"a": np.ones(2)}, facts={"shape": np.ones(2)})
    with pytest.raises(InputRefusedError, match="has a state dict's name"):
        write_torch(path, {"a": np.ones(2)}, facts={"state_dict": 1})
    with pytest.raises(InputRefusedError, match="wanted text, got 3"):
        write_safetensors(path, {"a": np.ones(2)}, metadata={"epoch": 3})  # type: ignore
    with pytest.raises(InputRefusedError, match="cannot write complex128"):
        write_safetensors(path, {"a": np.ones(2, complex)})
    assert not list(tmp_path.iterdir())
    path.mkdir()
    with pytest.raises(InputRefusedError, match="directory"):
        write_torch(path, {"a": np.ones(2)})
