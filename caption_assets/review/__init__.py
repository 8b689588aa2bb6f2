"""Pages to look at captions, and what people say of them.

Here: a shard's tables as a page (`views`, `html`, `render`, with style and script in the folder `pages`), verdicts made
durable (`journal`), two keys side by side (`comparison`, `blind`), the server that shows pages and takes verdicts
(`server`, `access`, `reviews`), and what it does beside that (`upkeep`). Not here: what verdicts come to
(`store.verdicts`), and the documents that edited texts go into (`save_export`). No Dagster.
"""
