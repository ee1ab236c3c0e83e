"""One experiment, from a config to a result row: the story of `ghostjax run`.

data on the host -> target network (cached, or trained) -> stego -> defense.fit ->
utility: accuracies with their controls -> the attacker gets exactly the features and
what his attack declares -> reconstructions against secret, cover and stego -> one row,
arrays for pictures, metrics. Everything that can be refused is refused in `prepare`,
before a file is written.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from rich.console import Console

from ghostjax import attacker, hiding, leakage, parts, results, utility, zoo
from ghostjax import chain as chains
from ghostjax.attacks import build_attack, build_probe
from ghostjax.attacks.probe import Probe
from ghostjax.base import Attack, Defense, Stego, Task
from ghostjax.chain import Chain, Variables
from ghostjax.classifier import LabelledImages, fit_classifier
from ghostjax.config import check, content_hash, to_toml
from ghostjax.data import Dataset, Partition, Split, fingerprint, load, partition, roles
from ghostjax.defenses import build_defense
from ghostjax.defenses.plain import plain
from ghostjax.sections import Config
from ghostjax.stego import build_stego
from ghostjax.train import Recipe

_FORMAT = 1  # raise it when a change of code makes cached parts wrong


class Plan(NamedTuple):
    """A config with everything looked up and checked; nothing trained."""

    config: Config
    dataset: Dataset
    partition: Partition
    network: Chain
    edge: Chain
    cloud: Chain
    stego: Stego
    defense: Defense
    attack: Attack | None
    probe: Probe | None  # of the secrets' labels
    public: Split  # the attacker's own images
    recipe: Recipe  # of the target


def run(
    config: Config, output: Path, console: Console, kept: dict[str, Any] | None = None
) -> Path:
    """Runs an experiment, or continues it, or finds it finished.

    Args:
      config: what to do.
      output: folder of run folders; trained parts are shared in `output/parts`.
      console: progress goes there.
      kept: give several runs of one process the same dict, at first empty, and they
        share the data, the target and its accuracy where those are the same.

    Returns:
      The run folder: config.toml, environment.json, metrics.jsonl, arrays.npz,
      row.parquet, row.csv.

    Raises:
      ValueError: anything in the config that cannot be done, before a file is written.
      train.NonFiniteLoss: training diverged; the last good checkpoint is kept.
    """
    plan = prepare(config, kept)
    folder = output / f"{config.name}-{run_hash(plan)[:8]}"
    with parts.lock(folder, wait=False, console=console):
        if (folder / "row.parquet").exists():
            console.print(f"already finished: {folder}", highlight=False)
            return folder
        (folder / "config.toml").write_text(to_toml(config))
        _execute(plan, folder, output / "parts", console, kept)
    return folder


def run_hash(plan: Plan) -> str:
    """Names the run by its config and data; what changes no result does not count."""
    idle = ("name", "device")
    content = {k: value for k, value in vars(plan.config).items() if k not in idle}
    ordered = (content[key] for key in sorted(content))
    return content_hash(_FORMAT, fingerprint(plan.dataset), *ordered)


def prepare(config: Config, kept: dict[str, Any] | None = None) -> Plan:
    """Looks everything up and refuses what cannot work.

    Args:
      config: what to do.
      kept: see `run`.

    Raises:
      ValueError: unknown data set, network or layer; data not prepared; a partition
        without public or sensitive labels; shapes that do not fit; batches larger than
        the data.
    """
    check(config)
    network = zoo.network(config.target.network)
    dataset = parts.once(kept, "data", config.data.name, lambda: load(config.data.name))
    classes = len(dataset.class_names)
    shape = dataset.train.images.shape[1:]
    if shape != network.image_shape:
        raise ValueError(
            f"network {config.target.network!r} takes images {network.image_shape} and "
            f"data set {config.data.name!r} has {shape}: choose another of the two"
        )
    layers = network.build(classes)
    edge, cloud = chains.cut(layers, config.defense.cut)
    named = config.data.sensitive_labels or None
    labels = partition(classes, config.data.gamma, seed=config.seed, sensitive=named)
    count = len(dataset.train.labels)
    stego = build_stego(config.stego, shape, count)
    _require_batch("target.batch_size", config.target.batch_size, count)
    if config.defense.name == "ghost":
        _require_batch("defense.batch_size", config.defense.batch_size, count)
    defense = build_defense(config.defense, edge, cloud, shape, stego)
    attacker.require_rows(config.attacker, len(dataset.test.labels), defense.hides)
    public = attacker.public_images(config.attacker, dataset, config.seed)
    steps = -(-config.target.epochs * count // config.target.batch_size)
    recipe = Recipe(steps, config.target.optimizer, config.target.schedule)
    return Plan(
        config,
        dataset,
        labels,
        layers,
        edge,
        cloud,
        stego,
        defense,
        build_attack(config, edge, cloud, shape, len(public.labels)),
        build_probe(config, edge, shape, classes, len(public.labels)),
        public,
        recipe,
    )


def _execute(
    plan: Plan,
    folder: Path,
    shared: Path,
    console: Console,
    kept: dict[str, Any] | None,
) -> None:
    began, config = time.time(), plan.config
    digest = content_hash(_FORMAT, fingerprint(plan.dataset), config.target)
    target_folder = shared / f"target-{digest}"
    target = parts.once(
        kept, "target", target_folder, lambda: _target(plan, target_folder, console)
    )
    learned, stego_metrics, stego_folder = _stego(plan, target, shared, console)
    task, pairs = _task(plan, target, learned), _test_pairs(plan)

    split = (plan.partition.sensitive, config.stego) if plan.defense.hides else ()
    own = *split, config.defense, config.seed  # no split: of all labels alike
    defense_folder = shared / f"{config.defense.name}-{content_hash(digest, *own)}"
    key = jax.random.key(config.seed)
    defense_key, measure_key, attack_key = jax.random.split(key, 3)
    train = parts.trainer(defense_folder, config.defense.name, console)
    params, defense_metrics = plan.defense.fit(defense_key, task, train)

    measured = _measurer(plan, measure_key, pairs, kept)
    bare = plain(plan.edge, plan.cloud)
    undefended = measured(
        "undefended", target_folder, bare, bare.fit(key, task, None)[0]
    )
    row = _settings(plan) | undefended
    if config.defense.name != "plain":
        row |= measured("defended", defense_folder, plan.defense, params)
    for name in (x + n for x in ("all", "public", "secret") for n in ("", "_n")):
        row[f"target_accuracy_{name}"] = undefended[f"accuracy_{name}"]
    row |= plan.defense.columns(params) if plan.defense.columns else {}
    found = leakage.Leakage({}, {}, {})
    if plan.defense.hides:
        row |= (hidden := _hiding(plan, learned, params, pairs)).row
        found = found._replace(arrays=hidden.arrays)
    if plan.attack is not None:
        own = plan.attack.needs, target_folder.name, defense_folder.name
        attack_folder = shared / attacker.part_name(config, plan.defense, *own)
        found = _attack(plan, task, params, attack_key, pairs, attack_folder, console)
    row |= found.row
    spent = {"target": target_folder, "stego": stego_folder, "defense": defense_folder}
    row |= {f"seconds_{name}": parts.seconds(own) for name, own in spent.items()}
    row["seconds_total"] = time.time() - began
    metrics = {"target": target.metrics, config.stego.name: stego_metrics}
    metrics |= {config.defense.name: defense_metrics, **found.metrics}
    about = {"data": plan.dataset.source, "seed": config.seed}
    results.write(folder, row, metrics, found.arrays, about, began)


class _Target(NamedTuple):
    """A trained target network and what it was trained on."""

    variables: Variables
    data: LabelledImages
    metrics: Any


def _target(plan: Plan, folder: Path, console: Console) -> _Target:
    train, settings = plan.dataset.train, plan.config.target
    data = LabelledImages(jnp.asarray(train.images), jnp.asarray(train.labels))
    variables, metrics = fit_classifier(
        jax.random.key(settings.seed),
        plan.network,
        data,
        recipe=plan.recipe,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        train=parts.trainer(folder, "target", console),
    )
    return _Target(variables, data, metrics)


def _stego(
    plan: Plan, target: _Target, shared: Path, console: Console
) -> tuple[Any, Any, Path]:
    """What the stego method learned, its metrics, and where it is kept.

    It learns on all training images, so every partition shares it; it is refused where
    it has learned to hide nothing.
    """
    section = plan.config.stego
    digest = content_hash(_FORMAT, fingerprint(plan.dataset), section)
    folder = shared / f"{section.name}-{digest}"
    if not plan.defense.hides:
        return (), {}, folder
    key = jax.random.key(getattr(section, "seed", 0))
    train = parts.trainer(folder, section.name, console)
    learned, metrics = plan.stego.fit(key, target.data.images, train)
    hiding.require_hidden(plan.stego, learned, plan.dataset.train)
    return learned, metrics, folder


def _hiding(
    plan: Plan, learned: Any, params: Any, pairs: utility.Pairs
) -> hiding.Hiding:
    own = plan.stego, learned, plan.defense, params
    bits = getattr(plan.config.stego, "bits", 0)
    return hiding.measure(*own, plan.dataset.test, pairs, plan.dataset.train, bits)


def _task(plan: Plan, target: _Target, stego: Any) -> Task:
    """The task for the defense, around the trained target."""
    halves = (chains.select(x, target.variables) for x in (plan.edge, plan.cloud))
    role = roles(plan.dataset.train.labels, plan.partition)
    covers, secrets = jnp.asarray(role.covers), jnp.asarray(role.secrets)
    return Task(*halves, *target.data, covers, secrets, stego)


def _attack(
    plan: Plan,
    task: Task,
    params: Any,
    key: jax.Array,
    pairs: utility.Pairs,
    folder: Path,
    console: Console,
) -> leakage.Leakage:
    """Attacks; what the attacker trains goes to `folder`."""
    config = plan.config
    wanted = len(config.attacker.rows) or config.attacker.images
    console.print(f"{config.attack.name}  {wanted} images")
    own = plan.public, plan.attack.needs
    return leakage.measure(
        plan.attack,
        attacker.knowledge(task, plan.stego, plan.defense, params, *own),
        plan.defense,
        params,
        key,
        attacker.targets(config.attacker, plan.dataset.test, pairs),
        plan.dataset.train,
        train=parts.trainer(folder, config.attack.name, console),
        stego=plan.stego if plan.defense.hides else None,
        bits=getattr(config.stego, "bits", 0),
        queries=config.attacker.queries,
        known_zeros=getattr(config.attack, "known_zeros", False),
        reads_secrets=config.attack.name == "direct",
        denoised=config.denoise.name != "none",
        probe=plan.probe,
        say=lambda line: console.print(line, highlight=False),
    )


def _measurer(
    plan: Plan, key: jax.Array, pairs: utility.Pairs, kept: dict[str, Any] | None
) -> Callable[..., dict[str, float]]:
    """How well a defense answers, by `measured(kind, folder, defense, params)`.

    The folder names what was trained: runs that share it are measured once, and on
    clean images once for all partitions.
    """
    test, seed = plan.dataset.test, plan.config.seed
    images = test.images, test.labels, pairs, plan.partition

    def measured(kind, folder, defense, params):
        own, same = (defense, params, key), (folder, seed)

        def clean():
            return utility.clean_answers(*own, test.images)

        def whole():
            answers = parts.once(kept, f"{kind} clean", same, clean)
            return utility.measure(*own, *images, seed, answers)

        return parts.once(kept, kind, (*same, plan.partition), whole)

    return measured


def _test_pairs(plan: Plan) -> utility.Pairs:
    test = plan.dataset.test
    own = plan.config.seed, test.images, test.labels, plan.partition
    candidates = getattr(plan.config.defense, "cover_candidates", 1)
    return utility.test_pairs(*own, candidates)


def _settings(plan: Plan) -> dict[str, Any]:
    config, hides = plan.config, plan.defense.hides
    layers = chains.describe(plan.network, plan.dataset.train.images.shape[1:])
    return {
        "name": config.name,
        "hash": run_hash(plan),
        "data": config.data.name,
        "network": config.target.network,
        "cut": config.defense.cut,
        "edge_layers": len(plan.edge),
        "defense": config.defense.name,
        "stego": config.stego.name if hides else "",
        "bits": getattr(config.stego, "bits", 0) if hides else 0,
        "gamma": config.data.gamma,
        "sensitive_labels": " ".join(map(str, plan.partition.sensitive)),
        "public_labels": " ".join(map(str, plan.partition.public)),
        "seed": config.seed,
        "attack": config.attack.name,
        "denoise": config.denoise.name if config.attack.name != "none" else "",
        "target_parameters": sum(layer.parameters for layer in layers),
        **results.config_columns(config),
    }


def _require_batch(key: str, size: int, count: int) -> None:
    if size > count:
        raise ValueError(f"{key} = {size}: the train split has only {count} images")
