from dataclasses import replace

import pytest

from caption_assets.models.contexts import Context, ContextError, require_room
from caption_assets.models.families import QWEN3_FRAMES, QWEN25_FRAMES, FrameLimits
from caption_assets.models.requests import frame_size
from caption_assets.models.variants import CAPTION_VARIANTS

FULL_HD = (1920, 1080)
QWEN25 = CAPTION_VARIANTS["qwen"].frames
SQUARE = FrameLimits(32, 512 * 512, 512 * 512, shape="square", together=1, label_tokens=26)


def tokens(size, frames, limits):
    return -(-frames // limits.together) * size[0] * size[1] // limits.factor**2


def fitted(context, frames, limits, text="Describe it.", answer=512, size=FULL_HD):
    return context.frame_size("window 0_255", text, answer, size, frames, limits)


def test_a_window_that_fits_has_the_size_that_its_limits_give():
    for limits in (QWEN25, QWEN3_FRAMES, SQUARE):
        for context in (Context(), Context(32768)):
            assert fitted(context, 16, limits) == frame_size(*FULL_HD, 16, limits)


@pytest.mark.parametrize("frames", [16, 33, 64, 128])
@pytest.mark.parametrize("size", [FULL_HD, (640, 480), (300, 1900)])
@pytest.mark.parametrize("limits", [QWEN25_FRAMES, QWEN3_FRAMES], ids=["2.5", "3"])
def test_a_window_that_is_too_long_gets_fewer_pixels_and_room_for_its_answer(limits, size, frames):
    context = Context(8192)
    width, height = fitted(context, frames, limits, size=size)
    labels = -(-frames // 2) * limits.label_tokens
    assert tokens((width, height), frames, limits) + labels + 12 + 64 + 512 <= 8192
    assert width % limits.factor == height % limits.factor == 0
    whole = frame_size(*size, frames, limits)
    if (width, height) != whole:
        assert tokens(whole, frames, limits) + labels + 12 + 64 + 512 > 8192
        assert width * height * (frames if limits.per_video else 1) >= limits.min_pixels
        assert tokens((width, height), frames, limits) > 0.6 * (8192 - 512 - 76 - labels)  # no smaller than need be


def test_a_whole_video_of_qwen25_keeps_to_the_tokens_of_its_makers():
    assert tokens(fitted(Context(), 64, QWEN25), 64, QWEN25) == 32 * 720
    wide = fitted(Context(131072), 96, QWEN25)
    assert 0.8 * 24576 < tokens(wide, 96, QWEN25) <= 24576
    with pytest.raises(ContextError, match=r"window 0_255: there is room for 24576 tokens of its 400 frames"):
        fitted(Context(131072), 400, QWEN25)


def test_a_window_that_no_allowed_size_makes_short_enough_fails():
    assert tokens(fitted(Context(2048), 16, QWEN25), 16, QWEN25) <= 2048 - 512
    with pytest.raises(ContextError, match="Sample fewer frames"):
        fitted(Context(1600), 16, QWEN25)  # 8 times 128 tokens and an answer of 512
    with pytest.raises(ContextError, match="16 frames"):
        fitted(Context(4096), 16, SQUARE)  # whose frames have one size
    assert fitted(Context(8 * 1024), 16, SQUARE) == (512, 512)
    with pytest.raises(ContextError):
        fitted(Context(8192), 16, QWEN25, answer=8192)
    with pytest.raises(ContextError):  # its height, of one patch, does not shrink
        fitted(Context(1000), 16, QWEN25_FRAMES, answer=8, size=(3900, 20))


def test_a_prompt_counts_by_its_tokens_where_its_bytes_do_not_fit(checkpoints):
    """The tiny tokenizers have a token for each byte and one for each mark."""
    file = checkpoints["text"] / "tokenizer.json"
    text = "<|im_end|>" * 300
    Context(1024, file).require_room("caption a", text, 600)
    Context(1024, file).require_room("caption a", text[:1000], 600)
    with pytest.raises(ContextError, match="its prompt has 364 tokens, its answer up to 661, and the model takes 1024"):
        Context(1024, file).require_room("caption a", text, 661)
    whole = frame_size(*FULL_HD, 4, QWEN25)
    exact = tokens(whole, 4, QWEN25) + 64 + 300 + 60
    assert fitted(Context(exact, file), 4, QWEN25, text=text, answer=60) == whole
    assert fitted(Context(exact - 1, file), 4, QWEN25, text=text, answer=60) < whole
    small = replace(QWEN25, min_pixels=784)
    wide, narrow = (fitted(Context(1024, file), 4, small, text=text * n, answer=60) for n in (1, 2))
    assert tokens(wide, 4, small) > tokens(narrow, 4, small)


def test_without_a_tokenizer_three_bytes_are_taken_for_a_token():
    Context(1024).require_room("caption a", "x" * 2700, 60)
    with pytest.raises(ContextError, match="its prompt has 964 tokens"):
        Context(1024).require_room("caption a", "x" * 2700, 61)


def test_room_is_asked_for_where_the_context_is_known():
    require_room("request a", 90, 10, 100)
    require_room("request a", 90, 1000, None)
    with pytest.raises(ContextError, match=r"request a: its prompt has 91 tokens, its answer up to 10"):
        require_room("request a", 91, 10, 100)
