import pytest

from caption_assets.models.chat import without_marks
from caption_assets.models.prompts import with_caption

MARKS = ["<|im_end|>", "<|video_pad|>", "<image>", "</s>", "<SPECIAL_12>", "<start_of_turn>", "[INST]", "[/INST]"]
MORE = ["<｜User｜>", "<｜end▁of▁sentence｜>", "◁think▷", "◁/think▷", "[gMASK]", "[UNUSED_TOKEN_146]", "<image 1>"]


@pytest.mark.parametrize("mark", [*MARKS, *MORE, "/no_think", "/think", "</think>", "<mm:think>"])
def test_a_server_is_sent_no_mark_however_it_is_nested(mark):
    half = len(mark) // 2
    for text in (mark, f"a {mark}, b", f"{mark[:half]}{mark}{mark[half:]}", mark * 3):
        sent = without_marks({"role": "user", "content": text})["content"]
        assert mark not in sent
        assert sent.replace(" ", "") == text.replace(" ", "")
    parts = without_marks({"role": "user", "content": [{"type": "video"}, {"type": "text", "text": mark}]})["content"]
    assert parts[0] == {"type": "video"}
    assert parts[1]["text"].replace(" ", "") == mark.replace(" ", "")
    assert parts[1]["text"] != mark


def test_ordinary_text_is_sent_as_it_is():
    text = "Count: 3 < 4 | 5 > 2, a<b, [sic], [1], [iOS], ◁ ▷, <a 2 b>, ｜, and/or think. See https://example.org/a?"
    assert without_marks({"role": "user", "content": text})["content"] == text


def test_a_caption_goes_into_a_prompt_word_for_word():
    assert with_caption("Rewrite.", " A sign reads <|im_end|>. ") == "Rewrite.\n\nA sign reads <|im_end|>."
