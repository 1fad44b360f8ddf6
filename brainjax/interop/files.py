"""Opens a checkpoint of any known format, told by its first bytes."""

from pathlib import Path

from brainjax.errors import InputRefusedError
from brainjax.interop.hub import SCHEME, fetch
from brainjax.interop.safetensors_files import open_safetensors, write_safetensors
from brainjax.interop.tensors import TensorFile, TensorInfo, named
from brainjax.interop.torch_files import open_legacy, open_zip
from brainjax.interop.torch_writing import write_torch

__all__ = [
    "TensorFile",
    "TensorInfo",
    "open_tensors",
    "write_safetensors",
    "write_torch",
]

WANTED = "a checkpoint of PyTorch or safetensors"

OTHERS = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"<", "a web page or XML, perhaps an error page saved in its place"),
    (b"{", "JSON"),
)
"""First bytes of what is often taken for a checkpoint, and what it is."""


def open_tensors(path: str | Path) -> TensorFile:
    """Opens a file of named arrays without reading one, executing nothing.

    Reads PyTorch's zip (.pt, .pth, .ckpt) and its format before 1.6, and safetensors;
    an "hf://" address is fetched first. Suffixes mean nothing.

    Raises:
        InputRefusedError: no such file, another format, a damaged file, or one made
            to do harm: one line that names the file, what was wanted and what came.
    """
    if str(path).startswith(SCHEME):
        path = fetch(str(path))
    path = Path(path)
    with named(path):
        if not path.is_file():
            came = "a folder" if path.is_dir() else "no such file"
            raise InputRefusedError(f"wanted {WANTED}, got {came}")
        with path.open("rb") as file:
            start = file.read(512)
        if start[:2] == b"PK":
            return open_zip(path)
        if start[:1] == b"\x80":
            return open_legacy(path)
        # Eight bytes of length, then JSON.
        if start[8:9] == b"{" and start[6:8] == b"\0\0":
            return open_safetensors(path)
        raise InputRefusedError(f"wanted {WANTED}, got {_describe(start)}")


def _describe(start: bytes) -> str:
    if not start:
        return "an empty file"
    if start[257:262] == b"ustar":
        return "a tar, PyTorch's format before 0.1.10 or an archive: save it anew"
    for magic, name in OTHERS:
        if start.lstrip().startswith(magic):
            return name
    return f"a file that begins {start[:16]!r}"
