"""Room that a dead actor's placement group holds is given back; that of a living one, or of other shape, stays."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import os, signal, time
import ray
from ray.util.placement_group import placement_group
from raymc.runtime.leftovers import give_back

ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)

@ray.remote(num_cpus=0)
class Maker:
    def make(self, bundle):
        self.group = placement_group([bundle] * 2)
        ray.get(self.group.ready())
        return os.getpid()

makers = [Maker.remote() for _ in range(3)]
shapes = [{"CPU": 1.0}, {"CPU": 1.0}, {"CPU": 2.0}]
pids = ray.get([maker.make.remote(shape) for maker, shape in zip(makers, shapes)])
assert give_back({"CPU": 1.0, "GPU": 0.0}) == 0  # all live
for pid in (pids[0], pids[2]):
    os.kill(pid, signal.SIGKILL)
for _ in range(100):
    if given := give_back({"CPU": 1.0, "GPU": 0.0}):
        break
    time.sleep(0.1)
assert given == 1, given
assert give_back({"CPU": 1.0}) == 0
for _ in range(100):
    if ray.available_resources().get("CPU") == 2.0:
        break
    time.sleep(0.1)
print("room:", ray.available_resources().get("CPU"))
"""


def test_room_of_the_dead_alone_is_given_back():
    """8 CPUs, of which three makers hold 2, 2 and 4; the first and the third die: 2 CPUs come back."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "room: 2.0" in done.stdout
