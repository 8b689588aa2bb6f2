"""How the demo checkpoints were made: scenes, a renderer for the GPU, the two training runs, and their export."""
