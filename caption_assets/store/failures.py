"""How a place's failure is told."""

from caption_assets.errors import StoreError

WRITE_FIX = "choose an output path that this process can write, and make sure that there is space"


def failed(verb: str, path: str, err: Exception) -> StoreError:
    reason = getattr(err, "strerror", None) or str(err) or type(err).__name__
    fix = WRITE_FIX if verb in ("write", "delete") else "check the path and who may read it"
    return StoreError(f"{verb} {path}", reason.rstrip("."), fix)
