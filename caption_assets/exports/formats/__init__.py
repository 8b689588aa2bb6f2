"""One file a format."""

from collections.abc import Mapping
from types import MappingProxyType

from caption_assets.exports.base import Format
from caption_assets.exports.formats.cosmos import Cosmos
from caption_assets.exports.formats.json_lines import JsonLines, Musubi
from caption_assets.exports.formats.parquet import Parquet
from caption_assets.exports.formats.tables import Csv, DiffSynth, OpenSora
from caption_assets.exports.formats.text_files import TextFiles
from caption_assets.exports.formats.video_folder import VideoFolder
from caption_assets.exports.formats.web_dataset import WebDataset
from caption_assets.settings import ExportFormatName

_ALL: tuple[Format, ...] = (
    JsonLines(),
    Csv(),
    Musubi(),
    DiffSynth(),
    OpenSora(),
    VideoFolder(),
    TextFiles(),
    Cosmos(),
    WebDataset(),
    Parquet(),
)
FORMATS: Mapping[ExportFormatName, Format] = MappingProxyType({form.name: form for form in _ALL})
"""Every format by its name."""
