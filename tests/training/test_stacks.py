"""Which stacked checkpoints there are, and which nobody needs any more. No jax."""

import pytest

from ghostjax.training import stacks


def group(folder, members, *steps):
    """A group of trainings `a/x`, `b/x`, ... with checkpoints."""
    names = stacks.names(folder / "together", [folder / name / "x" for name in members])
    place = stacks.place(folder / "together", names)
    stacks.begin(place, names)
    for step in steps:
        (place / str(step)).mkdir()
    (place / "60.writing").mkdir()
    return place


def end(folder, members):
    for name in members:
        (folder / name / "x" / "100").mkdir(parents=True)


def left(folder):
    stacks.tidy(folder / "together")
    return {x.folder for x in stacks.listed(folder / "together")}


def test_the_furthest_group_that_has_all_members_is_gone_on_from(tmp_path):
    group(tmp_path, "abcd", 20, 40)
    ahead = group(tmp_path, "abc", 30, 50)
    group(tmp_path, "ab")
    for members in ("ab", "cb", "abc"):
        names = [f"{name}/x" for name in members]
        stack = stacks.furthest(tmp_path / "together", names)
        assert stack == (ahead, ["a/x", "b/x", "c/x"], 50)
    assert stacks.furthest(tmp_path / "together", ["d/x"]).step == 40
    assert stacks.furthest(tmp_path / "together", ["e/x"]) is None
    assert stacks.furthest(tmp_path / "none", ["a/x"]) is None


def test_a_group_is_taken_away_once_all_its_members_are_elsewhere(tmp_path):
    old = group(tmp_path, "abcd", 40)
    two = group(tmp_path, "ab", 60)
    assert left(tmp_path) == {old, two}, "c and d would begin anew"
    end(tmp_path, "ab")
    assert left(tmp_path) == {old}
    others = group(tmp_path, "cd")
    assert left(tmp_path) == {old, others}, "it has no checkpoint yet"
    (others / "40").mkdir()
    assert left(tmp_path) == {old, others}, "it is no further"
    (others / "60").mkdir()
    assert left(tmp_path) == {others}
    end(tmp_path, "c")
    assert left(tmp_path) == {others}
    stacks.tidy(tmp_path / "together", ended=["d/x"])
    assert not left(tmp_path) and not others.exists()


def test_two_groups_are_no_substitute_for_one(tmp_path):
    """All members could go on from it in one group."""
    groups = {group(tmp_path, "abcd", 40)}
    groups |= {group(tmp_path, "ab", 60), group(tmp_path, "cd", 60)}
    assert left(tmp_path) == groups


@pytest.mark.parametrize("content", [b"{", b"3", b"[3]", b'["a/x"]', b"\xff", None])
def test_a_damaged_list_of_members_blocks_nobody(tmp_path, content):
    """Those members go on all the same: the group's name is a digest of theirs."""
    damaged, other = group(tmp_path, "ab", 20), group(tmp_path, "cd", 20)
    list_of_members = damaged / "members.json"
    list_of_members.write_bytes(content or b"[" * 100_000)
    together = tmp_path / "together"
    assert [stack.folder for stack in stacks.listed(together)] == [other]
    assert stacks.furthest(together, ["a/x", "b/x"]) == (damaged, ["a/x", "b/x"], 20)
    assert stacks.furthest(together, ["a/x"]) is None
    stacks.tidy(together)
    assert stacks.latest(damaged) == 20


def test_only_a_number_as_it_is_written_is_a_step(tmp_path):
    for name in ("\u00b2", "\u0663", "010", "1e3", "-3", "+4", " 5", "60.writing", "7"):
        (tmp_path / name).mkdir()
    assert stacks.steps(tmp_path) == [7]
