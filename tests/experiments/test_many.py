"""A hundred members in one process: memory and maps stay."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sample

HERE = Path(__file__).parent
SCRIPT = """
import json
import sys
from pathlib import Path

sys.path[:0] = sys.argv[2:]
import plans
from ghostjax import runtime

runtime.configure()
seen = []


def standing(folder):
    pages = Path("/proc/self/statm").read_text().split()[1]
    maps = len(Path("/proc/self/maps").read_text().splitlines())
    seen.append((int(pages), maps))


with plans.registered():
    members = [
        plans.member(
            {"name": "noise", "level": 0.01 * place},
            plans.SEARCH,
            seed=place % 5,
            data={"gamma": ("2:2", "1:3")[place % 2]},
        )
        for place in range(100)
    ]
    ghosts = [
        plans.member(plans.GHOST, plans.SEARCH, seed=place, stego={"bits": 2})
        for place in range(20)
    ]
    for some in (members, ghosts):
        plans.sweep(some, Path(sys.argv[1]), finished=standing, devices=1)
        print(json.dumps(seen), flush=True)
        seen.clear()
"""


@pytest.mark.science
def test_memory_and_maps_stay_over_a_hundred_members(tmp_path):
    said = [sys.executable, "-c", SCRIPT, tmp_path, HERE, HERE.parent]
    process = subprocess.run(
        list(map(str, said)),
        env=sample.environment(),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    noises, ghosts = map(json.loads, process.stdout.splitlines())
    assert (len(noises), len(ghosts)) == (100, 20)
    for seen in (noises, ghosts):
        assert max(maps for _, maps in seen) < 20_000
        tenth = seen[9][0]
        assert max(pages for pages, _ in seen[10:]) < 1.1 * tenth
