"""Hostile and broken checkpoints, and what is said of each."""

import gzip

from tests.interop import hostile as make
from tests.interop.hostile import Entry, call, entries, name, number, tensor, text

CREATED = "/tmp/brainjax_was_fooled"
SHELL = text(f"touch {CREATED}")


def beside(value: bytes) -> bytes:
    """A pickle of a good state dict, and a value beside it."""
    return make.PROTO + make.table(odd=value, state_dict=make.table(a=tensor())) + b"."


def attack(function: bytes, *args: bytes) -> bytes:
    return beside(call(function, *(args or (SHELL,))))


def chain(length: int) -> bytes:
    """`length` calls, each of what the one before gave."""
    return beside(name("torch.nn.Identity") + b")R" * length)


def doubled(levels: int) -> bytes:
    """A tuple of 2 ** levels elements in a few bytes a level."""
    return text("a") + b"2\x86" * levels


PICKLES = {
    "os.system": (attack(name("os.system")), "names os.system, which an attack"),
    "posix": (attack(name("posix.system")), "names posix.system"),
    "nt": (attack(name("nt.system")), "names nt.system"),
    "eval": (attack(name("builtins.eval")), "names builtins.eval"),
    "exec of Python 2": (attack(name("__builtin__.execfile")), "__builtin__.execfile"),
    "import": (attack(name("builtins.__import__")), "builtins.__import__"),
    "subprocess": (attack(name("subprocess.Popen")), "names subprocess.Popen"),
    "runpy": (attack(name("runpy._run_code")), "names runpy._run_code"),
    "sys": (attack(name("sys.modules")), "names sys.modules"),
    "importlib": (attack(name("importlib.import_module")), "importlib.import_module"),
    "stack global": (attack(text("os") + text("system") + b"\x93"), "names os.system"),
    "through another module": (
        attack(text("torch") + text("os.system") + b"\x93"),
        "names torch.os.system",
    ),
    "instance": (beside(b"(" + SHELL + b"ios\nsystem\n"), "names os.system"),
    "object": (beside(b"(" + name("os.system") + SHELL + b"o"), "names os.system"),
    "inside the state dict": (
        make.state_dict(a=call(name("os.system"), SHELL)),
        "names os.system",
    ),
    "opaque tensor": (
        make.state_dict(
            a=tensor(), b=call(name("torch._utils._rebuild_sparse_tensor"))
        ),
        "'b': wanted an array, got torch._utils._rebuild_sparse_tensor",
    ),
    "numpy array": (
        make.PROTO
        + make.table(a=tensor(), b=call(name("numpy._core.multiarray._reconstruct")))
        + b".",
        "'b': wanted an array, got numpy._core",
    ),
    "module": (
        make.PROTO + call(name("monai.networks.nets.ViT")) + b".",
        "wanted a state dict, got monai.networks.nets.ViT",
    ),
    "no state dict": (
        make.PROTO + make.table(epoch=number(3)) + b".",
        "got 'epoch'$",
    ),
    "key that is no text": (
        make.PROTO + make.table(model=b"}" + number(3) + tensor() + b"s") + b".",
        "wanted printable names of at most 500 letters, got 3",
    ),
    "key of two lines": (
        make.PROTO + b"}" + text("a\n\x1b[2Jb") + tensor() + b"s.",
        r"got 'a\\n\\x1b\[2Jb'$",
    ),
    "one key twice": (
        make.PROTO + b"}(" + (text("a") + tensor()) * 2 + b"u.",
        "has the key 'a' twice",
    ),
    "memo never filled": (beside(b"h\x07"), "memo 7 is empty"),
    "memo bomb": (
        beside(b"N" + b"".join(b"r" + n.to_bytes(4, "little") for n in range(600_000))),
        "more than 500000 opcodes",
    ),
    "reduce chain": (chain(300_000), "more than 500000 opcodes"),
    "marks": (beside(b"(" * 5000), "nests more than 1000 deep"),
    "itself as its state dict": (
        make.PROTO + b"}q\0" + text("state_dict") + b"h\0s.",
        "wanted a state dict",
    ),
    "itself as a key": (
        make.PROTO + b"}q\0h\0h\0s" + text("model") + b"h\0s.",
        "got dict, 'model'$",
    ),
    "a bomb as a key": (
        make.PROTO + b"}" + doubled(80) + b"Ns.",
        "got tuple$",
    ),
    "a long integer": (beside(number(2**5000)), "integer over 4096 bits"),
    "a long name": (beside(name("a." + "b" * 300)), "name over 200 letters"),
    "wide text": (
        beside(b"".join(map(text, ["😀" + "a" * 2**20] * 20)) + b"0" * 19),
        "bytes of text",
    ),
    "too long": (
        beside(b"B" + (2**25).to_bytes(4, "little") + bytes(2**25)),
        "33554432",
    ),
    "extension": (beside(b"\x82\x01"), "its pickle has EXT1"),
    "buffer": (beside(b"\x97"), "its pickle has NEXT_BUFFER"),
    "nothing": (b"", "its pickle is damaged|cut off"),
    "no stop": (make.PROTO + b"N", "its pickle is damaged"),
    "nothing on the stack": (make.PROTO + b"0.", "its pickle is damaged"),
    "no such opcode": (make.PROTO + b"\xff.", "its pickle is damaged"),
    "pairs that are none": (
        make.PROTO + call(name("collections.OrderedDict"), number(3)) + b".",
        "wanted pairs of an OrderedDict, got 3",
    ),
    "arguments that are none": (
        make.PROTO + name("collections.OrderedDict") + b"K\3R.",
        "called with 3",
    ),
    "items of a number": (make.PROTO + b"K\1K\2K\3s.", "sets items of 1"),
    "half an item": (make.PROTO + b"}(K\1u.", "sets items of a dict"),
    "storage that is a number": (make.state_dict(a=tensor(pid=number(3))), "got 3"),
    "storage that is text": (make.PROTO + b"Pstorage\n.", "got 'storage'"),
    "a negative storage": (
        make.state_dict(a=tensor(pid=make.storage(count=-6))),
        "a storage of -6 under '0'",
    ),
    "no such storage": (
        make.state_dict(a=tensor(pid=make.storage(kind="torch.QInt8Storage"))),
        "cannot read a storage of torch.QInt8Storage",
    ),
    "storage of os": (
        make.state_dict(a=tensor(pid=make.storage(kind="mytorch.FloatStorage"))),
        "wanted a storage of torch, got mytorch.FloatStorage",
    ),
    "view that leaves its storage": (
        make.state_dict(
            a=tensor(pid=make.legacy_storage(make.row(text("1"), number(5), number(9))))
        ),
        "a view of 9 at 5 leaves its storage of 6",
    ),
}

HUGE = 10**12
TENSORS = {
    "negative strides": (tensor((2, 3), (-3, 1)), r"got \[2, 3\], \[-3, 1\]"),
    "negative size": (tensor((-2, 3), (3, 1)), r"got \[-2, 3\]"),
    "negative offset": (tensor(offset=-1), r"and \[-1\]"),
    "offset out of range": (
        tensor(offset=1),
        "at 1 with strides .* leaves its storage",
    ),
    "huge offset": (tensor(offset=2**62), "leaves its storage of 24 bytes"),
    "strides out of range": (tensor((2, 3), (4, 1)), "leaves its storage of 24 bytes"),
    "a tensor of 10^12": (tensor((HUGE,), (1,)), "too large for a storage of 24 bytes"),
    "10^12 repeats": (tensor((HUGE,), (0,)), "too large for a storage"),
    "10^12 by nothing": (tensor((HUGE, 0, HUGE), (1, 1, 1)), "too large for a storage"),
    "a size of 4000 bits": (tensor((2**4000,), (0,)), "too large for a storage"),
    "sixty-five axes": (tensor((1,) * 65, (1,) * 65), "65 sizes and 65 strides"),
    "fewer strides": (tensor((2, 3), (1,)), "2 sizes and 1 strides"),
    "a storage of 10^12": (
        tensor((HUGE,), (1,), pid=make.storage(count=HUGE)),
        "wanted a storage of 1000000000000 float32, got 24 bytes",
    ),
    "an absent storage": (tensor(pid=make.storage("7")), "has no storage '7'"),
    "a storage that climbs": (
        tensor(pid=make.storage("../data.pkl")),
        r"has no storage '../data.pkl'",
    ),
}

ZIPS = {
    "compressed": ([*entries(), Entry("archive/x", method=8)], "compressed or locked"),
    "declared and real size": (
        [*entries(), Entry("archive/data/1", b"abc", size=2**40)],
        "overlaps another or leaves the file",
    ),
    "declared and packed size": (
        [*entries(), Entry("archive/data/1", b"abc", packed=2)],
        "declares 3 bytes and has 2",
    ),
    "a pickle of gigabytes": (
        [*entries()[1:], Entry("archive/data.pkl", make.GOOD, hole=2**33)],
        "wanted an entry of 33554432 bytes",
    ),
    "overlapping": (
        [
            *entries(),
            *(Entry(f"archive/data/{n}", offset=0, size=9) for n in range(1, 99)),
        ],
        "overlaps another",
    ),
    "entry without header": ([*entries(), Entry("archive/x", offset=5)], "no header"),
    "entry past the end": (
        [*entries(), Entry("archive/x", offset=2**50)],
        "starts outside",
    ),
    "traversal": ([*entries(), Entry("archive/../../x")], "an entry that leaves it"),
    "absolute": ([*entries(), Entry("/etc/passwd")], "an entry that leaves it"),
    "backslashes": ([*entries(), Entry("archive\\..\\x")], "an entry that leaves it"),
    "drive": ([*entries(), Entry("C:x")], "an entry that leaves it"),
    "stray": ([*entries(), Entry("other/x")], "'other/x' outside 'archive'"),
    "entry twice": ([*entries(), Entry("archive/data/0")], "'archive/data/0' twice"),
    "two pickles": ([*entries(), Entry("other/data.pkl")], "got 2 in"),
    "no pickle": ([Entry("weight.npy")], "got 0 in 'weight.npy'"),
    "empty": ([], "got 0 in nothing"),
    "TorchScript": (
        [*entries(), Entry("archive/constants.pkl")],
        "TorchScript program",
    ),
    "big endian": (entries(byteorder=b"big"), "byte order 'little', got b'big'"),
    "version": (entries(version=b"99\n"), "wanted version 1 to 10, got b'99'"),
    "no version": ([e for e in entries() if "version" not in e.name], "got b''"),
    "many entries": (
        [Entry(f"archive/data/{n:050d}") for n in range(40_000)],
        "directory is over 4194304 bytes",
    ),
}

F32 = make.described("F32", [1], 0, 4)
TEXTS = {
    "empty file": (b"", "got an empty file"),
    "text": (b"epoch 3\n", r"got a file that begins b'epoch 3\\n'"),
    "old pickle": (b"cos\nsystem\n(S'ls'\ntR.", r"begins b.cos\\nsystem"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer, not"),
    "web page": (b"\n<!DOCTYPE html><html>404</html>", "a web page"),
    "json": (b'{"error": "not found"}', "got JSON"),
    "gzip": (gzip.compress(b"x"), "a gzip file"),
    "tar": (bytes(257) + b"ustar", "a tar, PyTorch's format before 0.1.10"),
    "plain pickle": (make.PROTO + b"}.", "wanted a pickle of torch.save, got a dict"),
    "plain attack": (make.PROTO + call(name("os.system"), SHELL) + b".", "os.system"),
    "legacy attack": (make.legacy(attack(name("os.system"))), "names os.system"),
    "legacy protocol": (make.legacy(protocol=1002), "wanted protocol 1001, got 1002"),
    "legacy big endian": (make.legacy(little=b"\x89"), "wanted byte order 'little'"),
    "legacy unknown storage": (make.legacy(keys=["0", "1"]), "storage '1' is unknown"),
    "legacy storage twice": (make.legacy(keys=["0", "0"]), "storage '0' is unknown or"),
    "legacy storage missing": (make.legacy(keys=[]), "has no storage '0'"),
    "legacy count": (make.legacy(count=-1), "wanted 6 elements, got -1"),
    "legacy cut off": (make.legacy(data=make.ONES[:-1]), "cut off: storage '0' ends"),
    "legacy storage of 10^12": (
        make.legacy(
            make.state_dict(a=tensor(pid=make.legacy_storage(count=HUGE))), count=HUGE
        ),
        "cut off: storage '0' ends",
    ),
    "header of 2^40": ((2**40).to_bytes(8, "little") + b"{}", "header of at most 2 "),
    "header cut off": (make.safetensors('{"a":')[:-2], "header of at most"),
    "header that is no JSON": (make.safetensors('{"a":'), "damaged or cut off"),
    "header with a key twice": (
        make.safetensors(f'{{"a":{F32},"a":{F32}}}', bytes(4)),
        "header has 'a' twice",
    ),
    "deep header": (make.safetensors('{"a":' + "[" * 100_000), "damaged or cut off"),
    "array of 10^12": (
        make.safetensors(f'{{"a":{make.described("F32", [HUGE], 0, 4)}}}', bytes(4)),
        "damaged or cut off",
    ),
    "array outside the file": (
        make.safetensors(f'{{"a":{make.described("F32", [9], 0, 36)}}}', bytes(4)),
        "damaged or cut off",
    ),
    "nothing of 10^12 by 10^12": (
        make.safetensors(f'{{"a":{make.described("F32", [HUGE, 0, HUGE], 0, 0)}}}'),
        "damaged or cut off|too large",
    ),
    "unknown dtype": (
        make.safetensors(f'{{"a":{make.described("F4", [8], 0, 4)}}}', bytes(4)),
        "cannot read dtype 'F4'",
    ),
}


HARMLESS = {
    "a billion laughs": doubled(80),
    "deep": b")" + b"\x85" * 100_000,
    "long chain": name("torch.nn.Identity") + b")R" * 100_000,
    "deep builds": name("torch.nn.Identity") + b")R" + (b"2b" * 100_000),
    # A table of 10,000 pairs, made again 30,000 times.
    "pairs again and again": b"(]("
    + b"".join(b"](" + number(n) + b"Ne" for n in range(10_000))
    + b"e\x85q\0"
    + (name("collections.OrderedDict") + b"h\0R") * 30_000
    + b"t",
    "the same facts again and again": b"]q\0("
    + b"K\1" * 19_000
    + b"e0"
    + b"}("
    + b"".join(number(n) + b"h\0" for n in range(100_000))
    + b"u",
    "cycle": b"]q\0h\0a",
    "cycle through a namespace": name("argparse.Namespace") + b")\x81q\0h\0b",
    "getattr": call(name("builtins.getattr"), name("torch.nn"), text("system")),
    "keys that collide": b"}("
    + b"".join(number(n * (2**61 - 1)) + b"N" for n in range(100_000))
    + b"u",
}
