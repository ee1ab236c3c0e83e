"""Who looks at pictures, and the columns that come of it."""

import numpy as np
import pytest

from ghostjax.base import Cut
from ghostjax.evaluation import columns as documented
from ghostjax.evaluation import views
from ghostjax.evaluation.judge import Seen
from ghostjax.models import chain
from ghostjax.models.layers import Dense
from ghostjax.toy import task

LABELS = np.array([3, 1, 3, 3])
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 1), np.uint8)
SHOWN = np.float32(IMAGES[:4]) / 255
NETWORK = (("fc1", Dense(4)),)
VARIABLES = task(Cut(NETWORK, (), (12, 12, 1))).edge_variables


def bright(images):
    """Logits of 4 classes, by the first pixel; features are the first two."""
    first = np.asarray(images, np.float32)[:, 0, 0, 0]
    first = first / 255 if np.asarray(images).dtype == np.uint8 else first
    logits = np.stack([0.2 + 0 * first, first, 1 - first, 2 * first - 0.5], 1)
    return Seen(logits, np.asarray(images, np.float32)[:, 0, :2, 0])


def onlookers(**changes):
    lineup = views.Lineup(IMAGES, np.arange(4), bright(IMAGES).features)
    plain = views.Onlookers(lambda x: bright(x).logits, bright, (1, 3), lineup)
    return plain._replace(**changes)


def test_pictures_that_are_the_secrets_are_found_and_read_as_a_network_does():
    row = views.columns({"reconstruction": SHOWN, "cover": SHOWN}, LABELS, onlookers())
    for by in ("ssim", "judge"):
        assert row[f"reidentified_reconstruction_{by}"] == 100
        assert row[f"reidentified_reconstruction_{by}_clear"] == 4
    logits = bright(SHOWN).logits
    read = 100 * (logits.argmax(1) == LABELS).mean()
    known = 100 * (np.where(logits[:, 3] > logits[:, 1], 3, 1) == LABELS).mean()
    for by in ("target", "judge"):
        assert row[f"recognised_reconstruction_{by}"] == read
        assert row[f"recognised_reconstruction_{by}_known"] == known
        assert row[f"recognised_reconstruction_{by}_n"] == 4
    assert row["recognised"] == max(read, known) and row["reidentified"] == 100
    assert (row["recognised_chance"], row["candidates"]) == (75, 6)
    assert not any("cover" in name for name in row)
    assert all(documented.find(name) is not None for name in row)


def test_a_network_is_shown_pictures_as_they_are():
    logits = views.looker(NETWORK, VARIABLES)(SHOWN)
    wanted = chain.apply(NETWORK, VARIABLES, SHOWN)
    np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-6)
    beyond = views.looker(NETWORK, VARIABLES)(2 * SHOWN)
    np.testing.assert_allclose(
        beyond, chain.apply(NETWORK, VARIABLES, np.minimum(2 * SHOWN, 1)), atol=1e-5
    )


def test_the_largest_of_all_pictures_is_the_rows():
    noise = np.random.default_rng(9).random(SHOWN.shape, np.float32)
    row = views.columns(
        {"reconstruction": noise, "extracted": SHOWN}, LABELS, onlookers()
    )
    assert row["reidentified"] == row["reidentified_extracted_ssim"] == 100
    assert row["reidentified_reconstruction_ssim"] < 100


def test_what_only_the_target_reads_is_not_the_rows():
    """A generator makes a network answer what it wants, whatever people see."""
    row = views.columns(
        {"reconstruction": SHOWN}, LABELS, onlookers(target=lambda x: np.eye(4)[LABELS])
    )
    assert row["recognised_reconstruction_target"] == 100
    judged = [row[f"recognised_reconstruction_judge{x}"] for x in ("", "_known")]
    assert row["recognised"] == max(judged) < 100
    alone = onlookers(target=lambda x: np.eye(4)[LABELS], judge=None)
    assert views.columns({"reconstruction": SHOWN}, LABELS, alone)["recognised"] == 100


def test_what_is_no_number_is_not_recognised_and_hides_no_other_picture():
    spoilt = SHOWN.copy()
    spoilt[2, 5, 5] = np.nan
    look = views.looker(NETWORK, VARIABLES)
    logits = look(spoilt)
    assert np.isnan(logits[2]).all() and np.isfinite(logits[[0, 1, 3]]).all()
    np.testing.assert_allclose(look(SHOWN)[[0, 1, 3]], logits[[0, 1, 3]], rtol=1e-5)
    row = views.columns({"reconstruction": spoilt}, LABELS, onlookers(target=look))
    assert row["reidentified_reconstruction_ssim"] == 75


@pytest.mark.parametrize(
    "changes, missing",
    [
        ({"judge": None}, "_judge"),
        ({"lineup": None}, "reidentified"),
        ({"lineup": None}, "candidates"),
        ({"among": (0, 1, 2, 3)}, "_known"),
    ],
)
def test_who_does_not_look_has_no_column(changes, missing):
    row = views.columns({"reconstruction": SHOWN}, LABELS, onlookers(**changes))
    assert not any(missing in name for name in row)
    assert any(
        missing in name
        for name in views.columns({"reconstruction": SHOWN}, LABELS, onlookers())
    )
    assert row["recognised_reconstruction_target_n"] == 4
