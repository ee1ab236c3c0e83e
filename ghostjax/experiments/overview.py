"""A sweep at a glance, before and while it runs: what is planned, and where it stands.

Lines of text for people, from a plan and from what lies in the output folder; nothing
is written and nothing is waited for. No jax, so networks, layers and shapes are not
looked at: what only they can refuse, the run refuses.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from ghostjax.config import grid
from ghostjax.experiments import state
from ghostjax.experiments.plan import LEARNED, STAGES, Member, Task, groups, plan
from ghostjax.fields import ON, TRACED, Record, static_half
from ghostjax.records import Trained
from ghostjax.registry import FAMILIES
from ghostjax.training import stacks

__all__ = ["planned", "standing"]

_SHOWN = 20  # members or parts; of more it is said how many there are
_GROUPS = 100  # likewise
_TELLING = 4  # keys that tell a group from others
_LISTED = 6  # values of one key; of more, the least and the largest
_READS = {
    "target": ("target",),
    "judge": ("judge",),
    "stego": ("stego",),
    "defense": ("target", "stego", "defense"),
    "measure": ("target", "stego", "defense"),
    "attack": ("target", "stego", "defense", "attacker", "attack", "denoise"),
    "invert": ("target", "stego", "defense", "attacker", "attack", "denoise"),
}
"""Stage -> the sections of a config that its tasks depend on."""
_WHOLE = ("target", "judge", "stego")  # stages before any cut, with seeds of their own


def planned(members: Sequence[Member], output: Path) -> list[str]:
    """What a run of the members would do: stages, tasks, what is there already, and
    the groups of tasks that run the same programs.

    Args:
      members: of `plan.lay_out`.
      output: the folder that they would run in; it need not be there.
    """
    tasks = plan(members)
    done = _done(members, output)
    there = _there(output / "parts")
    status = _progress(tasks, members, done, there.names)
    return [
        _summary(members, tasks),
        f"finished in {output}: {_count(sum(done), 'member')}",
        "",
        *_stages(tasks, members, status),
        *_begun(tasks, status, there),
        "",
        *_groups(tasks, members),
    ]


def standing(
    members: Sequence[Member], titles: Sequence[str], output: Path
) -> list[str]:
    """Which members are done, running, begun, failed or missing; counts first.

    Begun is what nobody runs at the moment, or only together with others: a training of
    it has a checkpoint, its own or a group's.

    Args:
      members: of `plan.lay_out`.
      titles: what tells each from the others; may be empty.
      output: the folder that they run in; it need not be there.

    Returns:
      Lines: of few members each one, of many those that are not done.
    """
    there = _names(output)
    states = [
        state.state_of(output / one.folder)
        if one.folder in there
        else state.State("missing")
        for one in members
    ]
    under_way = _under_way(members, states, output / "parts")
    for k, where in enumerate(states):
        if where.word == "missing" and under_way[k]:
            states[k] = where._replace(word="begun")
    counts = Counter[str](each.word for each in states)
    words = ("done", "running", "begun", "failed", "missing")
    counted = ", ".join(f"{counts[word]:,} {word}" for word in words)
    lines = [f"{_count(len(members), 'member')} in {output}: {counted}"]
    few = len(members) <= _SHOWN
    for word in words if few else words[1:]:
        rows = zip(members, titles, states, under_way, strict=True)
        shown = [_line(*row) for row in rows if row[2].word == word]
        lines += _first(shown, word)
    return lines


def _under_way(
    members: Sequence[Member], states: Sequence[state.State], parts: Path
) -> list[str]:
    """For each member its training that is under way or was stopped, and how far; empty
    where there is none, or the member is done or has failed."""
    there = _there(parts)
    done = [where.word == "done" for where in states]
    status = _progress(plan(members), members, done, there.names)
    begun = {name for name, word in status.items() if word == "begun"}
    steps = {name: ", ".join(there.steps(name)) for name in begun}
    return [
        ", ".join(filter(None, (steps.get(name) for name in one.names.values())))
        if where.word in ("running", "missing")
        else ""
        for one, where in zip(members, states, strict=True)
    ]


def _line(one: Member, title: str, where: state.State, under_way: str) -> str:
    text = f"{where.word:<8} {one.folder}"
    if title:
        text += f"  {title}"
    if where.since:
        text += f"  since {where.since}"
    if under_way:
        text += f"  {under_way}"
    if (failure := where.failure) is not None:
        stage = f"{failure.stage}: " if failure.stage else ""
        text += f"  {stage}{failure.kind}: {failure.error}"
    return text


def _first(lines: Sequence[str], word: str) -> list[str]:
    """The first lines, and how many are left out."""
    left = len(lines) - _SHOWN
    more = [f"and {left:,} more {word}"] if left > 0 else []
    return [*lines[:_SHOWN], *more]


def _names(folder: Path) -> set[str]:
    """What a folder holds; nothing where there is none."""
    return set(os.listdir(folder)) if folder.is_dir() else set()


def _done(members: Sequence[Member], output: Path) -> list[bool]:
    """For each member whether its row is there."""
    there = _names(output)
    return [
        one.folder in there and state.has_row(output / one.folder) for one in members
    ]


class _There(NamedTuple):
    """What lies in the folder of trained parts."""

    folder: Path
    names: set[str]  # of parts
    groups: Mapping[str, Mapping[str, stacks.Stack]]
    """Part -> training -> the furthest group that it is trained in."""

    def steps(self, part: str) -> list[str]:
        """How far each training of a part is that has a checkpoint, its own or a
        group's: `target at step 500`."""
        alone, groups = self.folder / part, self.groups.get(part, {})
        lines = []
        for name in sorted({*_names(alone), "", *groups}):
            step = 0 if stacks.is_step(name) else stacks.latest(alone / name)
            group = groups.get(name)
            title = name or part
            if group is not None and group.step > step:
                count = len(group.members)
                lines.append(f"{title} at step {group.step:,} ({count:,} in step)")
            elif step:
                lines.append(f"{title} at step {step:,}")
        return lines


def _there(folder: Path) -> _There:
    groups: dict[str, dict[str, stacks.Stack]] = {}
    for stack in stacks.listed(folder / stacks.TOGETHER):
        for member in stack.members if stack.step else ():
            part, _, training = member.partition("/")
            known = groups.setdefault(part, {}).setdefault(training, stack)
            if known.step < stack.step:
                groups[part][training] = stack
    names = _names(folder) - {stacks.TOGETHER}
    return _There(folder=folder, names={*names, *groups}, groups=groups)


def _progress(
    tasks: Sequence[Task],
    members: Sequence[Member],
    done: Sequence[bool],
    there: Collection[str],
) -> dict[str, str]:
    """Name of a task -> "finished", "begun" or "to do"; `there` are those of which
    anything is there.

    How long a training is its factory knows, and that needs jax; but a stage begins
    when those that it needs have ended, and a row comes last.
    """
    wanted, passed = set[str](), set[str]()  # behind these something has begun
    for one, is_done in zip(members, done, strict=True):
        (passed if is_done else wanted).update(one.names.values())
    status = {}
    for task in reversed(tasks):
        if task.name in there or task.name in passed:
            passed.update(task.needs)
        if task.name not in wanted or (task.name in there and task.name in passed):
            status[task.name] = "finished"
        else:
            status[task.name] = "begun" if task.name in there else "to do"
    return status


def _summary(members: Sequence[Member], tasks: Iterable[Task]) -> str:
    """12 members: 1 target, 4 ghost trainings, 4 inverse trainings."""
    counts: Counter[tuple[str, str]] = Counter()
    for task in tasks:
        if task.stage in ("target", "judge"):
            counts["", task.stage] += 1
        elif task.stage in LEARNED:
            config = members[task.member].config
            record = getattr(config, task.stage)
            noun = "training" if isinstance(record, Trained) else task.stage
            counts[f"{record.name} ", noun] += 1
    shared = (_count(n, noun, before) for (before, noun), n in counts.items())
    return f"{_count(len(members), 'member')}: {', '.join(shared)}"


def _count(number: int, noun: str, before: str = "") -> str:
    return f"{number:,} {before}{noun}{'' if number == 1 else 's'}"


class _Kind(NamedTuple):
    """Tasks that stand in one line of the table of stages."""

    stage: str
    name: str


def _kind(task: Task, members: Sequence[Member]) -> _Kind:
    """The stage and what it is of: `attack`, `rmle + cda`."""
    config = members[task.member].config
    attack = config.attack.name
    if config.attack.needs and config.denoise.needs:
        attack = f"{attack} + {config.denoise.name}"
    name = {
        "target": config.target.network,
        "judge": config.data.name,
        "stego": config.stego.name,
        "defense": config.defense.name,
        "measure": config.defense.name,
        "attack": attack,
        "invert": attack,
    }
    return _Kind(task.stage, name.get(task.stage, ""))


def _stages(
    tasks: Sequence[Task], members: Sequence[Member], status: Mapping[str, str]
) -> list[str]:
    """A table: how many tasks each stage has, and how many of them are there."""
    counts: dict[_Kind, Counter[str]] = {}
    for task in tasks:
        count = counts.setdefault(_kind(task, members), Counter())
        count[status[task.name]] += 1
    words = ("finished", "begun", "to do")
    lines: list[tuple[str, ...]] = [("stage", "of", "tasks", *words)]
    for kind in sorted(counts, key=lambda kind: STAGES.index(kind.stage)):
        numbers = counts[kind].total(), *(counts[kind][word] for word in words)
        lines.append((*kind, *(f"{number:,}" for number in numbers)))
    return _aligned(lines)


def _begun(
    tasks: Iterable[Task],
    status: Mapping[str, str],
    there: _There,
) -> list[str]:
    """What is trained in part, and how far: the trainings with their newest
    checkpoint, which may be their last."""
    lines = []
    for task in tasks:
        if status[task.name] == "begun":
            steps = ", ".join(there.steps(task.name)) or "no checkpoint yet"
            lines.append(f"begun: parts/{task.name}  {steps}")
    return _first(lines, "begun")


def _groups(tasks: Sequence[Task], members: Sequence[Member]) -> list[str]:
    """A line a group: what is static of it, and what varies in it."""
    kinds: dict[_Kind, list[list[Task]]] = {}
    for (stage, _), some in groups(tasks).items():
        if stage in _READS:  # a row is written, and has no program
            kinds.setdefault(_kind(some[0], members), []).append(some)
    count = sum(map(len, kinds.values()))
    lines = []
    for kind in sorted(kinds, key=lambda kind: STAGES.index(kind.stage)):
        apart = _apart(kinds[kind], members)
        for some, words in zip(kinds[kind], apart, strict=True):
            varying = _varying(some, members)
            fixed = ", ".join([*_place(some[0], members), *words])
            lines.append((*kind, fixed, f"{len(some):,}", varying))
            if len(lines) == _GROUPS:  # the others are but counted
                return _titled(lines, count)
    return _titled(lines, count)


def _titled(lines: Sequence[tuple[str, ...]], count: int) -> list[str]:
    title = f"{_count(count, 'group')} of tasks that run the same programs"
    head = ("stage", "of", "static", "tasks", "varies")
    more = [f"and {count - len(lines):,} more groups"] if count > len(lines) else []
    return [title, *_aligned([head, *lines]), *more]


def _place(task: Task, members: Sequence[Member]) -> list[str]:
    """Where the network of a group is cut, where it is."""
    config = members[task.member].config
    if task.stage in _WHOLE:
        return []
    return [config.target.network, config.defense.cut]


def _apart(
    some: Sequence[Sequence[Task]], members: Sequence[Member]
) -> list[list[str]]:
    """For each of several groups of one stage the static keys that tell it from the
    others."""
    halves = [_static(group[0], members) for group in some]
    keys = list(dict.fromkeys(key for half in halves for key in half))
    inner = [
        key
        for key in keys
        if key.split(".")[0] in FAMILIES and not key.endswith(".name")
    ]
    hidden = "target.network", "defense.cut"  # every group says them
    telling = [
        key
        for key in grid.differing(halves, keys, inner)
        if key not in hidden and len({half[key] for half in halves if key in half}) > 1
    ]
    words = [[f"{k} {half[k]}" for k in telling if k in half] for half in halves]
    return [[*some[:_TELLING], *(["…"] if some[_TELLING:] else [])] for some in words]


def _static(task: Task, members: Sequence[Member]) -> dict[str, str]:
    """Dotted key -> value, of what is static in a task's group; behind its own stage a
    target is shared, hence all of it."""
    one = members[task.member]
    values = {"data": one.dataset.name}
    for section in _sections(task.stage, one):
        record = getattr(one.config, section)
        whole = section == "target" and task.stage != "target"
        leaves = _leaves(record if whole else static_half(record), section)
        values |= {key: _text(value) for key, value in leaves if value is not TRACED}
    return values


def _sections(stage: str, one: Member) -> list[str]:
    hides = one.config.defense.hides
    return [name for name in _READS[stage] if name != "stego" or hides]


def _varying(some: Sequence[Task], members: Sequence[Member]) -> str:
    """The keys with several values among a group's tasks, and their values."""
    joined = [members[task.member] for task in some]
    stage, hides = some[0].stage, joined[0].config.defense.hides
    values: dict[str, list[Any]] = {}
    if stage not in _WHOLE:
        values["seed"] = [one.config.seed for one in joined]
    for section in _sections(stage, joined[0]):
        for record in dict.fromkeys(getattr(one.config, section) for one in joined):
            for key, value in _leaves(record, section):
                values.setdefault(key, []).append(value)
    texts = [
        f"{key} {_values(distinct)}"
        for key, distinct in ((k, list(dict.fromkeys(v))) for k, v in values.items())
        if len(distinct) > 1
    ]
    if stage in ("measure", "invert") or (stage == "defense" and hides):
        draws = len({one.partition.sensitive for one in joined})
        texts += [f"sensitive labels ({draws:,} draws)"] if draws > 1 else []
    return ", ".join(texts)


def _leaves(record: Record, above: str) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of all fields that are not records themselves."""
    for field in fields(record):
        key, value = f"{above}.{field.name}", getattr(record, field.name)
        if isinstance(value, Record):
            yield from _leaves(value, key)
        else:
            yield key, value


def _values(distinct: Sequence[Any]) -> str:
    """Few values, or how many there are and, of numbers, their range."""
    if len(distinct) <= _LISTED:
        return " ".join(map(_text, distinct))
    if all(isinstance(value, int | float) for value in distinct):
        least, most = _text(min(distinct)), _text(max(distinct))
        return f"{least} to {most} ({len(distinct):,} values)"
    return f"({len(distinct):,} values)"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if value is ON:
        return "on"
    return str(value) or "''"


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns as wide as they are; counts stand to the right."""
    columns = list(zip(*lines, strict=True))
    cells = []
    for column in columns:
        width = max(map(len, column))
        numbers = all(cell.replace(",", "").isdigit() for cell in column[1:])
        turn = str.rjust if numbers and len(column) > 1 else str.ljust
        cells.append([turn(cell, width) for cell in column])
    return ["  ".join(row).rstrip() for row in zip(*cells, strict=True)]
