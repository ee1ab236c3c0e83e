"""Where checkpoints lie, of one training and of members in step. No jax.

Each lies in a folder named by its step, in the training's own folder or in the group's.
A group has a folder of its own in `parts/together`: `members.json` names whose
trainings its checkpoints are of. A training is named by its own folder's path beside
`together`: "ghost-1f/ghost".
"""

import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from ghostjax import files

__all__ = [
    "TOGETHER",
    "Stack",
    "begin",
    "furthest",
    "is_step",
    "latest",
    "listed",
    "names",
    "place",
    "steps",
    "tidy",
]

TOGETHER = "together"
"""The folder of all groups, beside the parts of their members."""
_MEMBERS = "members.json"


class Stack(NamedTuple):
    """A group's folder."""

    folder: Path
    members: list[str]  # names of their trainings, in the order of the leading axis
    step: int  # of the newest whole checkpoint; 0: none


def names(together: Path, folders: Sequence[Path]) -> list[str]:
    """What trainings are called whose own folders are these."""
    return [Path(os.path.relpath(x, together.parent)).as_posix() for x in folders]


def place(together: Path, members: Sequence[str]) -> Path:
    """The folder of a group of members."""
    digest = sha256("\n".join(members).encode()).hexdigest()
    return together / digest[:16]


def begin(folder: Path, members: Sequence[str]) -> None:
    """Makes a group's folder and names its members there."""
    files.make_folder(folder)
    files.write_json(folder / _MEMBERS, list(members))


def listed(together: Path) -> Iterator[Stack]:
    """The groups that have a folder, whoever's; another process may take any away.

    One whose list of members is damaged is passed over: its name, a digest of them,
    tells nobody but who has the same members (`furthest`).
    """
    for path in sorted(together.glob(f"*/{_MEMBERS}")):
        try:
            members = files.read_json(path)
        except files.FileError:
            continue
        good = isinstance(members, list) and all(isinstance(x, str) for x in members)
        if good and place(together, members) == path.parent:
            yield Stack(folder=path.parent, members=members, step=latest(path.parent))


def latest(folder: Path) -> int:
    """The largest step with a whole checkpoint under `folder`, a training's own or a
    group's; 0: there is none."""
    return max(steps(folder), default=0)


def steps(folder: Path) -> list[int]:
    """All of them; none where there is no such folder."""
    try:
        return [int(name) for name in os.listdir(folder) if is_step(name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_step(name: str) -> bool:
    """Whether a folder of this name is a checkpoint, whose step its name is."""
    return name.isascii() and name.isdigit() and str(int(name)) == name


def furthest(together: Path, members: Collection[str]) -> Stack | None:
    """The group that is furthest of those that have all the members and a
    checkpoint; None: there is none."""
    groups = {group.folder: group for group in listed(together)}
    if members and (folder := place(together, list(members))) not in groups:
        groups[folder] = Stack(folder, list(members), latest(folder))
    having = [x for x in groups.values() if x.step and {*members} <= {*x.members}]
    return max(having, key=lambda stack: stack.step, default=None)


def tidy(together: Path, ended: Collection[str] = ()) -> None:
    """Takes away what no training will go on from.

    That is a group's folder once each of its members has a checkpoint of its own or is,
    with all the others that have none, in one group that is further. A group at work is
    neither: it is the furthest of its members, none of which has a checkpoint of its
    own before the group's last step.

    Args:
      together: the folder of all groups.
      ended: members that will not go on, whether they have a checkpoint or not.
    """
    groups = list(listed(together))
    waiting = {
        group.folder: {
            name
            for name in group.members
            if name not in ended and not latest(together.parent / name)
        }
        for group in groups
    }
    for group in groups:
        left = waiting[group.folder]
        followed = any(
            other.step > group.step > 0 and left <= waiting[other.folder]
            for other in groups
        )
        if followed or not left:
            shutil.rmtree(group.folder, ignore_errors=True)
