"""Read by every Python that tests start (see `conftest.py`). Looking for garbage after every 700 new objects, as Python
does by itself, takes a quarter of the time of large imports, and most of these processes do little else."""

import gc

gc.set_threshold(50_000, 10, 10)
