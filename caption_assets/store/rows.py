"""The rows of the tables: each field with its type, its default and its description, and nothing of it said again.

One row a window; a clip without a window has one row whose frames are None. The Arrow schema, the columns that
Dagster's catalog shows, and the documentation are derived from here (`tables.columns`).
"""

from dataclasses import dataclass
from typing import Annotated

from caption_assets.errors import shortened
from caption_assets.records import Preference, Side, Status, Verdict, Window


@dataclass(frozen=True, slots=True)
class Column:
    """What a field holds, with units. `earlier` is the name that the column has in older tables."""

    description: str
    earlier: str | None = None


ClipId = Annotated[str, Column("The clip.")]
StartFrame = Annotated[int, Column("First frame of the window, counted from 0 in the clip.")]
EndFrame = Annotated[int, Column("Last frame of the window, inclusive.")]
ContentHash = Annotated[str | None, Column("Hash of the clip's bytes that this row is about.")]
TemplateFingerprint = Annotated[
    str | None,
    Column(
        "The fingerprint as it would be with nothing filled into the prompt; null where that names nothing, and in "
        "rows of earlier versions."
    ),
]
Fingerprint = Annotated[str, Column("Covers everything that the row depends on; where it is equal, the row is reused.")]
Seconds = Annotated[float, Column("Time spent, in seconds.")]


FLAGGED = "flagged"
"""The kind of a row without a text because a rule has found an error in what it was to be made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """How the item of a row ended."""

    status: Annotated[Status, Column("ok, failed or skipped.")] = "ok"
    error_kind: Annotated[str, Column("Short stable word for the reason; empty where status is ok.")] = ""
    error: Annotated[str, Column("The reason in words; empty where status is ok.")] = ""

    def __post_init__(self) -> None:
        # A reason may quote what a model, a file or another library has written.
        object.__setattr__(self, "error", shortened(self.error))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Generated(_Ended):
    """A text that a model wrote, and how."""

    finish_reason: Annotated[str | None, Column("Why the model stopped: stop, length, …")] = None
    prompt_tokens: Annotated[int | None, Column("Tokens of the request.")] = None
    output_tokens: Annotated[int | None, Column("Tokens of the answer, its end included.")] = None
    cached_tokens: Annotated[
        int | None,
        Column("Tokens of the request that the model had from another question about the window; null if not known."),
    ] = None
    mean_logprob: Annotated[
        float | None,
        Column(
            "Confidence: mean log-probability of the text's tokens, by the model that wrote it; null where a server "
            "does not tell, and in rows of earlier versions, like the next two."
        ),
    ] = None
    min_logprob: Annotated[float | None, Column("Log-probability of its least likely token.")] = None
    low_logprob: Annotated[float | None, Column("Mean of the lowest tenth, of one token at least.")] = None
    model_id: Annotated[
        str, Column("The model; with a server, what that says it is, by its answers or by what it was loaded from.")
    ] = ""
    model_revision: Annotated[str, Column("The model's revision; empty with a server, which does not tell.")] = ""
    server_model: Annotated[str, Column("What the server calls the model; empty without a server.")] = ""
    precision: Annotated[str, Column("Precision of the weights.")] = ""
    engine: Annotated[str, Column("The engine that ran the model.")] = ""
    engine_version: Annotated[str, Column("The engine's version.")] = ""
    prompt_hash: Annotated[str, Column("Hash of the prompt text.")] = ""
    fingerprint: Fingerprint = ""
    seconds: Annotated[float, Column("Its share of the time that the model was at work, in seconds.")] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRow(_Ended):
    """One planned window of a clip, or why there is none. Written by `clip_windows`.

    Video fields are None where the clip could not be probed.
    """

    clip_id: ClipId
    relative_path: Annotated[str, Column("The clip's path below the dataset root, posix.")]
    location: Annotated[
        str,
        Column("The clip's path or URL; of one inside of a tar or a Parquet file, with its place.", earlier="source"),
    ]
    stamp: Annotated[str | None, Column("The clip's size and time, or ETag, when it was planned.")] = None
    columns: Annotated[
        str | None, Column("What else the dataset says of the clip, as a JSON object; null where it says nothing.")
    ] = None
    sidecars: Annotated[
        tuple[str, ...], Column("Paths or URLs of the files beside the clip that say something of it.")
    ] = ()
    width: Annotated[
        int | None, Column("Stored pixels; null where the clip could not be probed, like all video columns.")
    ] = None
    height: Annotated[int | None, Column("Stored pixels.")] = None
    display_width: Annotated[int | None, Column("Pixels upright, with square pixels.")] = None
    display_height: Annotated[int | None, Column("Pixels upright, with square pixels.")] = None
    rotation: Annotated[
        int | None, Column("Degrees clockwise that the file asks to be turned by: 0, 90, 180 or 270.")
    ] = None
    frame_rate: Annotated[float | None, Column("Average frames a second.")] = None
    duration_s: Annotated[float | None, Column("Length of the clip in seconds.")] = None
    clip_frames: Annotated[int | None, Column("Frames of the clip's first video stream, counted.")] = None
    codec: Annotated[str | None, Column("Video codec.")] = None
    pixel_format: Annotated[str | None, Column("Pixel format.")] = None
    audio_codec: Annotated[str | None, Column("Audio codec; null without sound.")] = None
    num_bytes: Annotated[int | None, Column("Size of the clip file in bytes.")] = None
    content_hash: Annotated[str | None, Column("Hash of the clip's bytes.")] = None
    probed: Annotated[
        bytes | None,
        Column("All that was found out about the clip, frame times and key frames too, packed; in its first row only."),
    ] = None
    window_size: Annotated[int, Column("Setting: frames in a full window.")]
    remainder_threshold: Annotated[int, Column("Setting: a remainder of at least this many frames is its own window.")]
    sampling_fps: Annotated[float, Column("Setting: frames a second that the caption model is to see.")]
    start_frame: Annotated[
        int | None, Column("First frame of the window, counted from 0; null for a clip without windows.")
    ] = None
    end_frame: Annotated[
        int | None, Column("Last frame of the window, inclusive; null for a clip without windows.")
    ] = None
    start_s: Annotated[float | None, Column("Start of the window in seconds of the clip.")] = None
    end_s: Annotated[float | None, Column("End of the window in seconds of the clip.")] = None
    frame_ids: Annotated[
        tuple[int, ...], Column("Frames that the caption model sees, by their number in the clip.")
    ] = ()
    times_s: Annotated[
        tuple[float, ...], Column("True times of those frames in seconds after the window's first.")
    ] = ()
    window_hash: Annotated[
        str | None,
        Column(
            "Covers the clip's bytes, the window and its frames: changes whenever the model would see something else."
        ),
    ] = None
    mp4_path: Annotated[
        str | None, Column("The window as a video, below the output root; null where it is not kept.")
    ] = None
    mp4_bytes: Annotated[int | None, Column("Size of that file in bytes.")] = None
    fingerprint: Fingerprint = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewRow(_Ended):
    """One window's preview, or why there is none. Written by `window_previews`."""

    clip_id: ClipId
    start_frame: StartFrame
    end_frame: EndFrame
    content_hash: ContentHash = None
    path: Annotated[str | None, Column("The WebP below the output root.")] = None
    num_frames: Annotated[int | None, Column("Frames of the preview.")] = None
    width: Annotated[int | None, Column("Pixels.")] = None
    height: Annotated[int | None, Column("Pixels.")] = None
    frame_ms: Annotated[int | None, Column("How long each frame is shown, in milliseconds.")] = None
    num_bytes: Annotated[int | None, Column("Size in bytes.")] = None
    fingerprint: Fingerprint = ""
    seconds: Seconds = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRow(_Generated):
    """One window's caption by one variant, or why there is none. Written by `window_captions`."""

    key: Annotated[str, Column("The variant's name in the output.")]
    clip_id: ClipId
    start_frame: StartFrame
    end_frame: EndFrame
    content_hash: ContentHash = None
    prompt_name: Annotated[
        str | None,
        Column("The prompt's name, empty for the model's own; null in rows of earlier versions and of other tools."),
    ] = None
    window_hash: Annotated[str | None, Column("The captioned window's hash.")] = None
    text: Annotated[str | None, Column("The caption; null where there is none.")] = None
    template_fingerprint: TemplateFingerprint = None
    is_json: Annotated[bool, Column("Whether the caption is JSON, by a schema.")] = False
    json_schema: Annotated[
        str | None, Column("That schema, as JSON; null where there is none, and in rows of earlier versions.")
    ] = None
    first_text: Annotated[str | None, Column("The caption before a second pass; null without one.")] = None
    decode_s: Annotated[float | None, Column("Seconds to decode and resize the window's frames.")] = None
    render_s: Annotated[float | None, Column("Seconds to make the engine's input of them.")] = None
    wait_s: Annotated[float | None, Column("Seconds from then until the model began with it.")] = None
    prefill_s: Annotated[float | None, Column("Seconds from then to the first token.")] = None
    generate_s: Annotated[float | None, Column("Seconds from the first to the last token.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnhancedRow(_Generated):
    """One caption rewritten by a text model, or why there is none. Written by `enhanced_captions`."""

    key: Annotated[str, Column("The text model's name in the output.")]
    caption_key: Annotated[str, Column("The variant whose caption was rewritten.")]
    caption_hash: Annotated[
        str, Column("Hash of that caption's text; the row no longer counts once the caption has changed.")
    ]
    clip_id: ClipId
    start_frame: StartFrame
    end_frame: EndFrame
    text: Annotated[str | None, Column("The enhanced caption; null where there is none.")] = None
    template_fingerprint: TemplateFingerprint = None
    caption_finding: Annotated[
        str, Column("Why its caption is of no use, by a finding of severity error; empty where there is none.")
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """What the rules have against one caption, if anything. Written with `window_captions`."""

    key: Annotated[str, Column("The variant whose caption was judged.")]
    clip_id: ClipId
    start_frame: StartFrame
    end_frame: EndFrame
    text_hash: Annotated[str, Column("Hash of the text; the row no longer counts once that has changed.")]
    severity: Annotated[str, Column("The heaviest of its findings: error, warning; empty where there is none.")] = ""
    rules: Annotated[tuple[str, ...], Column("The rules that found something, errors first.")] = ()
    severities: Annotated[tuple[str, ...], Column("The severity of each.")] = ()
    messages: Annotated[tuple[str, ...], Column("What each has found, in words.")] = ()
    fingerprint: Annotated[
        str, Column("Covers the shard's texts, the settings and the rules; where it is equal, nothing is judged again.")
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnhancedFindingRow(FindingRow):
    """What the rules have against one enhanced caption, if anything. Written with `enhanced_captions`."""

    caption_key: Annotated[str, Column("The variant whose caption was rewritten; `key` is the text model's.")]


TextKey = Annotated[str, Column("Whose text: a caption key, or `<caption key>/<text key>` of an enhanced caption.")]
Reviewer = Annotated[str, Column("Who says so, by the name that was given.")]
At = Annotated[str, Column("When: ISO 8601, UTC, to the microsecond.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRow:
    """What one person says of one text. Written by `caption-assets review --serve`; nothing is ever taken out."""

    clip_id: ClipId
    start_frame: StartFrame
    end_frame: EndFrame
    key: TextKey
    text_hash: Annotated[str, Column("Hash of the text that was judged; a later text of the window is another.")]
    text: Annotated[str, Column("That text.")]
    verdict: Annotated[Verdict, Column("right, wrong, edited, or withdrawn: the one before no longer counts.")]
    edited: Annotated[str | None, Column("The text as the person would have it; null unless edited.")] = None
    reviewer: Reviewer
    at: At


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """Which of two captions of a window one person prefers, without being told whose they are. Written by
    `caption-assets review --compare`."""

    clip_id: ClipId
    start_frame: StartFrame
    end_frame: EndFrame
    first_key: Annotated[str, Column("One of the caption keys, which are in alphabetical order.")]
    second_key: Annotated[str, Column("The other one.")]
    first_hash: Annotated[str, Column("Hash of the first one's caption.")]
    second_hash: Annotated[str, Column("Hash of the second one's.")]
    left: Annotated[Side, Column("Which was shown on the left: first or second.")]
    verdict: Annotated[Preference, Column("first, second, tie, both_bad, or withdrawn.")]
    reviewer: Reviewer
    at: At


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """What a step of a run cost for one shard: its share. Written with whatever the step makes."""

    run_id: Annotated[str, Column("The run, by Dagster's id.")]
    asset: Annotated[str, Column("What was made, as Dagster calls the asset.")]
    shard: Annotated[str, Column("The shard; empty for what is no shard's, as the end of the engine.")]
    at: Annotated[str, Column("When it ended: ISO 8601, UTC.")]
    seconds: Annotated[float, Column("Seconds by the clock.")] = 0.0
    items: Annotated[int, Column("Windows, clips or captions that were made, without those that were there.")] = 0
    device: Annotated[str, Column("Where the model ran; empty where none did.")] = ""
    gpu_held_s: Annotated[float, Column("Seconds times GPUs that were leased.")] = 0.0
    gpu_busy_s: Annotated[float, Column("Of these, with something to do.")] = 0.0
    engine_starts: Annotated[int, Column("Starts of the engine.")] = 0
    cpu_s: Annotated[float, Column("CPU seconds of all processes of the run.")] = 0.0
    bytes_read: Annotated[int, Column("Bytes of the clips that were opened.")] = 0
    prompt_tokens: Annotated[int, Column("Tokens of the requests.")] = 0
    cached_tokens: Annotated[
        int, Column("Of these, tokens of what the model had read already; 0 in rows of earlier versions.")
    ] = 0
    output_tokens: Annotated[int, Column("Tokens of the answers, their ends included.")] = 0
    gpu_hour_price: Annotated[float | None, Column("Price of a GPU hour, as it was set; null without one.")] = None
    cost: Annotated[float | None, Column("What the GPUs cost by that price.")] = None


Row = WindowRow | PreviewRow | CaptionRow | EnhancedRow
"""What a step makes of a window, and how that ended."""
TextRow = Row | FindingRow | EnhancedFindingRow | VerdictRow | ComparisonRow
"""A row about a window."""
AnyRow = TextRow | CostRow
WindowKey = tuple[str, int, int]


def window_key(row: TextRow) -> WindowKey:
    """What tells a shard's windows apart: clip, first and last frame."""
    return row.clip_id, row.start_frame or 0, row.end_frame or 0


def window_of(row: TextRow) -> Window:
    """The window of a row that has one."""
    return Window(row.start_frame or 0, row.end_frame or 0)


def key_of_text(row: CaptionRow | EnhancedRow) -> str:
    """What tells the texts of a window apart: the caption key, with that of the text model for an enhanced caption."""
    return f"{row.caption_key}/{row.key}" if isinstance(row, EnhancedRow) else row.key
