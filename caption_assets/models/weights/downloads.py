"""Getting a checkpoint's files, from its folder or from Hugging Face: once, whole, all of one revision."""

import contextlib
import errno
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from caption_assets.errors import ModelError, first_line
from caption_assets.models.locks import holder, try_lock, wait_lock
from caption_assets.models.waits import waiting
from caption_assets.models.weights.apart import call_apart
from caption_assets.models.weights.checkpoints import Checkpoint, no_weights

log = logging.getLogger(__name__)

_INDEX = "model.safetensors.index.json"
_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model"]
_CODE = ["*.py"]
_CONFIGS = ["config.json", "*processor_config.json"]
# A download that is cut off loses the files it was at. A model has few of them, and one or two fill the line.
_FILES_AT_ONCE = 2
_GIB = 1 << 30


def locate(checkpoint: Checkpoint, model_dir: str | None = None, *, trust_remote_code: bool = False) -> Path:
    """The folder that holds config, weights and processor of `checkpoint`, all of the same revision and complete.

    What is missing is downloaded from Hugging Face into `model_dir` (Hugging Face's own cache by default), by one
    process while others wait. A download that was cut off goes on with the files that it had not finished. Where
    everything is there, no request is made. Python files come along with `trust_remote_code` only. Raises ModelError.
    """
    if checkpoint.folder is not None:
        _require_whole(checkpoint.folder)
        return checkpoint.folder
    patterns = _FILES + (_CODE if trust_remote_code else [])
    folder = _present(checkpoint, model_dir, patterns)
    if folder is None:
        with _the_only_one(checkpoint, model_dir):
            folder = _present(checkpoint, model_dir, patterns) or _download(checkpoint, model_dir, patterns)
    return folder


def locate_config(checkpoint: Checkpoint, model_dir: str | None = None) -> Path:
    """A folder with the model's and the processor's configs of `checkpoint`, whatever else is there.

    These are small; they are downloaded as `locate` does it, if they are not here. Raises ModelError.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if checkpoint.folder is not None:
        return checkpoint.folder
    what: dict[str, Any] = {"revision": checkpoint.revision, "cache_dir": model_dir, "allow_patterns": _CONFIGS}
    with _one_clear_error(f"config of {checkpoint}", checkpoint, model_dir):
        with contextlib.suppress(LocalEntryNotFoundError):
            folder = Path(snapshot_download(checkpoint.model_id, **what, local_files_only=True))
            if (folder / "config.json").is_file():
                return folder
        folder = Path(snapshot_download(checkpoint.model_id, **what))
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {checkpoint}", "it has no config.json", "give a model in the format of transformers")
    return folder


def _require_whole(folder: Path) -> None:
    """Raises ModelError where weights of the checkpoint in `folder` are missing or not whole."""
    if not (folder / _INDEX).is_file() and not list(folder.glob("*.safetensors")):
        raise no_weights(f"model in {folder}")
    if faulty := _faulty(folder):
        raise ModelError(
            f"model in {folder}",
            f"these files are missing, cut off or only pointers of git-lfs: {', '.join(faulty)}",
            "download them again",
        )


def _present(checkpoint: Checkpoint, model_dir: str | None, patterns: list[str]) -> Path | None:
    """The folder of `checkpoint` where all of it is in the cache. Makes no request."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                checkpoint.model_id,
                revision=checkpoint.revision,
                cache_dir=model_dir,
                allow_patterns=patterns,
                local_files_only=True,
            )
        )
    except LocalEntryNotFoundError:
        return None
    return None if _faulty(folder) else folder


def _download(checkpoint: Checkpoint, model_dir: str | None, patterns: list[str]) -> Path:
    asked = f"weights of {checkpoint}"
    with _one_clear_error(asked, checkpoint, model_dir):
        size = _check_disk(asked, checkpoint, model_dir, patterns)
        log.info("Downloading %.1f GiB: %s.", size / _GIB, asked)
        before = _cached_bytes(checkpoint, model_dir)

        def so_far() -> str:
            come = (_cached_bytes(checkpoint, model_dir) - before) / _GIB
            return f"a download ({come:.1f} of {size / _GIB:.1f} GiB: {asked})"

        with waiting(so_far):
            # Its threads read until a file is whole, whoever is interrupted.
            folder, again = call_apart(_fetch, checkpoint, model_dir, patterns)
    for path in again:
        log.warning("%s was not whole and has been downloaded again.", path)
    _require_whole(folder)
    return folder


def _fetch(checkpoint: Checkpoint, model_dir: str | None, patterns: list[str]) -> tuple[Path, list[Path]]:
    """Downloads what is missing. Returns the folder, and the files in it that were fetched once more."""
    from huggingface_hub import hf_hub_download, snapshot_download

    where: dict[str, Any] = {"revision": checkpoint.revision, "cache_dir": model_dir}
    folder = Path(snapshot_download(checkpoint.model_id, **where, allow_patterns=patterns, max_workers=_FILES_AT_ONCE))
    # Only a file that is there can be faulty now: the disk has lost a part of it.
    again = [folder / name for name in _faulty(folder) if (folder / name).exists()]
    for path in again:
        hf_hub_download(checkpoint.model_id, path.name, **where, force_download=True)
    return folder, again


def _check_disk(asked: str, checkpoint: Checkpoint, model_dir: str | None, patterns: list[str]) -> int:
    """The bytes that are still to be downloaded. Raises ModelError where the disk has no room for them."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.utils import filter_repo_objects

    info = HfApi().model_info(checkpoint.model_id, revision=checkpoint.revision, files_metadata=True)
    size = 0
    for file in filter_repo_objects(info.siblings or [], allow_patterns=patterns, key=lambda file: file.rfilename):
        here = try_to_load_from_cache(checkpoint.model_id, file.rfilename, cache_dir=model_dir, revision=info.sha)
        size += 0 if isinstance(here, str) else file.size or 0
    folder = _cache(model_dir)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ModelError(
            asked,
            f"{size / _GIB:.1f} GiB are to be downloaded, and {folder} has {free / _GIB:.1f} GiB left",
            "make room, or give a model_dir (--model-dir) on another disk",
        )
    return size


@contextlib.contextmanager
def _the_only_one(checkpoint: Checkpoint, model_dir: str | None) -> Iterator[None]:
    """Lets one process at a time download `checkpoint`."""
    name = f"{checkpoint.model_id}@{checkpoint.revision}".replace("/", "--")
    path = _cache(model_dir) / ".locks" / "caption_assets" / f"{name}.lock"
    held = None
    try:
        held = try_lock(path)
        if held is None:
            log.warning("Waiting for the weights of %s: %s downloads them.", checkpoint, holder(path))
            with waiting(f"the weights of {checkpoint}, which {holder(path)} downloads"):
                held = wait_lock(path)
    except OSError as error:
        # Without the lock files may be downloaded twice, but never come out wrong.
        log.info("No lock on %s (%s); downloading without.", path, error)
    try:
        yield
    finally:
        if held is not None:
            held.close()


@contextlib.contextmanager
def _one_clear_error(asked: str, checkpoint: Checkpoint, model_dir: str | None) -> Iterator[None]:
    """Turns whatever a download may raise into a ModelError that says what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except ModelError:
        raise
    except GatedRepoError as error:
        fix = f"accept its licence at huggingface.co/{checkpoint.model_id}, then set HF_TOKEN (or run `hf auth login`)"
        raise ModelError(asked, "the model is gated", fix) from error
    except RevisionNotFoundError as error:
        raise ModelError(asked, "the model does not have this revision", "check the revision") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            asked, "the model does not exist, or it is private", "check the id, or set HF_TOKEN"
        ) from error
    except Exception as error:  # the errors of three HTTP and storage libraries have nothing in common
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise ModelError(asked, f"access is refused ({first_line(error)})", "check HF_TOKEN") from error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            fix = "make room there, or give another model_dir (--model-dir); what is finished is kept"
            raise ModelError(asked, f"{_cache(model_dir)} cannot be written ({error.strerror})", fix) from error
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else first_line(error)
        fix = "connect to the internet and run again (what is finished is kept), or put the files into a folder and "
        fix += "give it as model_path (--model-path)"
        raise ModelError(asked, f"they are not all here and cannot be downloaded ({why})", fix) from error


def _faulty(folder: Path) -> list[str]:
    """Names of the files that a checkpoint cannot do without and that are missing or not whole."""
    names = [path.name for path in folder.glob("*.safetensors")]
    if (folder / _INDEX).is_file():
        try:
            names = list(json.loads((folder / _INDEX).read_text())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError):
            return [_INDEX]
    if not names:
        names = ["model.safetensors"]
    if not (folder / "config.json").is_file():
        names.append("config.json")
    return [name for name in sorted(set(names)) if not _is_whole(folder / name)]


def _is_whole(path: Path) -> bool:
    """Whether a file is there and, as safetensors, whole: whoever opens it checks its length against its header."""
    if not path.is_file():
        return False
    if path.suffix != ".safetensors":
        return True
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return bool(file.keys())
    except (OSError, SafetensorError):
        return False


def _cached_bytes(checkpoint: Checkpoint, model_dir: str | None) -> int:
    """The bytes of a model that are in the cache, those of unfinished files, too."""
    blobs = _cache(model_dir) / f"models--{checkpoint.model_id.replace('/', '--')}" / "blobs"
    with contextlib.suppress(OSError):  # files are renamed meanwhile
        return sum(path.stat().st_size for path in blobs.iterdir())
    return 0


def _cache(model_dir: str | None) -> Path:
    from huggingface_hub import constants

    return Path(model_dir or constants.HF_HUB_CACHE).expanduser().absolute()
