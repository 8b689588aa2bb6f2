import html

import pytest
from markdown_it import MarkdownIt

from caption_assets.defs.reporting import as_markdown

HOSTILE = [
    "![x](javascript:alert(1)) [a](http://b) <img src=x onerror=y> `code` **bold** | a | ~~s~~",
    "# heading",
    "1. one",
    "- [ ] task",
    "&lt; &amp;",
    "a\\*b_c_",
    "https://example.org www.example.org me@example.org",
    "<!-- comment",
    "    indented",
    "line\n\n> quote\n\n***",
    "data:image/svg+xml;base64,AAAA",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_elsewhere_is_no_markdown(text):
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(f"- {as_markdown(text)}")
    assert shown == f"<ul>\n<li>{html.escape(' '.join(text.split())).replace('&#x27;', chr(39))}</li>\n</ul>\n"
    assert "://" not in as_markdown(text)  # what makes an address a link by itself
