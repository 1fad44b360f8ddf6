"""Fetches files from the Hugging Face hub, or from a server that speaks like it."""

import logging
import os
import re
from pathlib import Path

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.interop.inert import shown

SCHEME = "hf://"
ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)/([^@]+?)(?:@([^@]+))?")

# By name: where these classes live differs between versions of huggingface_hub.
REASONS = {
    "GatedRepoError": "the owner has to grant access; then set HF_TOKEN",
    "RepositoryNotFoundError": "no such repository, or a private one: set HF_TOKEN",
    "RevisionNotFoundError": "the repository has no such revision",
    "EntryNotFoundError": "the repository has no such file",
    "RemoteEntryNotFoundError": "the repository has no such file",
    "LocalEntryNotFoundError": "not in the cache, and the server cannot be reached",
    "OfflineModeIsEnabled": "not in the cache, and HF_HUB_OFFLINE is set",
}


def fetch(address: str) -> Path:
    """Gives the path of a file on the hub, downloaded unless it is in the cache.

    Args:
        address: "hf://owner/name/path/in/repository", and "@revision" behind it where
            it is not the main one. HF_ENDPOINT names another server than
            huggingface.co, HF_TOKEN who asks, HF_HOME where the cache is.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        InputRefusedError: not an address, or it cannot be fetched.
    """
    matched = ADDRESS.fullmatch(address)
    if matched is None or ".." in matched[2].split("/"):
        raise InputRefusedError(
            f"{address}: wanted hf://owner/name/path/in/repository[@revision]"
        )
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hf") from None
    talker = logging.getLogger("huggingface_hub")
    level = talker.level
    talker.setLevel(logging.ERROR)  # it tells of every try, twice
    try:
        found = hf_hub_download(
            matched[1],
            matched[2],
            revision=matched[3],
            endpoint=os.environ.get("HF_ENDPOINT") or None,
            library_name="brainjax",
        )
    except Exception as error:  # each version has its own network's errors
        names = [kind.__name__ for kind in type(error).__mro__]
        said = next((REASONS[name] for name in names if name in REASONS), "")
        line = f"{names[0]} {shown(str(error).strip())}"
        raise InputRefusedError(
            f"{address}: could not be fetched: {said or line}"
        ) from None
    finally:
        talker.setLevel(level)
    return Path(found)
