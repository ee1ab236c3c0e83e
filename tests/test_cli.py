"""The command line: what it prints, what it imports, what it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest

from ghostjax import cli, config, zoo

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.mark.parametrize(
    "words", [["--help"], ["run", "--help"], ["configs", str(CONFIGS)], ["--version"]]
)
def test_light_commands_import_no_jax(words):
    program = (
        "import sys\n"
        "from ghostjax import cli\n"
        "try: status = cli.main(sys.argv[1:])\n"
        "except SystemExit as stop: status = stop.code\n"
        "heavy = {'jax', 'tensorflow_datasets', 'flax'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_report_imports_no_jax(tmp_path):
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


def test_overrides_reach_the_config():
    base = config.load(CONFIGS / "smoke.toml")
    words = ["--attack.steps", "7", "--data.sensitive-labels", "1", "2", "--seed", "5"]
    changed = cli.override(base, words)
    assert changed.attack.steps == 7 and changed.seed == 5
    assert changed.data.sensitive_labels == (1, 2)
    assert changed.target == base.target


@pytest.mark.parametrize(
    "words", [["--defense.name", "plain"], ["--defense.name=plain"]]
)
def test_an_override_can_change_the_member_of_a_table(words):
    base = config.load(CONFIGS / "smoke.toml")
    changed = cli.override(base, [*words, "--defense.cut", "conv1", "--seed", "1"])
    assert changed.defense == config.Plain(cut="conv1")
    assert changed.seed == 1


def test_another_member_keeps_the_keys_that_both_have():
    base = cli.override(config.load(CONFIGS / "smoke.toml"), ["--defense.cut", "conv2"])
    changed = cli.override(base, ["--defense.name", "plain"])
    assert changed.defense == config.Plain(cut="conv2")
    with pytest.raises(ValueError, match="--defense.name needs a value"):
        cli.override(base, ["--defense.name"])
