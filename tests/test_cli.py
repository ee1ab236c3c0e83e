"""The command line: what it prints, what it imports, what it refuses."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from ghostjax import cli, config
from ghostjax.attacks.records import Inverse
from ghostjax.config import grid
from ghostjax.defenses.records import Plain
from ghostjax.models import zoo

CONFIGS = Path(__file__).parent.parent / "configs"


LIGHT = ["--help", "run --help", f"configs '{CONFIGS}'", "--version"]
LIGHT += [
    f"{words} --output nowhere" for words in ("run digits --dry-run", "status digits")
]


@cache
def after_light_commands():
    """Command -> [its status, what it said, what heavy is imported after it and those
    before it], all of one process."""
    program = """
import contextlib, io, json, shlex, sys
from ghostjax import cli
found = {}
for words in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try: status = cli.main(shlex.split(words))
        except SystemExit as stop: status = stop.code
    heavy = {'jax', 'tensorflow_datasets', 'flax'} & set(sys.modules)
    found[words] = status, said.getvalue(), sorted(heavy)
print(json.dumps(found))
"""
    command = [sys.executable, "-c", program, *LIGHT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("words", LIGHT, ids=lambda words: words.split()[0])
def test_light_commands_import_no_jax(words):
    status, said, heavy = after_light_commands()[words]
    assert status == 0 and said.strip() and not heavy


def test_report_imports_no_jax():
    program = "import sys, ghostjax.report; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_networks_prints_the_papers_cuts(capsys):
    assert cli.main(["networks", "lenet5"]) == 0
    printed = capsys.readouterr().out
    assert "45,278 parameters" in printed
    (line,) = [x for x in printed.splitlines() if x.startswith("pool1 ")]
    assert line.split() == ["pool1", "3", "12x12x8", "0", "0.24", "4,608"]
    assert cli.main(["networks"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in zoo.NETWORKS)


def test_networks_names_the_nearest(capsys):
    assert cli.main(["networks", "cnn66"]) == 2
    assert "did you mean 'cnn6'" in capsys.readouterr().err


def test_doctor_tells_versions_device_and_data(capsys):
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "jax" in printed and "cpu" in printed and "data mnist" in printed


def test_data_list_knows_all(capsys):
    assert cli.main(["data", "list"]) == 0
    printed = capsys.readouterr().out
    for name in ("digits", "mnist", "cifar10", "gtsrb", "svhn_cropped"):
        assert name in printed


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_a_script(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    assert "networks" in capsys.readouterr().out


def overridden(words, name="smoke"):
    """The config of a shipped file with the words laid over it."""
    return config.build(config.override(config.read(CONFIGS / f"{name}.toml"), words))


def test_overrides_reach_the_config():
    words = ["--attack.steps", "7", "--data.sensitive-labels", "1", "2", "--seed", "5"]
    changed = overridden(words)
    assert changed.attack.steps == 7 and changed.seed == 5
    assert changed.data.sensitive_labels == (1, 2)
    assert changed.target == config.load(CONFIGS / "smoke.toml").target


def test_underscores_equals_signs_and_repeated_words():
    words = ["--attack.tv_weight=2", "--attack.box=False", "--seed=1", "--seed", "3"]
    changed = overridden(words)
    assert (changed.attack.tv_weight, changed.attack.box) == (2.0, False)
    assert changed.seed == 3


@pytest.mark.parametrize(
    "words", [["--defense.name", "plain"], ["--defense.name=plain"]]
)
def test_an_override_can_change_the_member_of_a_table(words):
    changed = overridden([*words, "--defense.cut", "conv1", "--seed", "1"])
    assert changed.defense == Plain(cut="conv1")
    assert changed.seed == 1


def test_another_member_keeps_the_keys_that_every_member_has():
    smoke = config.read(CONFIGS / "smoke.toml")
    tree = config.override(smoke, ["--defense.cut", "conv2"])
    changed = config.build(config.override(tree, ["--defense.name", "plain"]))
    assert changed.defense == Plain(cut="conv2")
    with pytest.raises(ValueError, match="--defense.name needs a value"):
        config.override(tree, ["--defense.name"])


def test_another_attack_has_its_own_learning_rate():
    assert overridden(["--attack.name", "inverse"]).attack == Inverse()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--attack.steps", "0"], "attack.steps = 0: must be at least 1"),
        (["--attack.name", "rmel"], "unknown attack.name 'rmel': did you mean 'rmle'"),
        (["--attack.preset", "adan"], "unknown attack.preset 'adan': did you mean"),
        (
            ["--attack.name", "inverse", "--attack.preset", "adam"],
            "unknown [attack] key 'preset'",
        ),
        (
            ["--denoise.name", "cda", "--denoise.pairs", "generator"],
            "denoise.pairs = 'generator': must be 'own' with the defense ghost",
        ),
    ],
)
def test_an_override_that_cannot_be_is_one_line(words, message, capsys):
    assert cli.main(["run", str(CONFIGS / "smoke.toml"), *words]) == 2
    errors = capsys.readouterr().err
    assert f"ghostjax: command line: {message}" in errors
    assert len(errors.strip().splitlines()) == 1


def test_words_that_agree_only_together_are_one_layer():
    repaired = ["--defense.name=ghost_plus", "--denoise.name=cda"]
    tree = config.override({}, [*repaired, "--denoise.pairs=generator"])
    assert config.build(tree).denoise.pairs == "generator"
    words = ["--defense.name", "ghost", "--denoise.pairs", "own"]
    assert config.build(config.override(tree, words)).denoise.pairs == "own"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], ["--attack.name {none,rmle,", "--attack.steps INT", "--stego.bits INT"]),
        (["--attack.name", "direct"], ["--attack.probe-rate FLOAT"]),
        (["--attack.preset", "adam"], ["lowers its objective", "(default: 2000)"]),
    ],
)
def test_help_keys_shows_the_keys_of_the_chosen_members(words, shown, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", str(CONFIGS / "smoke.toml"), *words, "--help-keys"])
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for text in shown:
        assert text in printed
    assert ("--attack.steps" in printed) == ("direct" not in words)


SWEEP = """
name = "grid"
[defense]
name = "noise"
cut = "conv1"
[sweep]
"defense.level" = [0.5, 1.0]
"""


def test_overrides_reach_every_member_of_a_sweep(tmp_path):
    (tmp_path / "grid.toml").write_text(SWEEP)
    changed = config.override_all(
        grid.load(tmp_path / "grid.toml"), ["--seed", "3", "--defense.cut=pool1"]
    )
    assert [x.seed for x in changed.members] == [3, 3]
    assert [x.defense.cut for x in changed.members] == ["pool1", "pool1"]
    assert [x.defense.level for x in changed.members] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--defense.level", "2"], "the config sweeps over defense.level"),
        (["--defense.level=2"], "the config sweeps over defense.level"),
        (["--defense.name", "plain"], "experiments 1 and 2 of the sweep are the same"),
    ],
)
@pytest.mark.parametrize("command", ["run", "partition"])
def test_an_override_cannot_undo_the_sweep(words, message, command, tmp_path, capsys):
    path = tmp_path / "grid.toml"
    path.write_text(SWEEP)
    assert cli.main([command, str(path), "--output", str(tmp_path / "o"), *words]) == 2
    errors = capsys.readouterr().err
    assert message in errors and len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (SWEEP.replace("[0.5, 1.0]", "[]"), "defense.level = []: give a list"),
        (
            SWEEP.replace("level", "levle"),
            "unknown [defense] key 'levle': did you mean",
        ),
        (SWEEP.split('"defense.level"')[0], "sweep = {}: write a table"),
        (f"variants = []{SWEEP}", "variants = []: write [[variants]] tables"),
        (SWEEP.replace('"noise"', '"noise'), "not valid TOML"),
        (None, "cannot read config"),
    ],
    ids=["axis", "key", "sweep", "variants", "toml", "none"],
)
@pytest.mark.parametrize("words", ["run", "run --dry-run", "status"])
def test_a_plan_that_cannot_be_is_one_line(plan, message, words, tmp_path, capsys):
    path, output = tmp_path / "plan.toml", tmp_path / "o"
    if plan is not None:
        path.write_text(plan)
    command, *options = words.split()
    assert cli.main([command, str(path), *options, "--output", str(output)]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("ghostjax: ") and message in errors
    assert len(errors.strip().splitlines()) == 1 and not output.exists()


@pytest.mark.parametrize("words", ["run --dry-run", "status"])
def test_a_plan_of_no_known_name_is_one_line(words, tmp_path, capsys):
    command, *options = words.split()
    output = ["--output", str(tmp_path / "o")]
    assert cli.main([command, "digist", *options, *output]) == 2
    assert "unknown config 'digist': did you mean 'digits'" in capsys.readouterr().err
    assert cli.main([command, "digits", *options, *output, "--data.gamma=1:99"]) == 2
    errors = capsys.readouterr().err
    assert "leaves no sensitive label" in errors and errors.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_dry_run_and_a_status_take_overrides_and_write_nothing(tmp_path, capsys):
    path, output = tmp_path / "grid.toml", tmp_path / "o"
    path.write_text(SWEEP)
    words = ["--output", str(output), "--seed", "3", "--attack.name=inverse"]
    assert cli.main(["run", str(path), "--dry-run", *words]) == 0
    printed = capsys.readouterr().out
    stages = "1 target, 1 judge, 2 noise defenses, 2 inverse trainings"
    assert printed.startswith(f"2 members: {stages}\n")
    assert "defense.level 0.5 1" in printed
    assert cli.main(["status", str(path), *words]) == 0
    printed = capsys.readouterr().out
    assert "0 done, 0 running, 0 begun, 0 failed, 2 missing" in printed
    assert "defense.level 0.5" in printed and not output.exists()


def test_a_dry_run_shows_what_every_member_ends_with(tmp_path, capsys):
    (tmp_path / "base.toml").write_text("[defense]\nsteps = 3\n")
    path = tmp_path / "kid.toml"
    path.write_text(
        'extends = "base.toml"\nname = "kid"\n'
        '[[variants]]\nlabel = "a"\ndefense.name = "ghost"\n'
        '[[variants]]\nlabel = "b"\ndefense.name = "ghost_plus"\n'
        '[[variants]]\nlabel = "c"\nseed = 2\ndefense.weight = 0.5\n'
    )
    words = ["--attack.preset=adam", "--attack.steps", "7", "--output", str(tmp_path)]
    assert cli.main(["run", str(path), "--dry-run", *words]) == 0
    lines = capsys.readouterr().out.splitlines()[-3:]
    ends = [line.split("  ", 1)[1] for line in lines]
    attack = "attack.preset adam, attack.solver gd, attack.steps 7"
    attack += ", attack.tolerance 0.0"
    assert ends == [
        f"defense.steps 3, {attack}",
        f"defense.name ghost_plus, {attack}",
        f"seed 2, defense.weight 0.5, defense.steps 3, {attack}",
    ]
    assert [line.split("-")[1] for line in lines] == ["a", "b", "c"]


def test_partition_takes_a_sweep_over_attacks_only(tmp_path, capsys):
    path = tmp_path / "grid.toml"
    path.write_text(SWEEP)
    assert cli.main(["partition", str(path), "--max-ssim", "0.3"]) == 2
    assert "a sweep over attacks, not over defense.level" in capsys.readouterr().err
    path.write_text(SWEEP.split("[sweep]")[0])
    assert cli.main(["partition", str(path), "--attack.name", "none"]) == 2
    assert "partition needs an attack" in capsys.readouterr().err
