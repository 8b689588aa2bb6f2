"""Downloads from a hub on this machine, by processes of their own, as runs do them."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest

from caption_assets.errors import ModelError
from caption_assets.models.families import FAMILIES
from caption_assets.models.variants import CAPTION_VARIANTS
from caption_assets.models.weights.checkpoints import checkpoint_family, checkpoint_max_len, checkpoint_of, weights_gib
from caption_assets.models.weights.downloads import locate
from caption_assets_tests.models.hub import COMMIT, PATIENT, Hub

LOCATE = """
import logging, sys
from caption_assets.errors import ModelError
from caption_assets.models.weights.checkpoints import Checkpoint
from caption_assets.models.weights.downloads import locate
{before}
logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
try:
    print(locate(Checkpoint(sys.argv[1], sys.argv[2]), sys.argv[3], trust_remote_code={trust}))
except ModelError as error:
    print("ModelError", error)
"""
NO_NETWORK = """
import socket
def refuse(*_): raise AssertionError("a connection was tried")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory, checkpoints) -> Path:
    """A text model as it lies on a hub: several shards with an index, tokenizer, code, and files that nobody needs."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("published")
    AutoModelForCausalLM.from_pretrained(checkpoints["text"]).save_pretrained(folder, max_shard_size="60KB")
    AutoTokenizer.from_pretrained(checkpoints["text"]).save_pretrained(folder)
    (folder / "configuration_tiny.py").write_text("raise SystemExit('code from the hub ran')\n")
    (folder / "README.md").write_text("about the model")
    return folder


@pytest.fixture
def hub(published):
    with Hub(published) as served:
        yield served


@pytest.fixture
def shards(published) -> list[str]:
    names = sorted(p.name for p in published.glob("*.safetensors"))
    assert len(names) > 2
    return names


@dataclass
class Run:
    """What `locate` did in a process of its own: the folder or the error, and the log."""

    answer: str
    log: str

    @property
    def folder(self) -> Path:
        assert self.answer.startswith("/"), self.answer + self.log
        return Path(self.answer)


@pytest.fixture
def start(hub, tmp_path):
    """Starts a process that locates a model of the hub."""
    started = []

    def start(model="tiny/model", revision=COMMIT, before="", trust=False, cache=tmp_path / "cache", **environment):
        env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), **PATIENT, **environment}
        command = [sys.executable, "-c", LOCATE.format(before=before, trust=trust), model, revision, str(cache)]
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def run(start):
    def run(*args, **kwargs):
        return finished(start(*args, **kwargs))

    return run


def finished(process) -> Run:
    out, log = process.communicate()
    assert process.returncode == 0, log
    return Run(out.strip(), log)


def same_files(folder: Path, published: Path, but: tuple[str, ...] = (".md", ".py")) -> None:
    wanted = {p.name: p.read_bytes() for p in published.iterdir() if p.suffix not in but}
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == wanted


def test_weights_are_downloaded_once_and_then_no_request_is_made(run, hub, published):
    first = run()
    same_files(first.folder, published)
    assert first.folder.name == COMMIT
    assert "tiny/model" in first.log
    assert set(hub.fetched.values()) == {1}
    hub.requests.clear()
    assert run(before=NO_NETWORK).folder == first.folder
    assert run(HF_HUB_OFFLINE="1").folder == first.folder
    assert hub.requests == []


def test_a_branch_or_short_hash_is_asked_for_once(run, hub, published):
    hub.branches = ("main", COMMIT[:7])
    for revision in hub.branches:
        folder = run(revision=revision).folder
        same_files(folder, published)
        hub.requests.clear()
        assert run(revision=revision, before=NO_NETWORK).folder == folder
        assert hub.requests == []


def test_code_comes_along_only_where_it_is_trusted(run, hub, published):
    assert not list(run().folder.glob("*.py"))
    folder = run(trust=True).folder
    assert (folder / "configuration_tiny.py").is_file()
    assert hub.fetched["configuration_tiny.py"] == 1
    assert hub.fetched["config.json"] == 1
    run(trust=True, before=NO_NETWORK)


def test_one_process_downloads_while_the_others_wait_and_say_so(start, hub, published):
    hub.open.clear()
    together = [start() for _ in range(3)]
    logs: dict[int, list[str]] = {process.pid: [] for process in together}
    readers = [Thread(target=lambda p=process: logs[p.pid].extend(p.stderr)) for process in together]
    for reader in readers:
        reader.start()
    while sum("Waiting for the weights" in "".join(log) for log in logs.values()) < 2:
        assert all(process.poll() is None for process in together), logs
        time.sleep(0.05)
    hub.open.set()
    for each in (*readers, *together):
        each.join() if isinstance(each, Thread) else each.wait()
    runs = [Run(process.stdout.read().strip(), "".join(logs[process.pid])) for process in together]
    assert len({run.folder for run in runs}) == 1
    same_files(runs[0].folder, published)
    assert set(hub.fetched.values()) == {1}
    (downloader,) = [process for process, run in zip(together, runs, strict=True) if "Downloading" in run.log]
    for process, run in zip(together, runs, strict=True):
        if process is not downloader:
            assert f"Waiting for the weights of tiny/model at revision {COMMIT}: process {downloader.pid} on" in run.log


def test_a_killed_download_goes_on_with_the_files_that_were_missing(start, run, hub, published, shards):
    hub.hold = {shards[-1]}
    process = start()
    assert hub.held.wait(200)
    process.kill()
    process.wait()
    # The others are small and done by the time that one of the two at a time hangs; none of them is fetched again.
    done = {name for name, number in hub.fetched.items() if number and name != shards[-1]}
    on_disk = {p.name for p in Path(process.args[-1]).rglob(f"snapshots/{COMMIT}/*")}
    hub.hold = set()
    folder = run().folder
    same_files(folder, published)
    assert on_disk
    assert {name for name in done if hub.fetched[name] == 1} >= on_disk
    assert hub.fetched[shards[-1]] == 2


def test_a_connection_that_breaks_is_taken_up_where_it_broke(run, hub, published, tmp_path):
    hub.files = shutil.copytree(published, tmp_path / "large")
    (hub.files / "large.txt").write_bytes(os.urandom(1 << 20) * 24)
    hub.cut = {"large.txt"}
    same_files(run().folder, hub.files)
    written = 10 << 20  # the hub's client writes in pieces of this size
    assert hub.ranges == {"large.txt": f"bytes={written}-"}


def test_a_shard_that_is_missing_or_cut_off_is_noticed_and_fetched(run, hub, published, shards):
    folder = run().folder
    hub.fetched.clear()
    (folder / shards[0]).resolve().unlink()
    (folder / shards[0]).unlink()
    cut = (folder / shards[1]).resolve()
    cut.write_bytes(cut.read_bytes()[:-100])
    again = run()
    assert again.folder == folder
    same_files(folder, published)
    assert hub.fetched == {shards[0]: 1, shards[1]: 1}
    assert "was not whole and has been downloaded again" in again.log
    run(before=NO_NETWORK)


def test_what_is_missing_offline_is_one_clear_error(run, shards):
    assert "HF_HUB_OFFLINE is set" in run(HF_HUB_OFFLINE="1").answer
    folder = run().folder
    (folder / shards[0]).unlink()
    answer = run(HF_HUB_OFFLINE="1").answer
    assert answer.startswith(f"ModelError weights of tiny/model at revision {COMMIT}: they are not all here")
    assert "Connect to the internet and run again" in answer
    assert "model_path" in answer


@pytest.mark.parametrize(
    ("status", "code", "parts"),
    [
        (401, "GatedRepo", ["gated", "Accept its licence at huggingface.co/tiny/model", "HF_TOKEN"]),
        (403, "GatedRepo", ["gated", "Accept its licence at huggingface.co/tiny/model", "HF_TOKEN"]),
        (404, "RepoNotFound", ["does not exist, or it is private", "Check the id"]),
        (401, "RepoNotFound", ["does not exist, or it is private", "HF_TOKEN"]),
        (403, "Forbidden", ["access is refused", "HF_TOKEN"]),
        (500, "Broken", ["cannot be downloaded", "500"]),
    ],
)
def test_a_model_that_the_hub_refuses_is_one_clear_error(run, hub, status, code, parts):
    hub.refuse = (status, code)
    answer = run().answer
    assert answer.startswith(f"ModelError weights of tiny/model at revision {COMMIT}: ")
    for part in parts:
        assert part in answer
    assert "\n" not in answer


def test_an_unknown_id_or_revision_and_a_hub_that_is_not_there_are_one_clear_error(run):
    assert "the model does not exist, or it is private" in run(model="tiny/other").answer
    assert "does not have this revision" in run(revision="f" * 40).answer
    answer = run(HF_ENDPOINT="http://127.0.0.1:9").answer
    assert "cannot be downloaded" in answer
    assert "\n" not in answer


def test_a_disk_that_is_too_small_is_reported_before_anything_is_downloaded(run, hub):
    full = """
import shutil
shutil.disk_usage = lambda path: shutil._ntuple_diskusage(1000, 900, 100)
"""
    answer = run(before=full).answer
    assert "to be downloaded, and" in answer
    assert "0.0 GiB left" in answer
    assert "--model-dir" in answer
    assert not hub.fetched


def test_a_model_dir_that_cannot_be_written_is_one_clear_error(run, tmp_path):
    (tmp_path / "file").write_text("")
    assert run(cache=tmp_path / "file" / "below").answer.startswith("ModelError weights of tiny/model")


def test_a_folder_is_checked_for_completeness(published, tmp_path, shards):
    folder = shutil.copytree(published, tmp_path / "model")
    checkpoint = checkpoint_of(CAPTION_VARIANTS["demo"], str(folder))
    assert locate(checkpoint) == folder
    (folder / shards[1]).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (folder / shards[2]).unlink()
    with pytest.raises(ModelError, match=rf"missing, cut off or only pointers.*{shards[1]}, {shards[2]}"):
        locate(checkpoint)


def test_embedded_checkpoints_are_whole_and_need_no_hub():
    checkpoint = checkpoint_of(CAPTION_VARIANTS["demo"])
    assert locate(checkpoint) == checkpoint.folder
    assert 0 < weights_gib(checkpoint.folder) < 0.1
    assert checkpoint_max_len(checkpoint.folder) == 8192


def config(**fields):
    return fields


@pytest.mark.parametrize(
    ("fields", "family"),
    [
        (config(model_type="qwen2_5_vl"), "qwen2.5-vl"),
        (config(model_type="qwen3_vl", architectures=["Qwen3VLForConditionalGeneration"]), "qwen3-vl"),
        (config(model_type="NemotronH_Nano_VL_V2", architectures=["NemotronH_Nano_VL_V2"]), "nemotron-v2-vl"),
        (config(model_type="x", architectures=["NemotronH_Nano_Omni_Reasoning_V3"]), "nemotron-3-omni"),
        (config(model_type="nemotron_h_omni"), "nemotron-3-omni"),
        (config(model_type="qwen3", architectures=["Qwen3ForCausalLM"]), "text"),
        (config(model_type="llama", architectures=["LlamaForCausalLM"]), "text"),
    ],
)
def test_the_checkpoints_config_says_the_family(tmp_path, fields, family):
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert checkpoint_family(tmp_path) is FAMILIES[family]


@pytest.mark.parametrize(
    "fields",
    [
        config(model_type="bert", architectures=["BertModel"]),
        config(model_type="phi3_v", architectures=["Phi3VForCausalLM"], vision_config={}),
        config(),
    ],
)
def test_a_checkpoint_of_no_known_family_is_refused(tmp_path, fields):
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ModelError, match=r"of no known family.*give model_family"):
        checkpoint_family(tmp_path)
    assert checkpoint_family(tmp_path, FAMILIES["qwen3-vl"]) is FAMILIES["qwen3-vl"]


def test_the_length_of_a_checkpoint_is_its_language_models(tmp_path):
    path = tmp_path / "config.json"
    for fields, tokens in (
        (config(max_position_embeddings=9, text_config=config(max_position_embeddings=7)), 7),
        (config(llm_config=config(max_position_embeddings=8)), 8),
        (config(max_position_embeddings=9), 9),
        (config(), None),
    ):
        path.write_text(json.dumps(fields))
        assert checkpoint_max_len(tmp_path) == tokens
