"""Train the caption model from scratch: `python -m training.train_demo --out runs/demo` (one GPU; see README.md).

Three losses at once, on scenes that are never seen twice. The caption's tokens train all of the model. Beside that a
throw-away linear layer on the vision tower's tokens must tell what each token sees (shape, colour, background, where
the object is in both frames, how large), which teaches shapes in minutes where captions alone take hours; and another
on what the text model has made of these tokens must tell what the object does, up to there.

The same command goes on where it was stopped: `--out` holds the state of the last save.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from caption_assets.demo.facts import MOTIONS
from caption_assets.demo.world import SKEWED
from training import checks, render
from training import model as demo
from training.clips import Batch, make_batch
from training.texts import make_tokenizer, saved_tokenizer

HEADS = {"seen": 2, "here": 1, "shape": 4, "colour": 7, "background": 4, "path": 6, "place": 2}


class Batches(Dataset):
    """Batch after batch of one seed; the workers' number does not matter."""

    def __init__(
        self, seed: int, first: int, steps: int, frames: int, tokenizer, odds: dict[str, float], json_share: float
    ) -> None:
        self.seed, self.first, self.steps, self.frames = seed, first, steps, frames
        self.tokenizer, self.odds, self.json_share = tokenizer, odds, json_share

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, index: int) -> Batch:
        step = self.first + index
        return make_batch(self.seed, step, self.frames, self.tokenizer, self.odds, self.json_share)


def dense_loss(
    heads: torch.nn.ModuleDict, tokens: torch.Tensor, understood: torch.Tensor, true: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Losses of what the vision tower's tokens know, and of what the text model makes of them, one a head."""
    said = dict(zip(HEADS, heads["vision"](tokens).float().split(list(HEADS.values()), -1), strict=True))
    here = true["here"]
    return {
        "seen": F.binary_cross_entropy_with_logits(said["seen"], true["seen"].float().clamp(0, 1)),
        "here": F.binary_cross_entropy_with_logits(said["here"][..., 0], here.float()),
        "shape": F.cross_entropy(said["shape"][here], true["shape"][here]),
        "colour": F.cross_entropy(said["colour"][here], true["colour"][here]),
        "background": F.cross_entropy(said["background"].transpose(1, 2), true["background"]),
        "path": 4 * F.smooth_l1_loss(said["path"][here], true["path"][here].float(), beta=0.1),
        "place": F.smooth_l1_loss(said["place"], true["place"].float(), beta=0.1),
        "motion": F.cross_entropy(heads["text"](understood).float()[here], true["motion"][here]),
    }


def pixels_of(batch: Batch, seed: int, step: int, half: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Patches and dense targets of a batch."""
    device = batch.states.device
    generator = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
    with torch.no_grad():
        image, covers = render.draw(batch)
        targets = render.token_targets(batch, covers)
        image = render.wear(image.half() if half else image, batch.look, generator)
        return render.patches(image), targets


class Learner:
    """The model, what it learns with, and how far it has come. `seconds` is the time spent, over all calls.

    From the checkpoint in `start`, which knows what it sees, it learns by its texts alone.
    """

    def __init__(self, tokenizer, device: str, lr: float, start: Path | None = None) -> None:
        from transformers import Qwen2_5_VLForConditionalGeneration

        self.tokenizer, self.device, self.lr = tokenizer, device, lr
        if start is None:
            self.model = Qwen2_5_VLForConditionalGeneration(demo.caption_config(tokenizer)).to(device)
        else:
            self.model = Qwen2_5_VLForConditionalGeneration.from_pretrained(start, dtype=torch.float32).to(device)
        self.dense_weight = 0.5 if start is None else 0.0
        widths = {"vision": sum(HEADS.values()), "text": len(MOTIONS)}
        self.heads = torch.nn.ModuleDict({k: torch.nn.Linear(256, width) for k, width in widths.items()}).to(device)
        self.parameters = [*self.model.parameters(), *self.heads.parameters()]
        groups = [
            {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": 0.05},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=device == "cuda")
        self.averages = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.weights = [self.model.state_dict()[k] for k in self.averages]
        self.step, self.seconds = 0, 0.0

    def learn(self, batch: Batch, seed: int, steps: int) -> dict[str, torch.Tensor]:
        """One step of `steps`; its losses, and the share of wrong tokens ("wrong")."""
        cuda = self.device == "cuda"
        batch = batch.map(lambda a: torch.from_numpy(np.asarray(a)).to(self.device))
        pixels, targets = pixels_of(batch, seed, self.step, cuda)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * min(1, (self.step + 1) / 300) * max(0.0, 1 - self.step / steps)
        with torch.autocast(self.device, torch.bfloat16, enabled=cuda):
            tokens, understood, logits = demo.forward(
                self.model, pixels, batch.grid, batch.ids, batch.positions, batch.answer, batch.video
            )
            losses = dense_loss(self.heads, tokens, understood, targets)
        truth = batch.ids[:, 1:][batch.answer[:, 1:]]
        losses["caption"] = F.cross_entropy(logits.float(), truth)
        loss = losses["caption"] + self.dense_weight * sum(v for k, v in losses.items() if k != "caption")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            newest = 1 - min(0.998, self.step / (self.step + 9))
            torch._foreach_lerp_(list(self.averages.values()), self.weights, newest)
            losses["wrong"] = (logits.argmax(-1) != truth).float().mean()
        return {name: value.detach() for name, value in losses.items()}

    def check(self, file: Path) -> dict[str, dict[str, float]]:
        """Scores of the averaged weights on a check file."""
        own = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.averages)
        scores = checks.scores(self.model, self.tokenizer, checks.load(file), self.device)
        self.model.load_state_dict(own)
        return scores

    def save(self, folder: Path) -> None:
        """Write the averaged weights as bf16 in two files, and all that is needed to go on; each complete or not."""
        from safetensors.torch import save_file

        for part, test in (("vision", lambda k: "visual" in k), ("text", lambda k: "visual" not in k)):
            tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in self.averages.items() if test(k)}
            save_file(tensors, folder / f".{part}")
            (folder / f".{part}").rename(folder / f"{part}.safetensors")
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averages": self.averages,
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, folder / "state.part")
        (folder / "state.part").rename(folder / "state.pt")

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote, where it did."""
        if not (folder / "state.pt").exists():
            return
        state = torch.load(folder / "state.pt", map_location=self.device, weights_only=True)
        for name in ("model", "heads", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        for name, value in state["averages"].items():
            self.averages[name].copy_(value)
        self.step, self.seconds = state["step"], state["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=5500)
    parser.add_argument("--frames", type=int, default=2048, help="frames a batch")
    parser.add_argument("--lr", type=float, default=1.2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--checks", type=Path, help="check file, see checks.py")
    parser.add_argument("--check-every", type=int, default=1000)
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--stop-after", type=float, default=math.inf, help="seconds; save, and let the next call go on")
    parser.add_argument("--skewed", action="store_true", help="the world's second language: some words are rare")
    parser.add_argument("--start", type=Path, help="checkpoint to begin with, and its tokenizer")
    parser.add_argument("--json-share", type=float, default=0.25, help="so many clips are to be told as JSON")
    parser.add_argument("--eager", action="store_true", help="do not compile")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer() if args.start is None else saved_tokenizer(args.start)
    tokenizer.save_pretrained(args.out / "tokenizer")
    learner = Learner(tokenizer, args.device, args.lr, args.start)
    learner.load(args.out)
    if args.device == "cuda" and not args.eager:
        demo.compile_blocks()
        render.compile_parts()
    odds = dict(SKEWED) if args.skewed else {}
    loader = iter(
        DataLoader(
            Batches(args.seed, learner.step, args.steps, args.frames, tokenizer, odds, args.json_share),
            batch_size=None,
            collate_fn=lambda batch: batch,
            num_workers=args.workers,
            prefetch_factor=4 if args.workers else None,
        )
    )
    log = (args.out / "log.jsonl").open("a")
    began = mark = time.time()
    before, stopped = learner.seconds, False
    sums: dict[str, torch.Tensor] = {}
    count = frames = 0

    def report(line: dict) -> None:
        print(json.dumps(line), file=log, flush=True)
        print(json.dumps(line), flush=True)

    while learner.step < args.steps and not stopped:
        batch = next(loader)
        losses = learner.learn(batch, args.seed, args.steps)
        sums = {name: sums.get(name, 0) + value for name, value in losses.items()}
        count, frames = count + 1, frames + batch.states.shape[0] * batch.states.shape[1]
        learner.seconds = before + time.time() - began
        stopped = time.time() - began > args.stop_after
        last = learner.step == args.steps or stopped
        if learner.step % 50 == 0 or learner.step == 1 or last:
            means = {name: round(value.item() / count, 5) for name, value in sums.items()}
            rate = round(frames / (time.time() - mark))
            report({"step": learner.step, "seconds": round(learner.seconds, 1), **means, "frames_per_s": rate})
            sums, count, frames, mark = {}, 0, 0, time.time()
        if learner.step % args.save_every == 0 or last:
            learner.save(args.out)
        if args.checks and (learner.step % args.check_every == 0 or last):
            report({"step": learner.step, "checks": learner.check(args.checks)})
            mark = time.time()


if __name__ == "__main__":
    main()
