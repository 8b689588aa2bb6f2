"""Clips that lie together, in shards: by a hash, so that no clip's shard depends on any other clip."""

import hashlib
from dataclasses import dataclass

from caption_assets.names import name_bytes


@dataclass(frozen=True, slots=True)
class HashRule:
    """So many shards of about equal size. A shard's name says the rule: `hash-07-of-16`."""

    count: int

    def shard_of(self, relative_path: str) -> str:
        """The shard of the clip with this path below the root: SHA-256 of the path, its first eight bytes as a number,
        modulo `count`."""
        digest = hashlib.sha256(name_bytes(relative_path)).digest()
        number = int.from_bytes(digest[:8], "big") % self.count
        return f"hash-{number:0{len(str(self.count - 1))}}-of-{self.count}"
