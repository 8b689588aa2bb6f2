"""What files beside a clip say of it, for whoever asks a model about it. They are read when they are asked for."""

from collections.abc import Mapping

from caption_assets.errors import ClipError
from caption_assets.media.subtitles import cues
from caption_assets.names import actual, is_remote, open_url
from caption_assets.records import Clip, Sidecar

_MOST_BYTES = 1 << 20


def sidecar_texts(clip: Clip, start_s: float, end_s: float) -> Mapping[str, str]:
    """The texts beside a clip, by `json`, `txt` and `vtt`: of the first two whole files, of the last the lines that are
    shown at any time of a window, which goes from `start_s` until `end_s` in seconds of the clip.

    Of several of a kind the first counts. Raises ClipError for one that cannot be read, that is larger than a MiB, no
    UTF-8, or no WebVTT.
    """
    texts: dict[str, str] = {}
    for sidecar in clip.sidecars:
        kind = sidecar.suffix.removeprefix(".")
        if kind in texts:
            continue
        data = _read(sidecar)
        try:
            if kind == "vtt":
                shown = (cue.text for cue in cues(data) if cue.start_s < end_s and cue.end_s > start_s)
                texts[kind] = "\n".join(shown)
            else:
                texts[kind] = data.decode("utf-8-sig").strip()
        except ValueError as error:
            raise _refused(sidecar, f"it cannot be used ({error})") from None
    return texts


def _read(sidecar: Sidecar) -> bytes:
    location = actual(sidecar.location)
    try:
        if is_remote(location):
            files, path = open_url(location)
            data: bytes = files.cat_file(path, start=0, end=_MOST_BYTES + 1)
        else:
            with open(location, "rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except Exception as error:  # every file system has errors of its own
        raise _refused(sidecar, f"it cannot be read ({error})") from error
    if len(data) > _MOST_BYTES:
        raise _refused(sidecar, f"it has more than {_MOST_BYTES} bytes")
    return data


def _refused(sidecar: Sidecar, wrong: str) -> ClipError:
    return ClipError(f"sidecar {sidecar.location}", wrong, "correct it, or take it away")
