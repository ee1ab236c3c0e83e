"""What a result row says in words: verdict, cautions, summary. Imports no jax.

The columns are those of `tables`; any may be missing, and then nothing is said of it.
"""

from collections.abc import Mapping

from ghostjax.evaluation.rows import Row, above, count, number
from ghostjax.report import leaked
from ghostjax.report.leaked import ATTACKED
from ghostjax.report.tables import NONE, cell

__all__ = [
    "CALLED_SENSITIVE",
    "PUBLIC_LOSS",
    "RESEMBLES",
    "cautions",
    "subject",
    "summary",
    "verdict",
]

PUBLIC_LOSS = 1.0  # points of public accuracy that hiding may cost
CALLED_SENSITIVE = 1.0  # percent of clean covers that may be called sensitive
RESEMBLES = 0.5  # mean SSIM from which the attacker's pictures show the secret


def subject(row: Row) -> str:
    """What was run, in one line."""
    stego = row.get("stego") if _hidden(row) else None
    if stego and row.get("bits"):
        stego = f"{stego} ζ = {row['bits']}"
    settings = {
        "data": row.get("data"), "network": row.get("network"),
        "cut": row.get("cut"), "defense": row.get("defense"), "stego": stego,
        "γ": row.get("gamma"), "attack": row.get("attack"), "seed": row.get("seed"),
    }  # fmt: skip
    return " · ".join(f"{k} {v}" for k, v in settings.items() if v not in (None, ""))


def verdict(row: Row) -> str:
    """The result in one plain sentence, of the numbers that are there."""
    parts = []
    secret, public = number(row, "accuracy_secret"), number(row, "accuracy_public")
    if secret is not None:
        kind = "hidden" if _hidden(row) else "sensitive, unhidden"
        part = f"The cloud answers {secret:.1f} % of {kind} images right"
        constant = number(row, "control_constant_answer")
        if constant is not None:
            part += f" (a constant answer would get {constant:.1f} %)"
        parts.append(part)
    if public is not None:
        part = f"public accuracy is {public:.1f} %"
        target = number(row, "target_accuracy_public")
        if target is not None:
            part += f" (target {target:.1f} %)"
        parts.append(part)
    sentence = "; ".join(filter(None, [", ".join(parts), leaked.said(row)]))
    if not sentence:
        return "This row holds neither accuracies nor an attack."
    return f"{_sentence(sentence)}."


def _sentence(clause: str) -> str:
    return clause[0].upper() + clause[1:]


def cautions(row: Row) -> list[str]:
    """What the numbers do not support, one sentence each; empty where all is well."""
    said = []
    secret = number(row, "accuracy_secret")
    constant = number(row, "control_constant_answer")
    single = constant is not None and constant > 99.99
    if single:
        said.append(
            "All secrets have one label, so a constant answer scores 100 %: their "
            "accuracy alone proves nothing; see the covers called sensitive."
        )
    elif not above(row, "control_constant_answer"):
        said.append(
            "The cloud has learnt nothing about the secret beyond a constant answer: "
            f"{secret:.2f} % against {constant:.2f} %."
        )
    if not single and not above(row, "control_shuffled_secret"):
        said.append(
            f"With shuffled secrets the cloud scores "
            f"{row['control_shuffled_secret']:.2f} %, close to its {secret:.2f} %: the "
            "answer hardly depends on the secret."
        )
    if not above(row, "control_cover_only"):
        said.append(
            f"The cover alone scores {row['control_cover_only']:.2f} %, close to "
            f"{secret:.2f} %: the cloud answers without any secret."
        )
    return said + _other_cautions(row)


def summary(row: Row) -> list[tuple[str, str]]:
    """The few lines, (label, text), that the command line prints after a run."""
    controls = {
        "constant answer": "control_constant_answer",
        "shuffled": "control_shuffled_secret",
        "cover only": "control_cover_only",
    }
    lines = [
        ("secret accuracy", _accuracy(row, "accuracy_secret", controls)),
        (
            "public accuracy",
            _accuracy(row, "accuracy_public", {"target": "target_accuracy_public"}),
        ),
        ("stego vs cover", _quality(row, "cover_stego")),
        ("perturbed vs cover", _quality(row, "cover_perturbed")),
        ("revealed vs secret", _quality(row, "revealed_secret")),
        ("attack vs secret", _quality(row, "reconstruction_secret")),
        ("attack vs cover", _quality(row, "reconstruction_cover")),
        ("extracted vs secret", _quality(row, "extracted_secret")),
        ("before denoising", _quality(row, "extracted_before_secret")),
        ("attacker reads", leaked.recognised(row)),
        ("attacker finds", leaked.reidentified(row)),
        ("time", cell("seconds_total", row.get("seconds_total"))),
    ]
    lines += [("caution", words) for words in cautions(row)]
    return [(name, words) for name, words in lines if words not in ("", NONE)]


def _hidden(row: Row) -> bool:
    return bool(row.get("stego", True))


def _other_cautions(row: Row) -> list[str]:
    """Cautions about public accuracy, clean covers and the attacker's pictures, and the
    defense's own."""
    said = []
    public = number(row, "accuracy_public")
    target = number(row, "target_accuracy_public")
    if public is not None and target is not None and target - public > PUBLIC_LOSS:
        said.append(
            f"Public accuracy fell by {target - public:.2f} points, from {target:.2f} "
            f"to {public:.2f} %."
        )
    called = number(row, "covers_called_sensitive") if _hidden(row) else None
    if called is not None and called > CALLED_SENSITIVE:
        said.append(f"{called:.2f} % of clean covers are called sensitive.")
    if row.get("defense_caution"):
        said.append(str(row["defense_caution"]))
    if row.get("mixed_environment"):
        said.append(
            "Training was continued on other processors, versions or settings "
            f"({row['mixed_environment']}): another run need not give the same bits."
        )
    if row.get("judge_caution"):
        said.append(f"No judge looked at the pictures: {row['judge_caution']}.")
    if leaked.astray(row):
        said.append(f"{_sentence(leaked.astray(row))}.")
    elif lost := leaked.diverged(row):
        said.append(
            f"{lost:,} of {count(row, 'diverged'):,} of the attacker's searches "
            "diverged and are in none of its numbers: an attacker would repeat them."
        )
    for name, words in ATTACKED.items():
        likeness = number(row, f"ssim_{name}_secret_mean")
        if likeness is not None and likeness >= RESEMBLES:
            said.append(
                f"The attacker sees the secret: {likeness:.3f} is the mean SSIM of "
                f"{words} against it (we draw the line at {RESEMBLES})."
            )
    return said


def _accuracy(row: Row, key: str, beside: Mapping[str, str]) -> str:
    """`97.13 % of 1,000 (constant answer 25.30 %, ...)`; empty if not in the row."""
    if number(row, key) is None:
        return ""
    images = count(row, key)
    words = cell(key, row[key]) + (f" of {images:,}" if images else "")
    known = [
        f"{n} {cell(k, row[k])}" for n, k in beside.items() if row.get(k) is not None
    ]
    return words + (f" ({', '.join(known)})" if known else "")


def _quality(row: Row, pair: str) -> str:
    """`PSNR 11.21 dB, SSIM 0.310 (100 images, 2 equal)`; empty if not in the row."""
    images, equal = count(row, f"psnr_{pair}"), number(row, f"psnr_{pair}_infinite")
    shown = [
        f"{name.upper()} {cell(f'{name}_', row[f'{name}_{pair}_mean'])}"
        for name in ("psnr", "ssim")
        if number(row, f"{name}_{pair}_mean") is not None
    ]
    if equal and equal == images:
        shown.insert(0, "PSNR ∞")
    if not shown:
        return ""
    known = [f"{images:,} images"] if images else []
    known += [f"{int(equal):,} equal"] if equal else []
    return ", ".join(shown) + (f" ({', '.join(known)})" if known else "")
