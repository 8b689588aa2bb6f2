"""Pages to look at captions, and what people say of them.

Here: a shard's tables as a page (`views`, `html`, `render`), with its HTML, style and script in the folder `pages`. Not
here: what verdicts come to (`store.verdicts`), and the documents that edited texts go into (`save_export`). No Dagster.
"""
