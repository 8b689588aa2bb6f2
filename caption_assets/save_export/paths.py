"""Every path rule of the output root, and nothing else.

Two kinds of functions. The `get_output_path_*` helpers carry the names and results of NeMo Curator's clip writer:
root in, folder out, as strings. All others give a posix path *relative to the output root*, which is what
`Store` takes. Names that become one component of a path are checked here, so that no table or document can land
outside the root.
"""

from caption_assets.store.paths import component, fitted

METAS_VERSION = "v0"


def get_output_path_clips(output_path: str, filtered: bool = False) -> str:
    """Folder of kept clips, or of those that a filter rejected. The splitter writes it."""
    return _below(output_path, "filtered_clips" if filtered else "clips")


def get_output_path_previews(output_path: str) -> str:
    """Folder of the previews, one sub-folder a clip."""
    return _below(output_path, "previews")


def get_output_path_metas(output_path: str, version: str) -> str:
    """Folder of the clip documents; `version` is "v0" in every release so far."""
    return _below(output_path, f"metas/{version}")


def get_output_path_ce1_embd(output_path: str) -> str:
    """Folder of pickled embeddings. The embedding stage writes it."""
    return _below(output_path, "ce1_embd")


def get_output_path_ce1_embd_parquet(output_path: str) -> str:
    """Folder of embeddings as Parquet. The embedding stage writes it, and de-duplication reads all of it."""
    return _below(output_path, "ce1_embd_parquet")


def get_output_path_processed_videos(output_path: str) -> str:
    """Folder with one document a source video."""
    return _below(output_path, "processed_videos")


def get_output_path_processed_clip_chunks(output_path: str) -> str:
    """Folder with one document a chunk of clips."""
    return _below(output_path, "processed_clip_chunks")


def clip_document(clip_id: str) -> str:
    return f"metas/{METAS_VERSION}/{component(clip_id, 'clip id')}.json"


def preview_folder(clip_id: str) -> str:
    return f"previews/{component(clip_id, 'clip id')}"


def preview(clip_id: str, start_frame: int, end_frame: int) -> str:
    """Both frames inclusive, unpadded."""
    return f"{preview_folder(clip_id)}/{start_frame}_{end_frame}.webp"


def window_mp4_folder(clip_id: str) -> str:
    """Outside `clips/`, where readers take every mp4 for a clip."""
    return f"window_clips/{component(clip_id, 'clip id')}"


def window_mp4(clip_id: str, start_frame: int, end_frame: int) -> str:
    """A window kept as a video of its own."""
    return f"{window_mp4_folder(clip_id)}/{start_frame}_{end_frame}.mp4"


def rendered(shard: str) -> str:
    """What is known of the shard's documents; among the tables, which are ours alone."""
    return f"tables/documents/{fitted(component(shard, 'shard'), '.json.gz')}"


def processed_video(source_rel: str) -> str:
    """`source_rel` is the source video below its root, with sub-folders and extension: `sub/a.mp4`."""
    return f"processed_videos/{fitted(source_rel, '.json')}"


def processed_clip_chunk(source_rel: str, chunk: int) -> str:
    """`chunk` counts from 0."""
    return f"processed_clip_chunks/{fitted(source_rel, f'_{chunk}.json')}"


def source_relative(source: str, source_root: str) -> str | None:
    """`source` below `source_root`, or None where it does not lie below it.

    Whole components are compared: `/data/videos/a.mp4` is not below `/data/vid`. A root that is the file itself
    holds nothing.
    """
    parts, root = split(source), split(source_root)
    if ".." in parts or len(parts) <= len(root) or parts[: len(root)] != root:
        return None
    return "/".join(parts[len(root) :])


def split(path: str) -> list[str]:
    """Components of a path or URL; the first tells absolute paths, relative ones and each scheme apart."""
    scheme, sep, rest = path.partition("://")
    if not sep:
        scheme, rest = ("/" if path.startswith("/") else ""), path
    elif scheme in ("file", "local"):
        scheme = "/"
    return [scheme, *(part for part in rest.split("/") if part not in ("", "."))]


def _below(output_path: str, name: str) -> str:
    return f"{output_path.rstrip('/')}/{name}"
