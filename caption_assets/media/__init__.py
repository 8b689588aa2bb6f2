"""Pure media code: windows, sampling, decoding, previews. No Dagster, no model, no knowledge of the output layout."""
