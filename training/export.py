"""Put trained weights into Hugging Face folders: `python -m training.export runs/demo runs/demo_lm checkpoints/`."""

import sys
from pathlib import Path

from safetensors.torch import load_file

from training import model as demo
from training.texts import make_tokenizer


def export_captions(run: Path, folder: Path) -> None:
    """Write the caption model of a run."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    tokenizer = make_tokenizer()
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


if __name__ == "__main__":
    captions, enhancer, target = (Path(argument) for argument in sys.argv[1:])
    export_captions(captions, target / "demo")
    export_enhancer(enhancer, target / "demo_lm")
