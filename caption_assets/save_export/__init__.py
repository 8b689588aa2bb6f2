"""The output root: where files lie, what they hold, and how they are written without tearing."""
