"""Train the caption model from scratch: `python -m training.train_demo --out runs/demo` (one GPU; see README.md).

Two losses at once, on scenes that are never seen twice. The caption's tokens train all of the model; beside that a
throw-away linear layer on the vision tower's tokens must tell what each token sees (shape, colour, background, where
the object is in both frames, how large), which teaches shapes in minutes where captions alone take hours.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from training import checks, render
from training import model as demo
from training.clips import Batch, make_batch
from training.texts import make_tokenizer

HEADS = {"seen": 2, "here": 1, "shape": 4, "colour": 7, "background": 4, "path": 6, "place": 2}


class Batches(Dataset):
    """Batch after batch of one seed; the workers' number does not matter."""

    def __init__(self, seed: int, first: int, steps: int, frames: int, tokenizer) -> None:
        self.seed, self.first, self.steps, self.frames, self.tokenizer = seed, first, steps, frames, tokenizer

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, index: int) -> Batch:
        return make_batch(self.seed, self.first + index, self.frames, self.tokenizer)


def dense_loss(heads: torch.nn.Linear, tokens: torch.Tensor, true: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Losses of what the vision tower's tokens know, one a head."""
    said = dict(zip(HEADS, heads(tokens).float().split(list(HEADS.values()), -1), strict=True))
    here = true["here"]
    return {
        "seen": F.binary_cross_entropy_with_logits(said["seen"], true["seen"].float().clamp(0, 1)),
        "here": F.binary_cross_entropy_with_logits(said["here"][..., 0], here.float()),
        "shape": F.cross_entropy(said["shape"][here], true["shape"][here]),
        "colour": F.cross_entropy(said["colour"][here], true["colour"][here]),
        "background": F.cross_entropy(said["background"].transpose(1, 2), true["background"]),
        "path": 4 * F.smooth_l1_loss(said["path"][here], true["path"][here].float(), beta=0.1),
        "place": F.smooth_l1_loss(said["place"], true["place"].float(), beta=0.1),
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


def save(folder: Path, averages: dict[str, torch.Tensor], info: dict) -> None:
    """Write the averaged weights as bf16 in two files, each complete or not there, and what is known about them."""
    from safetensors.torch import save_file

    for part, test in (("vision", lambda k: "visual" in k), ("text", lambda k: "visual" not in k)):
        tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in averages.items() if test(k)}
        save_file(tensors, folder / f".{part}")
        (folder / f".{part}").rename(folder / f"{part}.safetensors")
    (folder / "info.json").write_text(json.dumps(info, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--frames", type=int, default=2048, help="frames a batch")
    parser.add_argument("--lr", type=float, default=1.2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--checks", type=Path, help="check file, see checks.py")
    parser.add_argument("--check-every", type=int, default=1000)
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--eager", action="store_true", help="do not compile")
    parser.add_argument("--first", type=int, default=0, help="go on from this step with the weights in --out")
    args = parser.parse_args()
    from transformers import Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    model = Qwen2_5_VLForConditionalGeneration(demo.caption_config(tokenizer)).to(args.device)
    heads = torch.nn.Linear(256, sum(HEADS.values())).to(args.device)
    if args.first:
        from safetensors.torch import load_file

        weights = load_file(args.out / "vision.safetensors") | load_file(args.out / "text.safetensors")
        model.load_state_dict(weights, strict=True)
    if args.device == "cuda" and not args.eager:
        demo.compile_blocks()
        render.compile_parts()
    parameters = [*model.parameters(), *heads.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), fused=args.device == "cuda")
    averages = {k: v.detach().clone() for k, v in model.state_dict().items()}
    weights = [model.state_dict()[k] for k in averages]
    loader = iter(
        DataLoader(
            Batches(args.seed, args.first, args.steps, args.frames, tokenizer),
            batch_size=None,
            collate_fn=lambda batch: batch,
            num_workers=args.workers,
            prefetch_factor=4 if args.workers else None,
        )
    )
    log = (args.out / "log.jsonl").open("a")
    began = mark = time.time()
    sums: dict[str, torch.Tensor] = {}
    frames_seen = waited = 0.0
    for step in range(args.first, args.steps):
        before = time.time()
        batch = next(loader)
        waited += time.time() - before
        batch = batch.map(lambda a: torch.from_numpy(np.asarray(a)).to(args.device))
        pixels, targets = pixels_of(batch, args.seed, step, args.device == "cuda")
        rate = args.lr * min(1, (step + 1) / 300) * max(0.0, 1 - step / args.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(args.device, torch.bfloat16, enabled=args.device == "cuda"):
            tokens, logits = demo.forward(
                model, pixels, batch.grid, batch.ids, batch.positions, batch.answer, batch.video
            )
            losses = dense_loss(heads, tokens, targets)
        truth = batch.ids[:, 1:][batch.answer[:, 1:]]
        losses["caption"] = F.cross_entropy(logits.float(), truth)
        loss = losses["caption"] + 0.5 * sum(v for k, v in losses.items() if k != "caption")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(averages.values()), weights, 1 - min(0.998, (step + 1) / (step + 10)))
            losses["wrong"] = (logits.argmax(-1) != truth).float().mean()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach()
        frames_seen += batch.states.shape[0] * batch.states.shape[1]
        if (step + 1) % 50 == 0 or step + 1 == args.steps or step < 3:
            count = 50 if (step + 1) % 50 == 0 else 1
            line = {"step": step + 1, "seconds": round(time.time() - began, 1)}
            line |= {k: round(v.item() / count, 5) for k, v in sums.items()}
            line |= {"frames_per_s": round(frames_seen / (time.time() - mark)), "waited": round(waited, 2)}
            print(json.dumps(line), file=log, flush=True)
            sums, frames_seen, waited, mark = {}, 0.0, 0.0, time.time()
        last = step + 1 == args.steps
        if (step + 1) % args.save_every == 0 or last:
            info = {"step": step + 1, "steps": args.steps, "seed": args.seed, "seconds": round(time.time() - began, 1)}
            save(args.out, averages, info | {"loss": round(loss.item(), 5), "caption": losses["caption"].item()})
        if args.checks and args.checks.exists() and ((step + 1) % args.check_every == 0 or last):
            held_out = checks.load(args.checks)
            own = {k: v.clone() for k, v in model.state_dict().items()}
            model.load_state_dict(averages)
            line = {"step": step + 1, "checks": checks.scores(model, tokenizer, held_out, args.device)}
            print(json.dumps(line), file=log, flush=True)
            model.load_state_dict(own)
            mark = time.time()
    (args.out / "done").touch()


if __name__ == "__main__":
    main()
