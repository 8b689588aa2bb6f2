"""The public surface: what stands in `__all__` is there, and the documented example runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import caption_assets
from caption_assets.demo.clips import demo_scenes, render_dataset
from caption_assets.store import ENHANCED_CAPTIONS, Store

PAGE = Path(caption_assets.__file__).parents[1] / "docs" / "python.md"


def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return code


def test_every_public_name_is_there_and_has_words():
    for name in caption_assets.__all__:
        assert getattr(caption_assets, name) is not None
    assert set(caption_assets.__all__) <= set(dir(caption_assets))


def test_importing_the_package_imports_next_to_nothing():
    large = ("av", "numpy", "pyarrow", "dagster", "torch")
    code = f"import sys, caption_assets; print(*(name for name in {large} if name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_the_documented_example_captions_previews_and_enhances(tmp_path, monkeypatch, capfd):
    code = example()
    assert len(code.splitlines()) <= 14
    scenes = {shard: clips[:1] for shard, clips in demo_scenes().items()}
    render_dataset(tmp_path / "demo" / "clips", scenes)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, PAGE.name, "exec"), {"__name__": "__main__"})
    printed = capfd.readouterr()
    store = Store(tmp_path / "demo" / "python")
    for shard in scenes:
        (row,) = store.read_rows(ENHANCED_CAPTIONS, shard, "demo/demo_lm")
        assert row.text
        if shard == next(iter(scenes)):
            assert row.text in printed.out
    assert len(list((tmp_path / "demo" / "python" / "previews").rglob("*.webp"))) == len(scenes)
    assert "dagster" not in printed.err
