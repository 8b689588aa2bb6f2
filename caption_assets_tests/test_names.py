import random

import pytest

from caption_assets.names import actual, name_of, open_url, written

PIECES = [
    b"a",
    b"x",
    b"\\",
    b"\\x",
    b"\\xff",
    b"5c",
    b"\xff",
    b"\xc2",
    b"\x9b",
    b"\xc2\x9b",
    b"\n",
    b"\x1b",
    "é".encode(),
]


def test_every_name_is_written_as_text_and_read_back_and_no_two_alike():
    chosen = random.Random(0)
    names = {b"".join(chosen.choices(PIECES, k=chosen.randint(1, 6))) for _ in range(20_000)}
    texts = {name: written(name_of(name)) for name in names}
    assert len(set(texts.values())) == len(names)
    for name, text in texts.items():
        assert text.isprintable()
        assert text.encode()
        assert actual(text) == name_of(name)


@pytest.mark.parametrize("name", ["a b.mp4", "50%.mp4", "日本.mp4", "back\\slash.mp4", "a\u200d\u3000b.mp4"])
def test_ordinary_names_are_written_as_they_are(name):
    assert written(name) == name == actual(name)


@pytest.mark.parametrize(
    ("url", "protocol", "path"),
    [
        ("s3://a/take::2.mp4", "s3", "a/take::2.mp4"),
        ("s3://a/x::zip::b.mp4", "s3", "a/x::zip::b.mp4"),
        ("simplecache::memory://a/b.mp4", "simplecache", "/a/b.mp4"),
    ],
)
def test_a_name_with_colons_is_no_chain_of_file_systems(url, protocol, path):
    files, found = open_url(url)
    assert protocol in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,))
    assert found == path
