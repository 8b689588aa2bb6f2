"""What models are given through vLLM, made where it is made in a run: in a worker process, from our requests."""

import importlib.util
import math
import re
import shutil
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version

import numpy as np
import pytest
from packaging.version import Version

from caption_assets.errors import RequestError
from caption_assets.models.chat import chat_prompt
from caption_assets.models.contexts import ContextError
from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.transformers import TransformersEngine
from caption_assets.models.engines.vllm.inputs import VllmPrepare, engine_args, engine_input
from caption_assets.models.families import FAMILIES
from caption_assets.models.requests import caption_request, enhance_request, frame_size
from caption_assets.models.schemas import bounded, grammatical
from caption_assets.models.variants import CAPTION_VARIANTS, TEXT_VARIANTS
from caption_assets.models.weights.checkpoints import checkpoint_frame_limits, checkpoint_of
from caption_assets.records import FramePicks, SampledFrames
from caption_assets.workers.local import Workers
from caption_assets_tests.checkpoints import save_nemotron, save_omni
from caption_assets_tests.models.test_schemas import UNKEPT

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not here; make test-vllm brings it"),
]

# Pixels of a token's side, frames that share tokens, and the token itself.
TOKENS = {
    "qwen2.5-vl": (28, 2, "<|video_pad|>"),
    "qwen3-vl": (32, 2, "<|video_pad|>"),
    "qwen3.5": (32, 2, "<|video_pad|>"),
    "nemotron-v2-vl": (32, 1, "<image>"),
    "nemotron-3-omni": (32, 2, "<image>"),
}
WITH_VIDEO = sorted(TOKENS)
# With a variant of each.
IN_TRANSFORMERS = {"qwen2.5-vl": "qwen2.5", "qwen3-vl": "qwen3", "qwen3.5": "qwen3.5-2b"}
# True times in seconds: 2 frames a second, half of a 29.97 film's rate rounded to its frames, a variable rate, one.
TIMES = {
    "steady": tuple(i / 2 for i in range(16)),
    "film": tuple(round(i * 59.94 / 8) / 29.97 for i in range(7)),
    "variable": (0.0, 0.04, 0.5, 1.9, 2.0, 6.25),
    "short": (0.0, 0.7, 1.1, 1.5),
    "single": (0.0,),
}


def request(request_id, times, size=(320, 240)):
    width, height = size
    pixels = np.random.default_rng(len(times)).integers(0, 255, (len(times), height, width, 3), dtype=np.uint8)
    picks = FramePicks(tuple(range(len(times))), times)
    return caption_request(request_id, "Describe it.", SampledFrames(pixels, picks), 16)


def leaves_out_marks(family):
    """Whether vLLM puts marked frames in place of the marks around a video, too, as its older releases do."""
    return family in ("qwen3-vl", "qwen3.5") and Version(version("vllm")) < Version("0.26")


def made_of(engine, asked):
    """What transformers makes of a request."""
    return engine._inputs([asked], [chat_prompt(engine._processor, engine._family, asked.messages)])


def from_the_worker(workers, prepare, asked):
    ((_, made),) = workers.map_unordered(prepare, [asked])
    if isinstance(made, Exception):
        raise made
    return made


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, Workers(1) as workers:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))  # of the checkpoints' own code
        workers.start()
        yield workers


@pytest.fixture(scope="module")
def folders(checkpoints, tmp_path_factory):
    root = tmp_path_factory.mktemp("nemotron")
    return {family: checkpoints[family] for family in (*IN_TRANSFORMERS, "text")} | {
        "nemotron-v2-vl": save_nemotron(root / "v2"),
        "nemotron-3-omni": save_omni(root / "omni"),
    }


@pytest.fixture(scope="module")
def prepares(folders):
    def prepare(family):
        limits = checkpoint_frame_limits(folders[family], FAMILIES[family])
        remote, most = family.startswith("nemotron"), 4096 if family == "text" else 8192
        args = engine_args(folders[family], FAMILIES[family], limits, max_model_len=most, trust_remote_code=remote)
        return VllmPrepare(args, FAMILIES[family])

    return {family: prepare(family) for family in folders}


@pytest.fixture(scope="module")
def rendered(workers, prepares, folders):
    """The engine input of each family for each row of times, from frames of the size that we would decode."""
    made = {}
    for family in WITH_VIDEO:
        limits = checkpoint_frame_limits(folders[family], FAMILIES[family])
        for name, times in TIMES.items():
            asked = request(name, times, frame_size(640, 360, len(times), limits))
            made[family, name] = asked, engine_input(from_the_worker(workers, prepares[family], asked).prepared)
    return made


def tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def text_of(folder, inputs):
    return tokenizer(folder).decode(inputs["prompt_token_ids"])


def data(inputs, name):
    return inputs["mm_kwargs"]["video"][0][name].data


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("family", WITH_VIDEO)
def test_the_video_takes_the_planned_tokens(rendered, folders, family, name):
    asked, inputs = rendered[family, name]
    side, together, token = TOKENS[family]
    n, height, width, _ = asked.frames.frames.shape
    planned = math.ceil(n / together) * (height // side) * (width // side)
    ids = inputs["prompt_token_ids"]
    assert ids.count(tokenizer(folders[family]).convert_tokens_to_ids(token)) == planned
    (where,) = inputs["mm_placeholders"]["video"]
    assert where.offset + where.length <= len(ids)


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("family", WITH_VIDEO)
def test_the_times_that_the_model_reads_are_the_true_ones(rendered, folders, family, name):
    times = TIMES[name]
    _, inputs = rendered[family, name]
    if family == "qwen2.5-vl":
        if len(times) > 1:  # else there is nothing between
            true = 2 * (times[-1] - times[0]) / (len(times) - 1)
            assert float(data(inputs, "second_per_grid_ts")) == pytest.approx(true, rel=1e-3)
        return
    text = text_of(folders[family], inputs)
    if family in ("qwen3-vl", "qwen3.5"):
        pairs = [(times[i], times[min(i + 1, len(times) - 1)]) for i in range(0, len(times), 2)]
        stated = [float(t) for t in re.findall(r"<([\d.]+) seconds>", text)]
        assert stated == pytest.approx([sum(pair) / 2 for pair in pairs], abs=0.051)
    else:
        stated = [(int(k), float(t)) for k, t in re.findall(r"[Ff]rame (\d+) sampled at ([\d.]+) seconds", text)]
        assert [k for k, _ in stated] == list(range(1, len(times) + 1))
        assert [t for _, t in stated] == pytest.approx(times, abs=0.0056)


@pytest.mark.parametrize("name", TIMES)
def test_frames_stand_where_their_times_put_them_in_vllm_and_in_transformers(
    rendered, transformers_engines, folders, name
):
    """Qwen2.5-VL has so many temporal positions a second. The text behind a video stands alike, too."""
    from types import SimpleNamespace

    from transformers import AutoConfig
    from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration as Model

    asked, ours = rendered["qwen2.5-vl", name]
    config = AutoConfig.from_pretrained(folders["qwen2.5-vl"])
    (item,), (where,) = ours["mm_kwargs"]["video"], ours["mm_placeholders"]["video"]
    feature = SimpleNamespace(mm_position=where, modality="video", data=item)
    model = SimpleNamespace(config=config)
    model.iter_mm_grid_thw = lambda features: Model.iter_mm_grid_thw(model, features)
    positions, _ = Model.get_mrope_input_positions(model, ours["prompt_token_ids"], [feature])
    engine = transformers_engines("qwen2.5-vl", "qwen2.5")
    assert positions.tolist() == engine._positions(made_of(engine, asked))[1:, 0].tolist()
    is_video = [token == config.video_token_id for token in ours["prompt_token_ids"]]
    found = positions[:, is_video].tolist()
    times = TIMES[name]
    apart = 2 * (times[-1] - times[0]) / max(1, len(times) - 1) * config.vision_config.tokens_per_second
    assert sorted({t - min(found[0]) for t in found[0]}) == sorted(
        {int(k * apart + 1e-4) for k in range(math.ceil(len(times) / 2))}
    )


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize(("family", "variant"), list(IN_TRANSFORMERS.items()))
def test_transformers_and_vllm_make_the_same_of_a_request(
    rendered, transformers_engines, folders, family, variant, name
):
    import torch

    asked, ours = rendered[family, name]
    engine = transformers_engines(family, variant)
    theirs = made_of(engine, asked)
    assert torch.equal(data(ours, "video_grid_thw"), theirs["video_grid_thw"][0])
    pixels, expected = data(ours, "pixel_values_videos"), theirs["pixel_values_videos"]
    if pixels.dtype == torch.uint8:  # normalized on the GPU
        video = engine._processor.video_processor
        shape = (1, 3, -1)  # a patch's channels come first
        mean, std = (torch.tensor(values).reshape(3, 1) for values in (video.image_mean, video.image_std))
        pixels = ((pixels.reshape(len(pixels), *shape[1:]) / 255 - mean) / std).reshape(pixels.shape)
        torch.testing.assert_close(pixels, expected, rtol=0, atol=1e-5)
    else:
        assert torch.equal(pixels, expected.to(pixels.dtype))
    text, wanted = text_of(folders[family], ours), engine._tokenizer.decode(theirs["input_ids"][0])
    if leaves_out_marks(family):
        # Older versions put the marked frames in place of the marks around the video, as Qwen's first code did.
        wanted = wanted.replace("<|vision_start|><0", "<0").replace("<|vision_end|><|vision_end|>", "<|vision_end|>")
    assert text == wanted
    if family == "qwen2.5-vl":
        between = torch.as_tensor(theirs["second_per_grid_ts"]).reshape(-1)[0]
        assert float(data(ours, "second_per_grid_ts")) == pytest.approx(float(between), rel=1e-6)


@pytest.fixture(scope="module")
def transformers_engines(folders):
    started = {}

    def engine(family, name):
        if family not in started:
            variant = replace(CAPTION_VARIANTS[name], frames=None)
            checkpoint = checkpoint_of(variant, str(folders[family]))
            started[family] = TransformersEngine(variant, checkpoint, EngineOptions(device="cpu"))
            started[family].start()
        return started[family]

    yield engine
    for one in started.values():
        one.close()


@pytest.mark.parametrize(
    ("family", "ending"),
    [
        ("text", "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("qwen2.5-vl", "Describe it.<|im_end|>\n<|im_start|>assistant\n"),
        ("qwen3-vl", "Describe it.<|im_end|>\n<|im_start|>assistant\n"),
        ("qwen3.5", "Describe it.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        ("nemotron-v2-vl", "Describe it.\n<SPECIAL_11>Assistant\n<think></think>"),
        ("nemotron-3-omni", "Describe it.<|im_end|>\n<|im_start|>assistant\n<think></think>"),
    ],
)
def test_no_model_is_asked_to_think_aloud(workers, prepares, folders, rendered, family, ending):
    if family == "text":
        made = from_the_worker(workers, prepares["text"], enhance_request("t", "Rewrite.", "A cat.", 16))
        inputs = engine_input(made.prepared)
    else:
        _, inputs = rendered[family, "short"]
    text = text_of(folders[family], inputs)
    assert text.endswith(ending)
    assert "no_think" not in text


def test_a_text_request_gets_the_tokens_that_transformers_gives_it(workers, prepares, folders):
    asked = enhance_request("t", "Rewrite.", "A cat sits.", 16)
    made = from_the_worker(workers, prepares["text"], asked)
    variant = TEXT_VARIANTS["qwen_lm"]
    engine = TransformersEngine(variant, checkpoint_of(variant, str(folders["text"])), EngineOptions(device="cpu"))
    engine.start()
    assert engine_input(made.prepared)["prompt_token_ids"] == made_of(engine, asked)["input_ids"][0].tolist()


def test_a_prepared_request_carries_its_pixels_apart_from_the_message(workers, prepares):
    asked = request("a", TIMES["steady"], (112, 112))
    first, second = (from_the_worker(workers, prepares["qwen2.5-vl"], asked) for _ in range(2))
    assert (first.request_id, first.messages, first.max_tokens) == (asked.request_id, asked.messages, asked.max_tokens)
    assert first.frames is None
    assert first.prepared_at < second.prepared_at
    inputs = engine_input(first.prepared)
    pixels = data(inputs, "pixel_values_videos")
    assert len(first.prepared.data) < 40_000 < pixels.nbytes < first.num_bytes
    # The tensor is the buffer, not a copy of it.
    (buffer,) = (b for b in first.prepared.buffers if b.nbytes == pixels.nbytes)
    assert pixels.data_ptr() == buffer.ctypes.data
    # The same video twice is two videos: names that met would mix up what the engine's processes hold of them. Of two
    # renderers, as two processes have them, too.
    made = [first, second, *(from_the_worker(workers, other(prepares, n), asked) for n in (1, 2))]
    assert len({str(engine_input(each.prepared)["mm_hashes"]) for each in made}) == 4


def other(prepares, number):
    """One that has a renderer of its own."""
    prepare = prepares["qwen2.5-vl"]
    return VllmPrepare(prepare.args | {"max_model_len": 8000 + number}, prepare.family)


def test_each_checkpoint_of_a_family_is_rendered_for_by_its_own_template(workers, prepares, folders, tmp_path):
    folder = shutil.copytree(folders["text"], tmp_path / "another")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_end|>", "<|im_end|>!"))
    theirs = VllmPrepare(prepares["text"].args | {"model": str(folder), "tokenizer": str(folder)}, FAMILIES["text"])
    asked = enhance_request("t", "Rewrite.", "A cat sits.", 16)
    ours, made = (
        text_of(folder, engine_input(from_the_worker(workers, p, asked).prepared)) for p in (prepares["text"], theirs)
    )
    assert made == ours.replace("<|im_end|>", "<|im_end|>!") != ours


def test_a_prompt_that_leaves_no_room_for_an_answer_says_so(workers, prepares):
    prepare = prepares["qwen2.5-vl"]
    short = VllmPrepare(prepare.args | {"max_model_len": 100}, prepare.family)
    with pytest.raises(ContextError, match=r"prompt has \d+ tokens, its answer up to 16, and the model takes 100"):
        from_the_worker(workers, short, request("long", TIMES["steady"], (112, 112)))


def test_a_prompt_that_leaves_room_for_a_part_of_the_answer_is_too_long(workers, prepares):
    prepare, asked = prepares["qwen2.5-vl"], request("long", TIMES["steady"], (112, 112))
    tokens = len(engine_input(from_the_worker(workers, prepare, asked).prepared)["prompt_token_ids"])
    exact, less = (VllmPrepare(prepare.args | {"max_model_len": tokens + n}, prepare.family) for n in (16, 15))
    assert from_the_worker(workers, exact, asked).prepared
    with pytest.raises(ContextError, match=f"prompt has {tokens} tokens"):
        from_the_worker(workers, less, asked)


def test_a_worker_sees_no_gpu_and_compiles_nothing(workers, prepares):
    ((_, settings),) = workers.map_unordered(worker_settings, [prepares["nemotron-v2-vl"]])
    assert settings == {"cuda": False, "compiles": False}


def worker_settings(prepare):
    prepare(request("a", TIMES["short"], (56, 56)))
    import torch

    return {"cuda": torch.cuda.is_available(), "compiles": bool(torch._dynamo.utils.counters["frames"])}


@pytest.mark.parametrize("family", ["nemotron-v2-vl", "nemotron-3-omni"])
def test_frames_have_the_size_that_vllm_would_give_them(folders, family):
    from vllm.transformers_utils.processors.nano_nemotron_vl import get_video_target_size_and_feature_size

    limits = checkpoint_frame_limits(folders[family], FAMILIES[family])
    for width in range(60, 2000, 97):
        for height in range(60, 2000, 89):
            *size, _ = get_video_target_size_and_feature_size(
                orig_w=width,
                orig_h=height,
                target_patches=1024,
                maintain_aspect_ratio=family == "nemotron-3-omni",
                patch_size=16,
                downsample_ratio=0.5,
            )
            assert frame_size(width, height, 8, limits) == tuple(size)


@pytest.mark.parametrize("family", ["qwen2.5-vl", "nemotron-v2-vl", "nemotron-3-omni"])
def test_a_pruned_video_takes_its_share_of_the_tokens(workers, prepares, rendered, folders, family):
    asked, whole = rendered[family, "steady"]
    pruned = engine_input(from_the_worker(workers, pruning(prepares[family]), asked).prepared)
    token = tokenizer(folders[family]).convert_tokens_to_ids(TOKENS[family][2])
    tokens = [made["prompt_token_ids"].count(token) for made in (whole, pruned)]
    assert tokens[1] == tokens[0] // 2


def test_a_pruned_video_may_wait_for_its_turn_where_vllm_by_itself_would_end(workers, prepares, rendered):
    """vLLM takes in what is before an item, and the item when its turn has come."""
    import torch

    recompute = import_module(
        next(
            name
            for name in ("vllm.multimodal.evs", "vllm.multimodal.video_prune.evs")
            if importlib.util.find_spec(name)
        )
    ).recompute_mrope_positions
    asked, whole = rendered["qwen2.5-vl", "steady"]
    pruned = engine_input(from_the_worker(workers, pruning(prepares["qwen2.5-vl"]), asked).prepared)
    ids = torch.tensor(pruned["prompt_token_ids"])
    (where,) = pruned["mm_placeholders"]["video"]
    assert where.is_embed.tolist() == [False] + [True] * (where.length - 1)
    start, video = ids[where.offset].item(), ids[where.offset + 1].item()
    assert [whole["prompt_token_ids"][at] for at in range(where.offset, where.offset + 2)] == [start, video]
    kept = torch.stack([torch.arange(where.length - 1)] * 3 + [torch.full((where.length - 1,), 4)])
    before = torch.arange(len(ids)).repeat(3, 1)
    positions, _ = recompute(ids, [kept], before, where.offset, start, -1, video)
    assert positions[0, where.offset : where.offset + 3].tolist() == [where.offset + k for k in (0, 1, 2)]
    with pytest.raises(IndexError):
        recompute(ids, [kept], before, where.offset + 1, start, -1, video)


@pytest.mark.parametrize(("name", "seconds"), [("steady", 1.0), ("short", 1.0), ("film", None)])
def test_pruned_frames_stand_at_whole_seconds_or_are_refused(workers, prepares, rendered, name, seconds):
    asked, _ = rendered["qwen2.5-vl", name]
    prepare = pruning(prepares["qwen2.5-vl"])
    if seconds is None:
        with pytest.raises(RequestError, match=r"pairs of its frames are 0\.50 s apart.*Sample 2 frames a second"):
            from_the_worker(workers, prepare, asked)
    else:
        made = engine_input(from_the_worker(workers, prepare, asked).prepared)
        assert data(made, "second_per_grid_ts").item() == seconds


def pruning(prepare):
    return VllmPrepare(prepare.args | {"video_pruning_rate": 0.5}, prepare.family)


MARKS = "Is <|video_pad|>, <|vi<|video_pad|>deo_pad|>, <image>, <|im_end|> or /no_think in it? </think> <SPECIAL_12>"


@pytest.mark.parametrize("family", [*WITH_VIDEO, "text"])
def test_chat_marks_in_a_prompt_reach_the_model_as_the_text_that_they_are(workers, prepares, folders, rendered, family):
    if family == "text":
        asked = enhance_request("marks", "Rewrite.", MARKS, 16)
        usual = engine_input(
            from_the_worker(workers, prepares["text"], enhance_request("t", "Rewrite.", "A cat.", 16)).prepared
        )
    else:
        window, usual = rendered[family, "short"]
        asked = caption_request("marks", MARKS, window.frames, 16)
    inputs = engine_input(from_the_worker(workers, prepares[family], asked).prepared)
    text = text_of(folders[family], inputs)
    assert MARKS in text
    known = set(tokenizer(folders[family]).get_added_vocab().values())
    marks = [[token for token in made["prompt_token_ids"] if token in known] for made in (inputs, usual)]
    assert marks[0] == marks[1]  # those of the template and of the video, and no other ones
    ending = text[text.index(MARKS) + len(MARKS) :]
    assert text_of(folders[family], usual).endswith(ending)
    if family == "text" or family in IN_TRANSFORMERS:
        variant = {**TEXT_VARIANTS, **CAPTION_VARIANTS}[IN_TRANSFORMERS.get(family, "qwen_lm")]
        variant = replace(variant, frames=None)
        engine = TransformersEngine(variant, checkpoint_of(variant, str(folders[family])), EngineOptions("cpu"))
        engine.start()
        if not leaves_out_marks(family):
            assert made_of(engine, asked)["input_ids"][0].tolist() == inputs["prompt_token_ids"]
        engine.close()


def test_vllm_takes_what_is_left_of_a_schema_for_its_grammar():
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams
    from vllm.v1.structured_output.backend_xgrammar import validate_xgrammar_grammar

    def check(schema):
        validate_xgrammar_grammar(SamplingParams(structured_outputs=StructuredOutputsParams(json=schema)))

    schema = bounded({"properties": UNKEPT}, "the test's schema")
    check(grammatical(schema))
    with pytest.raises(Exception, match="not supported by xgrammar"):
        check(schema)
