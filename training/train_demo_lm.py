"""Train the model that rewrites captions: `python -m training.train_demo_lm --out runs/demo_lm` (see README.md).

Every batch is fresh: facts, the caption that tells them, any instruction, and the longer text to answer with.
"""

import argparse
import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from caption_assets.demo.facts import elaborate, write
from training import model as demo
from training.texts import enhance_prompt, make_tokenizer, random_facts


class Batches(Dataset):
    """Token ids (B, S), attention mask and answer mask of batch after batch of one seed."""

    def __init__(self, seed: int, steps: int, size: int, tokenizer) -> None:
        self.seed, self.steps, self.size, self.tokenizer = seed, steps, size, tokenizer

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rng = random.Random(f"{self.seed}/{index}")
        encode = lambda text: self.tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
        rows = []
        for _ in range(self.size):
            facts = random_facts(rng)
            question = f"<|im_start|>user\n{enhance_prompt(rng)}\n\n{write(facts)}<|im_end|>\n<|im_start|>assistant\n"
            rows.append((encode(question), encode(elaborate(facts) + "<|im_end|>")))
        longest = -(-max(len(q) + len(a) for q, a in rows) // 32) * 32
        ids, known, answer = (torch.zeros(self.size, longest, dtype=torch.long) for _ in range(3))
        for i, (question, text) in enumerate(rows):
            end = len(question) + len(text)
            ids[i, :end] = torch.tensor(question + text)
            known[i, :end] = 1
            answer[i, len(question) : end] = 1
        return ids, known, answer.bool()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--size", type=int, default=128, help="captions a batch")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    from safetensors.torch import save_file
    from transformers import Qwen3ForCausalLM

    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    model = Qwen3ForCausalLM(demo.enhance_config(tokenizer)).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.05)
    data = DataLoader(Batches(args.seed, args.steps, args.size, tokenizer), batch_size=None, num_workers=args.workers)
    began = time.time()
    with (args.out / "log.jsonl").open("a") as log:
        for step, (ids, known, answer) in enumerate(data):
            ids, known, answer = (a.to(args.device) for a in (ids, known, answer))
            for group in optimizer.param_groups:
                group["lr"] = args.lr * min(1, (step + 1) / 200) * (1 - step / args.steps)
            with torch.autocast(args.device, torch.bfloat16, enabled=args.device == "cuda"):
                logits = model(input_ids=ids, attention_mask=known).logits[:, :-1][answer[:, 1:]]
            truth = ids[:, 1:][answer[:, 1:]]
            loss = F.cross_entropy(logits.float(), truth)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if (step + 1) % 100 == 0 or step + 1 == args.steps:
                wrong = (logits.argmax(-1) != truth).float().mean().item()
                line = {"step": step + 1, "seconds": round(time.time() - began, 1), "loss": loss.item(), "wrong": wrong}
                print(json.dumps(line), file=log, flush=True)
            if (step + 1) % 500 == 0 or step + 1 == args.steps:
                weights = {k: v.to(torch.bfloat16).contiguous().clone() for k, v in model.state_dict().items()}
                save_file(weights, args.out / "model.safetensors")
    (args.out / "done").touch()


if __name__ == "__main__":
    main()
