"""Settings of what is done with clips: workers, windows, previews."""

from pydantic import ConfigDict

from caption_assets.settings.declare import Settings, setting


class DecodeLimits(Settings):
    """What a clip may ask for. The defaults are beyond any real clip; they stop broken and hostile files."""

    model_config = ConfigDict(frozen=True)

    max_frame_pixels: int = setting(
        16384 * 8704,
        "Pixels of a stored frame, at most.",
        flag="--max-frame-pixels",
        env="MAX_FRAME_PIXELS",
        gt=0,
    )
    max_clip_seconds: float = setting(
        24 * 3600.0,
        "Length of a clip in seconds, at most.",
        flag="--max-clip-seconds",
        env="MAX_CLIP_SECONDS",
        gt=0,
    )
    max_clip_frames: int = setting(
        5_000_000, "Frames of a clip, at most.", flag="--max-clip-frames", env="MAX_CLIP_FRAMES", gt=0
    )
    max_decode_seconds: float = setting(
        3600.0,
        "Seconds that reading a clip may take, each time it is read.",
        flag="--max-decode-seconds",
        env="MAX_DECODE_SECONDS",
        gt=0,
    )
    max_window_bytes: int = setting(
        16 << 30,
        "Bytes of a window's frames, as they are handed out, at most.",
        flag="--max-window-bytes",
        env="MAX_WINDOW_BYTES",
        gt=0,
    )


class WorkerSettings(DecodeLimits):
    """The worker processes of a run, which read and decode clips, and what clips may ask of them."""

    processes: int | None = setting(
        None,
        "Worker processes; by default one for each core that this process may use.",
        flag="--workers",
        env="WORKERS",
        ge=1,
        le=1024,
    )
    keep_gib: float = setting(
        16.0,
        "Copies of remote clips that a run keeps until its end, so that each is fetched once, in GiB.",
        flag="--keep-gib",
        env="KEEP_GIB",
        ge=0,
    )


class WindowSettings(Settings):
    """How clips are cut into windows and sampled (save_export rules: NeMo Curator's windowing stage)."""

    window_size: int = setting(
        256,
        "Frames in a full window, at the clip's own rate.",
        flag="--captioning-window-size",
        env="WINDOW_SIZE",
        ge=4,
    )
    remainder_threshold: int = setting(
        128,
        "A remainder of at least this many frames is a window of its own; a shorter one extends the last.",
        flag="--captioning-remainder-threshold",
        env="REMAINDER_THRESHOLD",
        ge=4,
    )
    sampling_fps: float = setting(
        2.0,
        "Frames a second that the caption model is to see.",
        flag="--captioning-sampling-fps",
        env="SAMPLING_FPS",
        gt=0,
        le=240,
    )
    min_sampled_frames: int = setting(
        4,
        "Frames that the caption model is to see of a window at least; even.",
        flag="--captioning-min-sampled-frames",
        env="MIN_SAMPLED_FRAMES",
        ge=2,
    )
    max_sampled_frames: int = setting(
        768,
        "Frames that it is to see of a window at most; even, and it comes first.",
        flag="--captioning-max-sampled-frames",
        env="MAX_SAMPLED_FRAMES",
        ge=2,
    )
    store_window_mp4: bool = setting(
        False, "Keep each window as an mp4 file of its own.", flag="--store-window-mp4", env="STORE_WINDOW_MP4"
    )


class PreviewSettings(Settings):
    """How animated WebP previews are made (NeMo Curator's preview stage; level 0 is lossless, as documented there)."""

    target_fps: float = setting(
        1.0,
        "Frames a second of the preview.",
        flag="--preview-target-fps",
        env="PREVIEW_TARGET_FPS",
        gt=0,
        le=60,
    )
    max_frames: int = setting(
        384,
        "Frames of a preview at most; one of a window that lasts longer has fewer a second.",
        flag="--preview-max-frames",
        env="PREVIEW_MAX_FRAMES",
        ge=1,
        le=100_000,
    )
    target_height: int = setting(
        240,
        "Height in pixels; the width keeps the aspect ratio.",
        flag="--preview-target-height",
        env="PREVIEW_TARGET_HEIGHT",
        ge=16,
        le=2160,
    )
    compression_level: int = setting(
        6,
        "Encoder effort 1-6; 0 means lossless.",
        flag="--preview-compression-level",
        env="PREVIEW_COMPRESSION_LEVEL",
        ge=0,
        le=6,
    )
    quality: int = setting(
        50, "Lossy quality, 100 is best.", flag="--preview-quality", env="PREVIEW_QUALITY", ge=0, le=100
    )
    num_cpus_per_worker: float = setting(
        4.0,
        "CPU cores a preview worker may use, for decoding and for ffmpeg.",
        flag="--preview-num-cpus-per-worker",
        env="PREVIEW_NUM_CPUS_PER_WORKER",
        gt=0,
        le=256,
    )
    verbose: bool = setting(
        False,
        "Log ffmpeg's command and output for every preview.",
        flag="--preview-verbose",
        env="PREVIEW_VERBOSE",
    )
