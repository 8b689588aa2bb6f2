"""What trainers load, as renderings of the tables: a folder of files for each export, in one format.

Here: which windows go out and with what (`samples`), their videos (`videos`), the folder with its manifest, which
writes only what has changed and removes only what it once wrote (`folder`), one file a format (`formats`), and all of
it together (`export`). Not here: Save & Export, which is its own room, and how an export is asked for (`cli`, `defs`).
"""

from caption_assets.exports.contents import Contents
from caption_assets.exports.export import Export, Exported, default_folder, folder_name
from caption_assets.exports.folder import Changes
from caption_assets.exports.samples import Keys, choose_keys

__all__ = ["Changes", "Contents", "Export", "Exported", "Keys", "choose_keys", "default_folder", "folder_name"]
