"""Hugging Face hub ids -> directories, without waiting for a network that is not there."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

from edgekit import progress
from edgekit.errors import ModelError, brief

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PATTERNS = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("vocab.*", "merges.txt", "*spiece.model", "sentencepiece*.model"),
)
_PICKLES = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
_CONNECT_S = 3.0


def is_hub_id(source: str) -> bool:
    """Whether a source that is no file can be an id such as google/vit-base-patch16-224."""
    suffix = Path(source).suffix.lower()
    return bool(_ID.fullmatch(source)) and suffix not in (".onnx", ".pt", ".pth", ".bin", ".safetensors", ".ckpt")


def hub_directory(repository: str) -> Path:
    """The directory of a model of the hub: from the cache, else downloaded.

    Raises:
        ModelError: if it is not in the cache and cannot be had, at once where there is no network.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        cached = Path(snapshot_download(repository, local_files_only=True, allow_patterns=list(_PATTERNS)))
        if any(cached.glob("*.safetensors")) or any(cached.glob("pytorch_model*.bin")):
            return cached
    except (LocalEntryNotFoundError, FileNotFoundError):
        pass
    return _download(repository)


def _download(repository: str) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise ModelError(_missing(repository, "HF_HUB_OFFLINE forbids to download it"))
    _require_network(repository, constants.ENDPOINT)
    progress.note(f"downloading {repository}")
    try:
        names = [s.rfilename for s in HfApi().model_info(repository, timeout=10).siblings or ()]
        safe = any(name.endswith(".safetensors") for name in names)
        patterns = [*_PATTERNS, *(() if safe else _PICKLES)]
        return Path(snapshot_download(repository, allow_patterns=patterns, etag_timeout=10))
    except GatedRepoError as error:
        raise ModelError(f"model {repository} is gated; accept its terms on the hub and run `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"model {repository} is neither a path here nor on {constants.ENDPOINT}; look at its spelling, or run "
            "`hf auth login` if it is private"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(_missing(repository, f"the download failed ({brief(error, 160)})")) from error


def _require_network(repository: str, endpoint: str) -> None:
    """One short attempt to connect, rather than the hub library's minutes of retries."""
    from urllib.request import getproxies, proxy_bypass

    address = urlsplit(endpoint)
    proxy = getproxies().get(address.scheme)
    if proxy and not proxy_bypass(address.hostname or ""):
        address = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_CONNECT_S).close()
    except OSError as error:
        raise ModelError(_missing(repository, f"{address.hostname} cannot be reached ({brief(error, 160)})")) from error


def _missing(repository: str, reason: str) -> str:
    cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
    name = repository.rsplit("/", 1)[-1]
    return (
        f"model {repository} is no path here and not in the cache {cache}, and {reason}; where there is a network run "
        f"`hf download {repository} --local-dir {name}`, then export that directory"
    )
