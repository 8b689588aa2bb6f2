"""What vLLM's processes do when the one that has started them ends; needs no vLLM."""

import subprocess
import sys

_CHILD = """
from caption_assets.models.engines.vllm.children import end_with_parent
end_with_parent()
print("there", flush=True)
import time; time.sleep(3600)
"""
_PARENT = f"""
import os, subprocess, sys
from caption_assets.models.engines.vllm.children import Children, end_with_parent
environment = os.environ | Children().environment
os.environ.update(environment)
end_with_parent()  # of no concern to the parent itself
child = subprocess.Popen([sys.executable, "-c", {_CHILD!r}], env=environment, stdout=subprocess.PIPE)
child.stdout.readline()
os.kill(os.getpid(), 9)
"""


def test_they_end_with_it_however_it_ends():
    """What the child writes to is open for as long as it lives."""
    done = subprocess.run([sys.executable, "-c", _PARENT], stderr=subprocess.PIPE, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (-9, b"")
