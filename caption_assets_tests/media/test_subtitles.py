"""Subtitles are WebVTT or refused: whatever else a file holds would be an empty text."""

import pytest

from caption_assets.media.subtitles import Cue, cues

CUE = "00:00.000 --> 00:01.000\n"


def test_a_cue_is_its_text_without_tags_and_with_every_other_angle():
    head = "\ufeffWEBVTT - a file\r\n\r\nNOTE x\r\n\r\nid\r\n"
    text = "<v Bob>3 < 4</v> <00:00.500><c.red>5 > 2</c> &lt;b&gt;\n"
    assert cues(f"{head}{CUE}{text}".encode()) == [Cue(0.0, 1.0, "3 < 4 5 > 2 <b>")]
    assert cues(b"WEBVTT") == cues(f"WEBVTT\n\n{CUE}\n".encode()) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1\n00:00:00,000 --> 00:00:01,000\nSRT\n",
        b"words\n",
        f"WEBVTT\n\n{CUE}caf\xe9\n".encode("latin-1"),
        f"WEBVTT\n\n{CUE}A\n".encode("utf-16"),
        b"WEBVTT\n\n00:00,000 --> 00:01,000\ncommas\n",
        f"WEBVTT\n\n{CUE}A\n\nid\n00:05.000 --> 00:01.000\nbackwards\n".encode(),
    ],
)
def test_what_is_no_webvtt_is_refused(data):
    with pytest.raises(ValueError, match=r"WebVTT|codec"):
        cues(data)
