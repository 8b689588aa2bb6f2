"""One error family. Each error says what was asked, what is wrong with it, and how to fix it."""

import re

# Of pydantic's errors: the lines before the reason, and the input that follows it.
_ANNOUNCES = re.compile(r"\d+ validation errors? for \S+(: \S+)?")
_INPUT = re.compile(r" \[type=.*\]$")
# Of xgrammar's: when, and in which of its own files.
_STAMP = re.compile(r"^\[[\d:]+\] \S+:\d+: ")


class CaptionAssetsError(Exception):
    """Base of all errors that this package raises on purpose.

    `kind` is a short stable word for counting failures ("decode", "config", …); it ends up in the tables.
    """

    kind = "error"

    def __init__(self, asked: str, wrong: str, fix: str = "") -> None:
        self.asked, self.wrong, self.fix = asked, wrong, fix
        super().__init__(f"{asked}: {wrong}." + (f" {fix[0].upper()}{fix[1:]}." if fix else ""))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle by `args`, which hold the finished sentence; workers send errors across processes.
        return type(self), (self.asked, self.wrong, self.fix)


def first_line(error: Exception) -> str:
    """Of what another library's error says, with its name where it says nothing, or a name or number alone.

    A line that only announces the next one, as those of failed validations do, has that one with it.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or isinstance(error, KeyError):
        return ": ".join([type(error).__name__, *lines[:1]])
    said = lines.pop(0)
    while lines and (said.endswith(":") or _ANNOUNCES.fullmatch(said)):
        said = f"{said.removesuffix(':')}: {lines.pop(0)}"
    return _INPUT.sub("", _STAMP.sub("", said))


def shortened(reason: str, most: int = 500) -> str:
    """A reason of `most` letters, without its middle where it is longer: what is wrong mostly stands at an end."""
    return reason if len(reason) <= most else f"{reason[: most // 2]} … {reason[3 - most // 2 :]}"


class ConfigError(CaptionAssetsError):
    """A setting that cannot be used: an unknown variant, a value out of range, a missing tool."""

    kind = "config"


class DatasetError(CaptionAssetsError):
    """A dataset or shard that cannot be read as one: missing, empty, or with clashing clip ids."""

    kind = "dataset"


class ClipError(CaptionAssetsError):
    """One clip that cannot be used. It becomes that clip's stored outcome; the others go on."""

    kind = "decode"


class PreviewError(CaptionAssetsError):
    """One window whose preview could not be made. It becomes that window's stored outcome."""

    kind = "preview"


class ModelError(CaptionAssetsError):
    """A model that cannot be loaded or started: no weights, no GPU, a missing package."""

    kind = "model"


class RequestError(CaptionAssetsError):
    """One request that an engine could not answer. It becomes that window's stored outcome."""

    kind = "engine"


class StoreError(CaptionAssetsError):
    """An output location that cannot be read or written."""

    kind = "store"


class ShardError(CaptionAssetsError):
    """A shard of which nothing at all could be processed."""

    kind = "shard"
