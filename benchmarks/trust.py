"""Every figure of what confidence and rules are worth, at once, on all cores and a GPU if there is one.

    python -m benchmarks.trust --out trust.json [--scenes 500] [--captions 10000] [--skewed CHECKPOINT]

- `benchmarks.confidence` with all its parts, in processes of one thread each;
- the hard scenes again by vLLM, in float32 and in bfloat16, and how far both engines order the captions alike;
- with a checkpoint that was trained on the world's second language (`training.train_demo --skewed`): the hard scenes
  of both languages by that model, in all and of captions with and without a rare word;
- `benchmarks.findings`: planted defects in three languages, and findings against true captions.

`holds` in the file says what is to be, and whether it is. What cannot be run here (no vLLM, no checkpoint) is named in
`not_run`. 500 scenes take 10 to 15 minutes of one core, all in all, and each start of vLLM one or two minutes on a GPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

CHUNK = 16
DTYPES = ("float32", "bfloat16")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The results of several runs of `confidence.run`, together: lists one after the other, numbers by the largest."""
    result: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if name not in result:
                result[name] = value
            elif isinstance(value, dict):
                result[name] = merged([result[name], value])
            elif isinstance(value, list):
                result[name] = result[name] + value
            else:
                result[name] = max(result[name], value)
    return result


def scored(first: int, last: int, parts: tuple[str, ...], demo: str | None, skewed: bool) -> dict[str, Any]:
    """In a process of the pool."""
    import torch

    from benchmarks.confidence import run

    torch.set_num_threads(1)
    return run(range(first, last), parts, demo, skewed)


def defects(captions: int) -> dict[str, Any]:
    """In a process of the pool."""
    from benchmarks.findings import false_findings, planted_defects

    return {"planted": planted_defects(60), "false": false_findings(captions)}


def by_vllm(scenes: int, dtype: str, python_path: str | None) -> dict[str, Any]:
    """The hard scenes by vLLM, in a process of its own. Raises RuntimeError with what it said."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "vllm.json"
        command = [sys.executable, "-m", "benchmarks.confidence", "--parts", "hard", "--engine", "vllm"]
        command += ["--scenes", str(scenes), "--dtype", dtype, "--out", str(out)]
        paths = [path for path in (python_path, os.getcwd(), os.environ.get("PYTHONPATH")) if path]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        for name in _THREADS:
            environment.pop(name, None)
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        found: dict[str, Any] = json.loads(out.read_text())["hard"]
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--captions", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--skewed", help="checkpoint of the model of the world's second language")
    parser.add_argument("--no-vllm", action="store_true")
    parser.add_argument("--vllm-path", help="folder to find vLLM in")
    args = parser.parse_args()
    from benchmarks import confidence

    began = time.perf_counter()
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # of the processes that are started from here
    not_run: dict[str, str] = {}
    vllm: dict[str, Future[dict[str, Any]]] = {}
    with (
        ThreadPoolExecutor(1) as beside,
        ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool,
    ):
        if args.no_vllm or not (args.vllm_path or find_spec("vllm")):
            not_run["vllm"] = "there is no vLLM, or it was not wanted"
        else:
            for dtype in DTYPES:
                vllm[dtype] = beside.submit(by_vllm, args.scenes, dtype, args.vllm_path)
        rules = pool.submit(defects, args.captions)
        chunks = [(first, min(first + CHUNK, args.scenes)) for first in range(0, args.scenes, CHUNK)]
        work = {"plain": (confidence.PARTS, None, False)}
        if args.skewed:
            work["skewed model, all words alike"] = (("hard",), args.skewed, False)
            work["skewed model, skewed world"] = (("hard",), args.skewed, True)
        else:
            not_run["skewed"] = "no checkpoint was given"
        asked = {name: [pool.submit(scored, *chunk, *what) for chunk in chunks] for name, what in work.items()}
        results = {name: merged([future.result() for future in futures]) for name, futures in asked.items()}
        figures: dict[str, Any] = {name: confidence.summary(result) for name, result in results.items()}
        figures["rules"] = rules.result()
        seconds = {"without vLLM": round(time.perf_counter() - began, 1)}
        for dtype, future in vllm.items():
            try:
                other = future.result()
            except RuntimeError as error:
                not_run[f"vllm, {dtype}"] = str(error)
                continue
            results[f"vllm, {dtype}"] = {"hard": other}
            figures[f"vllm, {dtype}"] = confidence.agreement(results["plain"]["hard"], other)
    seconds["all"] = round(time.perf_counter() - began, 1)
    report = {"scenes": args.scenes, "seconds": seconds, "not_run": not_run, "holds": holds(figures)}
    args.out.write_text(json.dumps(report | {"figures": figures, "scores": results}))
    for line in confidence.lines(figures):
        print(line)
    print(json.dumps(report, indent=1))


def holds(figures: dict[str, Any]) -> dict[str, list[Any]]:
    """What is to be, with the figure that decides it, and whether it is."""
    plain, rules = figures["plain"], figures["rules"]

    def best(areas: dict[str, list[float]]) -> float:
        return max(area for area, *_ in areas.values())

    planted = min(best(areas) for areas in plain["planted, video"].values())
    found: dict[str, list[Any]] = {"one planted wrong fact of each kind: AUROC 0.95": [planted, planted >= 0.95]}
    hard = plain["hard"]
    found["hard scenes: 150 wrong of 500"] = [hard["wrong"], hard["wrong"] >= 0.3 * (hard["right"] + hard["wrong"])]
    own = best(hard["video"])
    found["the model's own errors: AUROC 0.90"] = [own, own >= 0.90]
    for kind, scores in plain["falls"].items():
        falls = max(score["falls"] for score in scores.values())
        found[f"{kind}: the score falls in 99 % of pairs"] = [falls, falls >= 0.99]
    for name in (name for name in figures if name.startswith("vllm")):
        tau = max(figures[name]["tau"]["all"].values())
        found[f"{name}: Kendall's tau 0.95"] = [tau, tau >= 0.95]
    missed = [
        f"{rule} in {language}: {n['planted'] - n['found']} of {n['planted']}"
        for rule, languages in rules["planted"].items()
        for language, n in languages.items()
        if n["found"] < n["planted"]
    ]
    fewest = min(n["planted"] for languages in rules["planted"].values() for n in languages.values())
    found["planted defects, 50 of each kind in each language: all found"] = [missed, not missed and fewest >= 50]
    captions = rules["false"]["captions"]
    false = sum(captions["findings"].values())
    found["false findings: 1 in 1,000 captions"] = [false, false <= captions["texts"] / 1000]
    return found


if __name__ == "__main__":
    main()
