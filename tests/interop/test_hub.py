"""Files come from the hub through huggingface_hub; here the hub is a local server."""

import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import numpy as np
import pytest

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.interop.files import open_tensors, write_safetensors
from brainjax.interop.hub import fetch

COMMITS = {"main": "a" * 40, "v1": "b" * 40}


class Hub(NamedTuple):
    """Files by (revision, path in the repository), and the requests that came."""

    files: dict[tuple[str, str], bytes]
    requests: list[str]


class Handler(BaseHTTPRequestHandler):
    """Answers `/lab/brains/resolve/REVISION/PATH` as the hub does."""

    hub: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        body = self.answer()
        self.wfile.write(body)

    def answer(self) -> bytes:
        self.hub.requests.append(f"{self.command} {self.path}")
        _, *repository, word, revision, path = self.path.split("/", 5)
        if (repository, word) != (["lab", "brains"], "resolve"):
            return self.refuse("RepoNotFound")
        names = {commit: name for name, commit in COMMITS.items()}
        revision = names.get(revision, revision)
        if revision not in COMMITS:
            return self.refuse("RevisionNotFound")
        if (revision, path) not in self.hub.files:
            return self.refuse("EntryNotFound", revision)
        body = self.hub.files[revision, path]
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMITS[revision])
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        return body

    def refuse(self, code: str, revision: str = "main") -> bytes:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMITS[revision])
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        return b""

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    """A hub on this machine, asked instead of huggingface.co; its cache is new."""
    constants = pytest.importorskip("huggingface_hub.constants")
    content = Hub({}, [])
    handler = type("Handler", (Handler,), {"hub": content})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    # The package reads its other settings once, when it is imported.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    try:
        yield content
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def weights(tmp_path) -> bytes:
    write_safetensors(tmp_path / "file", {"weight": np.arange(3.0)})
    return (tmp_path / "file").read_bytes()


def test_a_file_is_fetched_once(hub, weights):
    hub.files["main", "deep/model.safetensors"] = weights
    address = "hf://lab/brains/deep/model.safetensors"
    np.testing.assert_array_equal(open_tensors(address).read("weight"), [0, 1, 2])
    assert fetch(address).read_bytes() == weights
    gets = [request for request in hub.requests if request.startswith("GET")]
    assert gets == ["GET /lab/brains/resolve/main/deep/model.safetensors"]


def test_a_revision_is_what_was_asked_for(hub, weights):
    hub.files["main", "model"], hub.files["v1", "model"] = b"main", weights
    assert fetch("hf://lab/brains/model@v1").read_bytes() == weights
    assert fetch("hf://lab/brains/model").read_bytes() == b"main"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://lab/brains/absent", "the repository has no such file"),
        ("hf://lab/absent/model", "no such repository, or a private one"),
        ("hf://lab/brains/model@v9", "the repository has no such revision"),
        ("hf://lab/brains", "wanted hf://owner/name/path"),
        ("hf://lab/brains/../../x", "wanted hf://owner/name/path"),
        ("hf://lab/brains/model@", "wanted hf://owner/name/path"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(hub, address, message):
    with pytest.raises(InputRefusedError, match=message) as caught:
        open_tensors(address)
    assert str(caught.value).startswith(f"{address}: ")
    assert "\n" not in str(caught.value)


def test_without_a_network_the_cache_still_gives(hub, weights, monkeypatch):
    hub.files["main", "model"] = weights
    fetch("hf://lab/brains/model")
    # A port that nothing listens on; the package tries again and again, and waits.
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert fetch("hf://lab/brains/model").read_bytes() == weights
    with pytest.raises(InputRefusedError, match="the server cannot be reached"):
        fetch("hf://lab/brains/other")


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"brainjax\[hf\]"):
        fetch("hf://lab/brains/model")
