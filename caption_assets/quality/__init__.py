"""What is wrong with texts, and how far a model's confidence can be trusted: pure functions on texts and numbers.

Here: rules, each with what it finds, where it is from and when it is wrong to fire; the facts that a rewritten text has
to keep; figures of confidence against people's marks. No rule asks a model. Not here: which texts are judged, and where
findings are kept (`steps`, `store`).
"""

from caption_assets.quality.findings import (
    RULES,
    VERSION,
    Finding,
    Judged,
    describe_rules,
    judge,
    worst,
)

__all__ = ["RULES", "VERSION", "Finding", "Judged", "describe_rules", "judge", "worst"]
