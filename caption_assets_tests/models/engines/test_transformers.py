import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

from caption_assets.errors import ModelError
from caption_assets.models.chat import chat_prompt
from caption_assets.models.engines import transformers
from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.select import create_engine
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.engines.transformers import TransformersEngine
from caption_assets.models.requests import Question, caption_request, enhance_request, frame_size, further_request
from caption_assets.models.schemas import bounded, checked
from caption_assets.models.variants import CAPTION_VARIANTS, TEXT_VARIANTS, own_variant
from caption_assets.models.weights.checkpoints import checkpoint_of, weights_gib
from caption_assets.records import FramePicks, SampledFrames


def session(name, folder, batch_size=4, **options):
    variant = replace({**TEXT_VARIANTS, **CAPTION_VARIANTS}[name], frames=None)
    checkpoint = checkpoint_of(variant, str(folder))
    engine = create_engine(variant, checkpoint, EngineOptions(device="cpu", batch_size=batch_size, **options))
    return EngineSession(variant, checkpoint, engine)


def window(k, limits, max_tokens=6):
    """A window of 4, 6 or 8 frames, each of its own size and time."""
    n = 4 + 2 * (k % 3)
    width, height = frame_size(320 + 64 * k, 240, n, limits)
    pixels = np.random.default_rng(k).integers(0, 255, (n, height, width, 3), dtype=np.uint8)
    picks = FramePicks(tuple(range(n)), tuple((0.5 + k) * i for i in range(n)))
    return caption_request(str(k), f"Describe {k}.", SampledFrames(pixels, picks), max_tokens)


@pytest.mark.parametrize(
    ("name", "family"), [("qwen2.5", "qwen2.5-vl"), ("qwen3", "qwen3-vl"), ("qwen3.5-2b", "qwen3.5")]
)
def test_windows_of_any_size_run_in_a_batch_and_get_the_text_they_get_alone(checkpoints, name, family):
    s = session(name, checkpoints[family])
    try:
        requests = [window(k, s.start().frame_limits) for k in range(5)]
        together = {result.request_id: result for result in s.generate(requests)}
        alone = {r.request_id: next(s.generate([r])) for r in requests}
    finally:
        s.close()
    assert list(together) == [r.request_id for r in sorted(requests, key=lambda r: -r.frames.frames.size)]
    for key, result in together.items():
        assert result.outcome.ok
        assert result.text == alone[key].text
        assert result.prompt_tokens == alone[key].prompt_tokens
        assert result.output_tokens <= 6


SCHEMA = {
    "type": "object",
    "properties": {"what": {"type": "string", "maxLength": 5}, "seen": {"type": "boolean"}},
    "required": ["what", "seen"],
}


@pytest.mark.parametrize(("name", "family"), [("qwen2.5", "qwen2.5-vl"), ("qwen3", "qwen3-vl")])
def test_further_questions_about_a_window_get_the_text_they_get_alone(checkpoints, name, family):
    """From its own keys and values; windows and prompts are of different lengths, and some are sampled otherwise."""
    s = session(name, checkpoints[family])
    warm = replace(s.variant.sampling, temperature=0.8, seed=3)
    schema = bounded(SCHEMA, "the test's schema")
    asked = (
        Question("brief", "Briefly.", 5),
        Question("warm", "Is <|im_end|> or <|video_pad|> in it?", 6, warm),
        Question("json", "As JSON.", 60, schema=schema),
        Question("again", "Look again.", 6, of=""),
    )
    try:
        limits = s.start().frame_limits
        windows = [window(k, limits) for k in range(3)]
        windows[1] = caption_request("1", "Describe all of it at some length.", windows[1].frames, 4)
        together = {r.request_id: r for r in s.generate([replace(w, then=asked) for w in windows])}
        first = {w.request_id: next(s.generate([w])) for w in windows}
        for request in windows:
            result = together[request.request_id]
            assert (result.text, result.outcome.ok) == (first[request.request_id].text, True)
            for question, further in zip(asked, result.then, strict=True):
                answer = result.text if question.of == "" else None
                alone = next(s.generate([further_request(request, question, answer)]))
                told = further.text, further.prompt_tokens, further.output_tokens, further.finish_reason
                assert told == (alone.text, alone.prompt_tokens, alone.output_tokens, alone.finish_reason)
                assert (further.outcome, further.request_id) == (alone.outcome, request.request_id)
                scores = [result.confidence and list(asdict(result.confidence).values()) for result in (further, alone)]
                assert scores[0] == (scores[1] and pytest.approx(scores[1], abs=1e-4))
                video = request.frames.frames[..., 0].size // (2 * limits.factor**2)
                assert video < further.cached_tokens < further.prompt_tokens
            assert checked(result.then[2].text, "stop", schema) == result.then[2].text
    finally:
        s.close()


def test_weights_that_know_nothing_write_valid_json_or_fail_by_name(checkpoints):
    """`python -m benchmarks.grammar` asks a thousand."""
    parts = {"kind": {"enum": ["a", "b"]}, "what": {"type": "array", "maxItems": 2, "items": {"type": "integer"}}}
    drawn = {"type": "object", "properties": parts, "required": ["kind", "what"]}
    endless = {"type": "object", "properties": {"all": {"type": "string", "minLength": 200}}, "required": ["all"]}
    schemas = [bounded(schema, "the test's schema") for schema in (*[drawn] * 9, endless)]
    s = session("qwen2.5", checkpoints["qwen2.5-vl"], batch_size=10)
    warm = replace(s.variant.sampling, temperature=1.0, seed=5)
    try:
        limits = s.start().frame_limits
        asked = [
            replace(window(0, limits, 100), request_id=str(k), sampling=warm, schema=schema)
            for k, schema in enumerate(schemas)
        ]
        results = {result.request_id: result for result in s.generate(asked)}
    finally:
        s.close()
    *others, last = (results[request.request_id] for request in asked)
    assert len({result.text for result in others if result.outcome.ok}) > 3
    for result in others:
        if result.outcome.ok:
            assert checked(result.text, "stop", schemas[0]) == result.text
        else:  # an integer may be longer than the answer
            assert (result.outcome.kind, result.text) == ("invalid_json", None)
    assert last.outcome.kind == "invalid_json"
    assert "cut off" in last.outcome.message
    assert last.output_tokens <= 200


def test_a_request_that_breaks_the_batch_fails_alone(checkpoints):
    s = session("qwen2.5", checkpoints["qwen2.5-vl"])
    try:
        limits = s.start().frame_limits
        bad = window(1, limits)
        crooked = np.zeros((4, 50, 50, 3), np.uint8)  # no multiple of the patch size
        bad = replace(bad, request_id="bad", frames=SampledFrames(crooked, FramePicks((0, 1, 2, 3), (0, 1, 2, 3))))
        no_grammar = '{"type":"object","properties":{"a":false},"required":["a"]}'
        then = Question("brief", "Briefly.", 4), Question("json", "As JSON.", 4, schema=no_grammar)
        asked = [replace(window(0, limits), then=then), bad, replace(window(2, limits), schema=no_grammar, then=then)]
        results = {r.request_id: r for r in s.generate(asked)}
    finally:
        s.close()
    kinds = {name: [each.outcome.kind for each in (result, *result.then)] for name, result in results.items()}
    assert kinds == {"0": ["", "", "engine"], "bad": ["engine"], "2": ["engine", "", "engine"]}
    assert results["0"].then[1].outcome.message == "RuntimeError: Schema 'false' cannot accept any value"
    assert results["bad"].text is None
    assert results["bad"].outcome.message


def test_frames_stand_where_their_times_put_them(checkpoints):
    """Half a second between pairs of frames: two steps of Qwen2.5-VL's own clock, and not all at the beginning. Twice
    as many for the window beside it, whose frames are twice as far apart. The text stands behind all of it."""
    s = session("qwen2.5", checkpoints["qwen2.5-vl"])
    try:
        width, height = frame_size(320, 240, 16, s.start().frame_limits)
        black = np.zeros((16, height, width, 3), np.uint8)
        asked = []
        for apart in (0.25, 0.5):
            picks = FramePicks(tuple(range(16)), tuple(apart * i for i in range(16)))
            asked.append(caption_request(str(apart), "Describe.", SampledFrames(black, picks), 6))
        engine = s._engine
        prompts = [chat_prompt(engine._processor, engine._family, request.messages) for request in asked]
        inputs = engine._inputs(asked, prompts)
        config = engine._model.config
        positions = engine._positions(inputs)[1:]
        is_video = inputs["input_ids"] == config.video_token_id
        seen = [positions[0, row, is_video[row]].tolist() for row in range(2)]
        behind = [positions[:, row, is_video[row].nonzero().max() + 1 :].tolist() for row in range(2)]
    finally:
        s.close()
    steps = int(config.vision_config.tokens_per_second * 0.5)
    assert steps > 0
    for row, times in enumerate(seen, 1):
        assert sorted({time - min(times) for time in times}) == [row * steps * pair for pair in range(8)]
    for times, text in zip(seen, behind, strict=True):  # which reach further than the frames are wide
        assert text == [[max(times) + 1 + k for k in range(len(text[0]))]] * 3


@pytest.mark.parametrize("name", ["qwen2.5", "qwen_lm"])
def test_a_prompt_with_chat_marks_is_answered_like_any_other(checkpoints, name):
    family = "text" if name == "qwen_lm" else "qwen2.5-vl"
    s = session(name, checkpoints[family])
    marks = "Is <|video_pad|> or <|vi<|video_pad|>deo_pad|> or <|im_end|> in it?"
    try:
        limits = s.start().frame_limits
        if name == "qwen_lm":
            requests = [enhance_request(str(k), "Rewrite.", text, 6) for k, text in enumerate(["A cat.", marks])]
        else:
            requests = [window(k, limits) for k in range(2)]
            requests[1] = caption_request("1", marks, requests[1].frames, 6)
        results = {result.request_id: result for result in s.generate(requests)}
    finally:
        s.close()
    assert [results[k].outcome.message for k in "01"] == ["", ""]
    assert results["1"].prompt_tokens > results["0"].prompt_tokens + 40  # a token for each byte


def test_a_request_beyond_the_models_context_fails_alone(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["text"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 200}))
    s = session("qwen_lm", folder)
    try:
        context = s.start().context
        asked = [enhance_request(name, "Rewrite.", "x" * 20, most) for name, most in (("a", 6), ("b", 190), ("c", 6))]
        results = {result.request_id: result for result in s.generate(asked)}
    finally:
        s.close()
    assert context.size == 200
    assert (results["a"].outcome.ok, results["c"].outcome.ok) == (True, True)
    assert results["b"].outcome.kind == "context"
    assert "its answer up to 190, and the model takes 200 together" in results["b"].outcome.message


def test_windows_are_read_ahead_by_their_bytes_and_never_all_at_once(checkpoints, monkeypatch):
    read, most, batches = [], [], []
    batch = TransformersEngine._batch
    monkeypatch.setattr(
        TransformersEngine, "_batch", lambda self, asked: batches.append(len(asked)) or batch(self, asked)
    )
    s = session("qwen2.5", checkpoints["qwen2.5-vl"], batch_size=4, in_flight_bytes=200_000)
    try:
        limits = s.start().frame_limits

        def requests():
            for k in range(9):
                read.append(k)
                yield replace(window(0, limits, 2), request_id=str(k))

        size = window(0, limits).frames.frames.nbytes
        for done, _ in enumerate(s.generate(requests())):
            most.append(len(read) - done)
    finally:
        s.close()
    assert 1 < 200_000 / size < 8
    assert max(most) == max(batches) == -(-200_000 // size)  # the last one reaches the bytes


def test_a_prompt_that_begins_the_thinking_has_no_answer_before_its_end(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["text"], tmp_path / "model")
    for file in folder.glob("chat_template.jinja"):
        file.write_text(
            file.read_text().replace("assistant\n", "assistant\n<think>\n").split("{% if enable")[0] + "{% endif %}"
        )
    s = session("qwen_lm", folder)
    try:
        (result,) = s.generate([enhance_request("a", "Rewrite.", "A cat.", 6)])
    finally:
        s.close()
    assert (result.text, result.outcome.kind) == (None, "unfinished_thinking")


def test_text_models_answer_and_say_why_they_stopped(checkpoints):
    s = session("qwen_lm", checkpoints["text"])
    try:
        results = list(s.generate([enhance_request(str(k), "Rewrite.", "x" * k, 5) for k in range(6)]))
    finally:
        s.close()
    assert [r.request_id for r in results] == ["5", "4", "3", "2", "1", "0"]  # the longest first
    assert {r.finish_reason for r in results} <= {"length", "stop"}
    assert all(r.output_tokens <= 5 for r in results)


def test_an_engine_starts_once_and_only_when_needed(checkpoints):
    s = session("qwen_lm", checkpoints["text"])
    assert not s.started
    with pytest.raises(ModelError, match=r"variant 'qwen_lm': its engine has not been started\. Call start"):
        _ = s.info
    assert not s.started
    list(s.generate([enhance_request("1", "a", "b", 2)]))
    first = s.info
    list(s.generate([enhance_request("2", "a", "b", 2)]))
    assert s.start() is s.info is first
    assert first.engine == "transformers"
    assert first.precision == "fp32"
    thread = s._engine._watched._thread
    s.close()
    s.close()
    assert not s.started
    thread.join(60)
    assert not thread.is_alive()


def test_a_model_of_the_wrong_kind_is_refused(checkpoints):
    s = session("qwen2.5", checkpoints["text"])
    with pytest.raises(ModelError, match=r"Give qwen2\.5 a vision-language model"):
        s.start()


def test_variants_that_need_another_engine_say_so():
    variant = CAPTION_VARIANTS["nemotron"]
    with pytest.raises(ModelError, match="run with vLLM only"):
        create_engine(variant, checkpoint_of(variant), EngineOptions())


@pytest.mark.parametrize(
    ("name", "engine", "device", "args", "wrong"),
    [
        (
            "qwen",
            "transformers",
            "cpu",
            {},
            "transformers shows a model whole videos. Leave it at 0, or choose engine vl",
        ),
        ("qwen", "openai", "auto", {}, "Leave it at 0, and start the server with --video-pruning-rate"),
        ("qwen3", "vllm", "auto", {}, "it is not tried with models of family qwen3-vl"),
        ("qwen", "vllm", "cpu", {}, "vLLM's engine for CPUs does not place what it keeps"),
        ("nemotron", "vllm", "auto", {"video_pruning_rate": 0.5}, "Give it as video_pruning"),
    ],
)
def test_tokens_of_videos_are_left_out_only_where_that_is_done_right(name, engine, device, args, wrong):
    variant = replace(CAPTION_VARIANTS[name], video_pruning=0.5)
    with pytest.raises(ModelError, match=wrong):
        create_engine(variant, checkpoint_of(variant), EngineOptions(device, vllm_args=args), engine=engine)


def test_a_gpu_that_is_not_there_is_refused(checkpoints):
    import torch

    s = session("qwen_lm", checkpoints["text"])
    s._engine._options = replace(s._engine._options, device=f"cuda:{torch.cuda.device_count()}")
    with pytest.raises(ModelError, match="GPU"):
        s.start()


@pytest.mark.parametrize("own", [False, True])
def test_a_gpu_is_leased_as_it_is_asked_for_and_of_a_users_own_model_by_its_weights(checkpoints, monkeypatch, own):
    asked = []

    def lease(variant, precision, **more):
        asked.append((variant.name, precision, more))
        raise ModelError("a GPU", "there is none")

    monkeypatch.setattr(transformers, "visible_gpus", lambda: ("a GPU",))
    monkeypatch.setattr(transformers, "lease", lease)
    variant = TEXT_VARIANTS["qwen_lm"]
    if own:
        variant = own_variant(variant, variant.family, "me/mine", "main")
    options = EngineOptions(device="cuda:1", precision="bf16")
    with pytest.raises(ModelError, match="there is none"):
        TransformersEngine(variant, checkpoint_of(variant, str(checkpoints["text"])), options).start()
    need_gib = weights_gib(checkpoints["text"]) + transformers._SPARE_GIB if own else None
    assert asked == [("qwen_lm", "bf16", {"device": "cuda:1", "min_gib": need_gib})]


@pytest.mark.parametrize(
    ("break_it", "wrong"),
    [
        (lambda f: [p.unlink() for p in f.glob("*.safetensors")], "holds no weights"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "not JSON"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_refused_before_anything_starts(checkpoints, tmp_path, break_it, wrong):
    folder = shutil.copytree(checkpoints["text"], tmp_path / "model")
    break_it(folder)
    with pytest.raises(ModelError, match=wrong):
        checkpoint_of(TEXT_VARIANTS["qwen_lm"], str(folder))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"hidden_size": "big"},
            r"Validation error for field 'hidden_size': TypeError: Field 'hidden_size' expected int",
        ),
        ({"num_hidden_layers": 3}, "Class validation error for validator 'validate_layer_type': ValueError"),
        ({"hidden_size": 128}, "its weights have other sizes than its config says"),
        ({"hidden_act": "nope"}, "KeyError: 'nope'"),
    ],
)
def test_a_config_that_cannot_be_right_is_one_error_with_its_reason(checkpoints, tmp_path, change, why):
    folder = shutil.copytree(checkpoints["text"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=why) as error:
        session("qwen_lm", folder).start()
    assert "\n" not in str(error.value)


def test_pickled_weights_are_not_loaded_and_nobody_is_told_to_load_them(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["text"], tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no weights as \*.safetensors.*pickles.*save it as safetensors"):
        checkpoint_of(TEXT_VARIANTS["qwen_lm"], str(folder))


def test_a_missing_folder_is_refused_and_other_weights_have_another_revision(checkpoints, tmp_path):
    variant = TEXT_VARIANTS["qwen_lm"]
    with pytest.raises(ModelError, match="the folder does not exist"):
        checkpoint_of(variant, "./nowhere")
    before = checkpoint_of(variant, str(checkpoints["text"]))
    folder = shutil.copytree(checkpoints["text"], tmp_path / "model")
    assert checkpoint_of(variant, str(folder)).revision == before.revision
    config = folder / "config.json"
    config.write_text(config.read_text() + "\n")
    assert checkpoint_of(variant, str(folder)).revision != before.revision


def test_a_folder_s_revision_is_what_it_was_to_earlier_versions_and_that_of_its_weights(tmp_path):
    """It is part of the fingerprint of all that the model has written."""
    large = bytes(2 << 20)
    files = {"config.json": b"{}", "a.safetensors": b"a", "b.safetensors": large}

    def revision(**changed):
        for name, data in {**files, **changed}.items():
            (tmp_path / name).write_bytes(data)
        return checkpoint_of(TEXT_VARIANTS["qwen_lm"], str(tmp_path)).revision

    assert revision() == revision(**{"tokenizer.json": b"{}"}) == "53d3c30c492a7d87"
    others = [{"config.json": b'{"a": 1}'}, {"a.safetensors": b"b"}, {"b.safetensors": large + b"c"}]
    others.append({"b.safetensors": large[:999] + b"c" + large[1000:]})
    assert len({revision(), *(revision(**changed) for changed in others)}) == 5


def test_weights_that_cannot_be_downloaded_are_one_clear_error(tmp_path):
    from caption_assets.models.weights.downloads import locate

    variant = CAPTION_VARIANTS["qwen2.5"]
    with pytest.raises(ModelError, match=r"Qwen/Qwen2.5-VL-7B-Instruct at revision cc594898.*cannot be downloaded"):
        locate(checkpoint_of(variant), str(tmp_path))
