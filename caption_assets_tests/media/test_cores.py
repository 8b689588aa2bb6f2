"""Cores that this process may use: the machine's, less what its control groups keep from it."""

import os
from pathlib import Path

import pytest

from caption_assets.errors import ConfigError
from caption_assets.media import cores as cores_module
from caption_assets.media.cores import decoder_threads, usable_cores

V1 = "4:memory:/a\n3:cpuset:/\n2:cpuacct:/a\n1:cpu:/a/b\n0::/\n"


def system(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A folder like `/` for a process in these control groups, with these files below /sys/fs/cgroup."""
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{n}": t for n, t in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "390000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "100000 50000\n", "a/cpu.max": "600000 100000\n"}, 2),
        ("0::/not/visible\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/../../outside\n", {"cpu.max": "400000 100000\n"}, 4),
        (V1, {"cpu/a/b/cpu.cfs_quota_us": "-1\n", "cpu/a/b/cpu.cfs_period_us": "100000\n"}, 8),
        (V1, {"cpu/a/b/cpu.cfs_quota_us": "250000\n", "cpu/a/b/cpu.cfs_period_us": "50000\n"}, 5),
        (V1, {"cpu/a/cpu.cfs_quota_us": "200000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 2),
        (V1.replace("cpu:", "cpu,cpuacct:"), {f"cpu,cpuacct/cpu.cfs_{n}_us": "100000" for n in ("quota", "period")}, 1),
        (V1, {"unified/cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "rubbish\n"}, 8),
        ("rubbish\n\n", {}, 8),
    ],
)
def test_the_lowest_limit_counts(groups: str, files: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert usable_cores(system(tmp_path, groups, files)) == cores


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8


def test_a_decoder_has_the_threads_that_are_asked_for_or_those_that_the_cores_are_good_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [decoder_threads(asked) for asked in (1, 3, 40)] == [1, 3, 40]
    for cores, threads in ((1, 1), (2, 3), (8, 9), (64, 16)):
        monkeypatch.setattr(cores_module, "usable_cores", lambda cores=cores: cores)
        assert decoder_threads(0) == threads


def test_the_real_system_can_be_read() -> None:
    assert 1 <= usable_cores() <= 8


def test_whoever_shares_cores_out_may_say_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = system(tmp_path, "0::/\n", {"cpu.max": "600000 100000\n"})
    for said, cores in (("2", 2), ("7", 6), ("", 6)):
        monkeypatch.setenv("CAPTION_ASSETS_CORES", said)
        assert usable_cores(root) == cores
    for said in ("abc", "0", "1.5", "-1"):
        monkeypatch.setenv("CAPTION_ASSETS_CORES", said)
        with pytest.raises(ConfigError, match="it is no number of cores"):
            usable_cores(root)
