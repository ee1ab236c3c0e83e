"""What a sweep has to do: its members as stage tasks, named by content. No jax.

A member of a sweep, one experiment, passes the stages

  target -> judge -> stego -> defense -> measure -> attack -> invert -> row

Each task is named by the content of all that its result depends on, so that a target is
trained once for all members that share it. Tasks of one stage with an equal `group` run
the same programs: their records differ in traced values alone, their shapes and what
they share are the same. A single experiment is a sweep of one member.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from ghostjax.config.sections import Config
from ghostjax.data import Dataset, Partition, fingerprint, load, partition
from ghostjax.fields import content_hash, static_half

__all__ = [
    "LEARNED",
    "Member",
    "STAGES",
    "Task",
    "groups",
    "lay_out",
    "member",
    "plan",
    "renamed",
]

LEARNED = ("target", "judge", "stego", "defense", "attack")  # and kept in parts
STAGES = ("target", "judge", "stego", "defense", "measure", "attack", "invert", "row")
_IDLE = ("name", "device")  # of a config: they change no result
_UNDEFENDED = {"edge_variables", "cloud_variables", "public_images", "public_labels"}
_SCHEME = {"perturbed_pairs", "stego_params", "encode"}  # knowledge of how one hides


class Task(NamedTuple):
    """One stage of one member."""

    stage: str
    name: str  # by content; tasks of one name have one result
    member: int  # the first that wants it
    needs: tuple[str, ...]  # names of tasks whose results it reads
    group: Any  # hashable; equal for tasks that run the same programs


class Member(NamedTuple):
    """One experiment of a sweep, with what a plan knows of it."""

    config: Config
    dataset: Dataset
    public: Dataset | None  # that the attacker's images are of, where it has others
    partition: Partition
    names: Mapping[str, str]  # stage -> name of its task; a stage it skips is not there

    @property
    def hash(self) -> str:
        """Names the run."""
        return self.names["row"].removeprefix("row-")

    @property
    def folder(self) -> str:
        """Name of the run's folder."""
        return f"{self.config.name}-{self.hash[:8]}"


def member(
    config: Config, dataset: Dataset, find: Callable[[str], Dataset] = load
) -> Member:
    """A member, its labels divided and its tasks named.

    Args:
      config: of the member; where the data set has another name than the config says,
        the member's config says the data set's.
      dataset: whose images are protected.
      find: gives the data set that `config.attacker.public` names, where it names one.

    Raises:
      ValueError: a partition without public or sensitive labels, targets that cannot
        be, or an attacker's data set that cannot be loaded.
    """
    config = renamed(config, dataset)
    _require_rows(config, len(dataset.test.labels))
    public = None
    if name := config.attacker.public_data:
        public = dataset if name == dataset.name else find(name)
    labels = partition(
        len(dataset.class_names),
        config.data.gamma,
        seed=config.seed,
        sensitive=config.data.sensitive_labels or None,
    )
    one = Member(
        config=config, dataset=dataset, public=public, partition=labels, names={}
    )
    return one._replace(names=_names(one))


def lay_out(
    configs: Sequence[Config],
    title: Callable[[Config], str] = lambda config: "",
    data: Dataset | None = None,
) -> list[Member]:
    """The members of a sweep, in order; each data set is loaded once.

    Args:
      configs: one a member.
      title: what tells a member from the others; goes before its errors.
      data: takes the place of the data that the configs name.

    Raises:
      ValueError: no configs, what `member` refuses, or two members with one folder.
    """
    if not configs:
        raise ValueError("the plan has no members: give one experiment at least")

    @cache
    def loaded(name: str, folder: str, size: tuple[int, ...]) -> Dataset:
        return load(name, folder=folder, size=size)

    laid: list[Member] = []
    for config in configs:
        section = config.data
        try:
            dataset = data or loaded(section.name, section.folder, section.size)
            laid.append(member(config, dataset, lambda name: loaded(name, "", ())))
        except ValueError as error:
            name = title(config)
            raise ValueError(f"{name}: {error}" if name else str(error)) from error
    _require_folders(laid)
    return laid


def _require_folders(members: Sequence[Member]) -> None:
    """Refuses members of which one would be taken for another that is finished.

    Folders are named by 32 bits of the hash: of 10,000 members two meet in one plan of
    a hundred.
    """
    hashes: dict[str, str] = {}
    for one in members:
        if hashes.setdefault(one.folder, one.hash) != one.hash:
            raise ValueError(
                f"two experiments of the plan have one folder, {one.folder}, by "
                "chance: give their variants a label each, or change a seed"
            )


def _require_rows(config: Config, count: int) -> None:
    """Refuses rows beyond the `count` test images, and images that are no secrets where
    the defense hides secrets."""
    section = config.attacker
    if config.defense.hides and (section.rows or section.select == "all"):
        raise ValueError(
            "the defense hides secrets: attacker.select = 'all' and attacker.rows are "
            "for defenses that hide nothing"
        )
    outside = [row for row in section.rows if not 0 <= row < count]
    if outside:
        raise ValueError(
            f"attacker.rows names image {outside[0]}: the test split has {count} images"
        )


def renamed(config: Config, dataset: Dataset) -> Config:
    """The config with the data set's name where it has another: nothing is measured of
    one data set under the name of another."""
    if config.data.name == dataset.name:
        return config
    data = replace(config.data, name=dataset.name, folder="", size=())
    return replace(config, data=data)


def plan(members: Sequence[Member]) -> list[Task]:
    """The tasks of all members, each name once, in an order in which they can be done:
    a member's tasks stand together, so that rows appear as soon as they can."""
    tasks: dict[str, Task] = {}
    half = cache(static_half)  # members share records
    for place, one in enumerate(members):
        for task in _tasks(place, one, half):
            tasks.setdefault(task.name, task)
    return list(tasks.values())


def groups(tasks: Iterable[Task]) -> dict[tuple[str, Any], list[Task]]:
    """(stage, group) -> the tasks that run the same programs."""
    grouped: dict[tuple[str, Any], list[Task]] = {}
    for task in tasks:
        grouped.setdefault((task.stage, task.group), []).append(task)
    return grouped


def _judged(config: Config, dataset: Dataset) -> bool:
    """Whether a judge looks at the attacker's pictures, if there are any."""
    train = dataset.train
    return config.judge.used and not config.judge.refusal(
        train.labels, dataset.class_names
    )


def _names(one: Member) -> dict[str, str]:
    """Stage -> name of its task; data enter by their fingerprints."""
    config, labels = one.config, one.partition
    data = fingerprint(one.dataset)
    public = "" if one.public is None else fingerprint(one.public)
    target = content_hash(data, config.target)
    record, hides = config.defense, config.defense.hides
    names = {"target": f"target-{target}"}
    if hides:
        names["stego"] = f"{config.stego.name}-{content_hash(data, config.stego)}"
    # Where nothing is hidden, a defense learns from the images of all labels alike.
    split = (labels.sensitive, config.stego) if hides else ()
    defense = content_hash(target, *split, record, config.seed)
    names["defense"] = f"{record.name}-{defense}"
    asked = labels.sensitive, config.seed
    names["measure"] = f"measure-{content_hash(names['defense'], *asked)}"
    if config.attack.needs:
        if _judged(config, one.dataset):
            names["judge"] = f"judge-{content_hash(data, config.judge.training)}"
        attack = _attack_hash(config, public, names)
        names["attack"] = f"{config.attack.name}-{attack}"
        names["invert"] = f"invert-{content_hash(attack, defense, *asked)}"
    anywhere = replace(config.data, folder="", size=())
    settings = {**vars(config), "data": anywhere}
    ordered = (settings[key] for key in sorted(settings) if key not in _IDLE)
    names["row"] = f"row-{content_hash(data, public, *ordered)}"
    return names


def _attack_hash(config: Config, public: str, names: Mapping[str, str]) -> str:
    """Of what an attacker learns: all that it depends on.

    Where public images cross the cut as the plain edge sends them, an attacker learns
    the same from them whatever the user's secrets go through, and from secrets of its
    own wherever they are hidden alike: such defenses share what is trained. What needs
    the target's weights and public images alone learns the same behind any defense.
    """
    record = config.defense
    scheme = _SCHEME & {*config.attack.needs, *config.denoise.needs}
    hidden = config.stego if scheme else ""
    defended = names["defense"]
    if {*config.attack.needs, *config.denoise.needs} <= _UNDEFENDED:
        defended = content_hash(names["target"], record.cut, config.seed)
    elif record.sends_plain and not (scheme and (record.perturbs or not record.hides)):
        defended = content_hash(names["target"], record.cut, config.seed, hidden)
    learned = config.attacker, config.attack, config.denoise
    return content_hash(defended, public, *learned)


def _tasks(place: int, one: Member, half: Callable[[Any], Any]) -> Iterator[Task]:
    """One member's, in order; `half` is `static_half`."""
    config, names = one.config, one.names
    shapes = fingerprint(one.dataset), config.target.network
    cut = *shapes, config.defense.cut
    hiding = half(config.stego) if config.defense.hides else None
    defended = *cut, half(config.defense), hiding, names["target"]
    learned = half(config.attack), half(config.denoise)
    attacked = *defended, *learned, half(config.attacker)
    group = {
        "target": (*shapes, half(config.target)),
        "judge": (shapes[0], half(config.judge)),
        "stego": (*shapes, hiding),
        "defense": defended,
        "measure": defended,
        "attack": attacked,
        "invert": attacked,
        "row": (),
    }
    for stage in STAGES:
        if stage in names:
            needs = tuple(names[x] for x in _NEEDS[stage] if x in names)
            yield Task(
                stage=stage,
                name=names[stage],
                member=place,
                needs=needs,
                group=group[stage],
            )


_NEEDS = {
    "target": (),
    "judge": (),
    "stego": ("target",),
    "defense": ("target", "stego"),
    "measure": ("target", "stego", "defense"),
    "attack": ("target", "stego", "defense"),
    "invert": ("target", "judge", "stego", "defense", "attack"),
    "row": STAGES[:-1],
}
