"""The wheel as people install it: in an environment of its own, without any extra, used from an empty folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from caption_assets.demo.clips import demo_scenes, render_dataset
from caption_assets.extras import EXTRAS
from caption_assets_tests.openai_server import OpenAIServer

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of commands of an environment with the wheel and what that needs."""
    place = tmp_path_factory.mktemp("wheel")
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        (place / part).write_bytes((ROOT / part).read_bytes())
    shutil.copytree(ROOT / "caption_assets", place / "caption_assets", ignore=shutil.ignore_patterns("__pycache__"))
    build = ["build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", place / "dist", place]
    subprocess.run([UV, *build], check=True, capture_output=True)
    (wheel,) = (place / "dist").glob("*.whl")
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, place / "env"], check=True)
    install = ["pip", "install", "--quiet", "--python", place / "env", "--constraint", ROOT / "constraints.txt", wheel]
    if subprocess.run([UV, *install, "--offline"], capture_output=True).returncode:  # not all of it is in uv's cache
        subprocess.run([UV, *install], check=True)
    return place / "env" / "bin"


@pytest.fixture
def call(installed, tmp_path, monkeypatch):
    """Calls `caption-assets` in an empty folder, as somebody with an empty home; returns what it printed."""
    for name in [name for name in os.environ if name.startswith(("PYTHON", "CAPTION_ASSETS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")

    def call(*arguments: str, status: int = 0) -> str:
        done = subprocess.run([installed / "caption-assets", *arguments], capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    return call


def test_without_extras_the_command_says_what_installs_them(call, installed):
    packages = sorted({name.partition(".")[0] for names in EXTRAS.values() for name in names})
    code = f"import importlib.util as u; print(*[n for n in {packages} if u.find_spec(n)])"
    assert subprocess.run([installed / "python", "-c", code], capture_output=True, text=True).stdout == "\n"
    Path("clips/a").mkdir(parents=True)
    Path("clips/a/x.mp4").touch()
    for extra, arguments in (
        ("demo", ("demo",)),
        ("transformers", ("run", "--dataset", "clips", "--output-path", "out", "--captioning-algorithm", "qwen")),
        ("vllm", ("run", "--dataset", "clips", "--output-path", "out", "--engine", "vllm")),
        ("s3", ("run", "--dataset", "s3://bucket/clips", "--output-path", "out")),
        ("s3", ("run", "--dataset", "clips", "--output-path", "s3://bucket/out")),
    ):
        assert f"run pip install 'caption_assets[{extra}]'" in call(*arguments, status=2).replace("Run", "run")
    assert [path.name for path in Path().iterdir()] == ["clips"]


def test_a_served_model_captions_and_the_rest_works_from_an_empty_folder(call, served_models, monkeypatch):
    render_dataset(Path("clips"), {shard: clips[:1] for shard, clips in demo_scenes().items()})
    with OpenAIServer(served_models) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        engine = ("--engine", "openai", "--captioning-algorithm", "demo", "--workers", "1")
        call("run", "--dataset", "clips", "--output-path", "out", *engine, "--generate-captions")
    call("export", "diffsynth", "--output-path", "out", "--to", "train", "--workers", "1")
    texts = pd.read_csv("train/metadata.csv", keep_default_na=False)["prompt"]
    assert len(texts) >= 3
    call("review", "--output-path", "out")
    assert all(json.dumps(text)[1:-1] in "".join(p.read_text() for p in Path("out/review").iterdir()) for text in texts)
