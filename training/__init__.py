"""How the demo checkpoints were made: scenes, a renderer for the GPU, the two training runs, clips that they are
checked on, and their export. Imports the package and nothing else of this repository.
"""
