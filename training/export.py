"""Put trained weights into Hugging Face folders: `python -m training.export checkpoints/ --demo runs/demo`."""

import argparse
from pathlib import Path

from safetensors.torch import load_file

from training import model as demo
from training.texts import make_tokenizer, saved_tokenizer


def export_captions(run: Path, folder: Path) -> None:
    """Write the caption model of a run."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    tokenizer = saved_tokenizer(run / "tokenizer")
    model = Qwen2_5_VLForConditionalGeneration(demo.caption_config(tokenizer))
    model.load_state_dict(load_file(run / "vision.safetensors") | load_file(run / "text.safetensors"))
    demo.save_caption_model(model, tokenizer, folder)


def export_enhancer(run: Path, folder: Path) -> None:
    """Write the rewriting model of a run."""
    from transformers import Qwen3ForCausalLM

    tokenizer = make_tokenizer()
    model = Qwen3ForCausalLM(demo.enhance_config(tokenizer))
    model.load_state_dict(load_file(run / "model.safetensors"))
    demo.save_text_model(model, tokenizer, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path, help="folder of the checkpoints' folders")
    parser.add_argument("--demo", type=Path, help="run of the caption model")
    parser.add_argument("--demo-lm", type=Path, help="run of the rewriting model")
    args = parser.parse_args()
    if args.demo:
        export_captions(args.demo, args.checkpoints / "demo")
    if args.demo_lm:
        export_enhancer(args.demo_lm, args.checkpoints / "demo_lm")


if __name__ == "__main__":
    main()
