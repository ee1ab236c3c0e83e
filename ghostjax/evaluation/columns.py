"""What the columns of a result row mean, and their units. Imports no jax.

Columns of one family share a line: `psnr_<a>_<b>_mean` stands for every pair of
pictures. What a defense says of itself, its registration or its author documents: label
and unit are in the metadata of row.parquet's fields too, also for a defense that is
named nowhere here.
"""

import re
from typing import NamedTuple

__all__ = ["COLUMNS", "Documented", "find", "listed"]


class Documented(NamedTuple):
    """A column, or a family of them."""

    name: str  # with <parts> in the place of what varies
    unit: str  # empty: a word or a bare number
    meaning: str

    def is_of(self, column: str) -> bool:
        """Whether a column is this one, or one of this family."""
        parts = re.split(r"(<\w+>)", self.name)
        chosen = (_PARTS[x] if x.startswith("<") else re.escape(x) for x in parts)
        return re.fullmatch("".join(chosen), column) is not None


def find(column: str) -> Documented | None:
    """What documents a column; None where nothing does."""
    return next((line for line in COLUMNS if line.is_of(column)), None)


def listed() -> str:
    """All columns, as text for a terminal: name, unit, meaning."""
    names, units = (max(len(line[place]) for line in COLUMNS) for place in (0, 1))
    lines = [
        f"{name.ljust(names)}  {unit.ljust(units)}  {meaning}"
        for name, unit, meaning in COLUMNS
    ]
    return "\n".join([*lines, "", *_WORDS])


_PICTURE = "reconstruction|extracted_before|extracted|revealed|cover"
_OTHER = "secret|cover|stego|perturbed"
_PARTS = {
    "<a>": f"(?:{_PICTURE})",
    "<b>": f"(?:{_OTHER})",
    "<blind>": "(?:black|grey|constant|train_mean|class_mean|mean_image)",
    "<norm>": "(?:l2|linf)",
    "<by>": "(?:target|judge)(?:_known)?",
    "<way>": "(?:judge|ssim)",
    "<score>": "(?:psnr|psnr8|ssim|ssim7)",
    "<quantity>": f"(?:(?:psnr|psnr8|ssim|ssim7)_(?:{_PICTURE}|mean_image)_(?:{_OTHER})"
    "|perturbation_(?:l2|linf))",
    "<accuracy>": "(?:(?:target_)?accuracy_(?:public|all|secret|probe)"
    "|control_(?:constant_answer|shuffled_secret|cover_only)|covers_called_sensitive"
    f"|diverged|recognised|reidentified|recognised_(?:{_PICTURE})_(?:target|judge)(?:_known)?"
    f"|reidentified_(?:{_PICTURE})_(?:judge|ssim))",
    "<key>": r"[\w.]+",
}
"""Part of a family's name -> what stands in its place."""
COLUMNS = tuple(
    Documented(*line)
    for line in (
        ("folder", "", "the run folder; in tables of several runs"),
        ("name", "", "name of the config"),
        ("hash", "", "16 hex digits of all that the row depends on"),
        ("data", "", "data set: data.name"),
        ("network", "", "network under attack: target.network"),
        ("cut", "", "layer after which the network is cut: defense.cut"),
        ("edge_layers", "layers", "of the edge half"),
        ("defense", "", "its name"),
        ("defense_caution", "", "what must be known to read its numbers; mostly empty"),
        ("stego", "", "how secrets are hidden; empty: they are not"),
        ("bits", "bits", "ζ, low bits of the cover that take the secret's; 0: none"),
        ("gamma", "", "n_s : n_c, sensitive to public labels"),
        ("sensitive_labels", "", "by number, as drawn or stated"),
        ("public_labels", "", "all others"),
        ("seed", "", "draws labels, pairs, retraining and attack"),
        ("attack", "", "its name; none: nothing was attacked"),
        ("denoise", "", "denoiser around the attack; none, or empty: not attacked"),
        ("judge_caution", "", "why no judge looked at the pictures; mostly empty"),
        (
            "mixed_environment",
            "",
            "stages whose training was continued on other processors, versions or "
            "settings; mostly empty",
        ),
        ("target_parameters", "", "parameters of the whole network"),
        *(
            (f"{section}.<key>", "", "key of the config: see `--help-keys`")
            for section in (
                "data",
                "target",
                "stego",
                "defense",
                "attacker",
                "attack",
                "denoise",
                "judge",
            )
        ),
        (
            "accuracy_secret",
            "%",
            "test images of sensitive labels answered right, hidden in covers where "
            "the defense hides them",
        ),
        ("accuracy_public", "%", "clean test images of public labels answered right"),
        ("accuracy_all", "%", "clean test images of all labels answered right"),
        (
            "accuracy_probe",
            "%",
            "attacked images whose label the attacker's class probe reads from the "
            "features",
        ),
        (
            "target_accuracy_secret",
            "%",
            "accuracy_secret of the undefended target, nothing hidden",
        ),
        ("target_accuracy_public", "%", "accuracy_public of the undefended target"),
        ("target_accuracy_all", "%", "accuracy_all of the undefended target"),
        (
            "control_constant_answer",
            "%",
            "secrets that the commonest sensitive label would answer right",
        ),
        (
            "control_shuffled_secret",
            "%",
            "answers to secrets that fit the labels of other secrets",
        ),
        (
            "control_cover_only",
            "%",
            "secrets whose label is answered to their cover, nothing hidden in it",
        ),
        (
            "covers_called_sensitive",
            "%",
            "clean test images of public labels answered with a sensitive one",
        ),
        (
            "uses_secret",
            "yes/no",
            "whether accuracy_secret is clearly above control_shuffled_secret; nothing "
            "shows it with one sensitive label",
        ),
        ("<accuracy>_n", "images", "that the percentage is of"),
        (
            "psnr_<a>_<b>_mean",
            "dB",
            "mean PSNR of one picture against another over the test images; larger is "
            "nearer",
        ),
        ("psnr8_<a>_<b>_mean", "dB", "PSNR after rounding both to 8 bits"),
        ("ssim_<a>_<b>_mean", "", "mean SSIM, -1 to 1: Gaussian window 11, range 1"),
        (
            "ssim7_<a>_<b>_mean",
            "",
            "SSIM as He et al. measure it: uniform window 7, the picture's own range",
        ),
        (
            "<score>_<blind>_secret_mean",
            "as score",
            "of a picture that needs no feature, against the secret",
        ),
        (
            "recognised_<a>_<by>",
            "%",
            "attacker's pictures in which the secret's label is read, by the target or "
            "the judge; known: told which labels are sensitive",
        ),
        (
            "recognised",
            "%",
            "the largest of the judge's, or without one of the target's",
        ),
        ("recognised_chance", "%", "what the commonest label of the secrets would get"),
        (
            "reidentified_<a>_<way>",
            "%",
            "attacker's pictures that resemble their secret most of all candidates, by "
            "the judge's features or SSIM; chance is 1 of N",
        ),
        ("reidentified", "%", "the largest of these"),
        (
            "reidentified_<a>_<way>_clear",
            "images",
            "of these, that resemble their secret more than any wrong one resembles "
            "anything",
        ),
        (
            "candidates",
            "images",
            "N: test images of the labels under attack, the secrets among them",
        ),
        (
            "perturbation_<norm>_mean",
            "pixels",
            "mean norm of what the generator adds, pixels in [0, 1]",
        ),
        (
            "diverged",
            "images",
            "targets whose search ended further from the features than it began, or "
            "not in a picture; no score counts them",
        ),
        ("<quantity>_low", "as mean", "lower end of the mean's 95 % interval"),
        ("<quantity>_high", "as mean", "upper end of it; Student's t over images"),
        ("<quantity>_n", "images", "with a finite value: those that the mean is over"),
        ("<quantity>_infinite", "images", "left out: both pictures are equal"),
        ("<quantity>_undefined", "images", "left out: not defined, a constant picture"),
        ("<quantity>_max", "as mean", "largest finite value of an image"),
        ("<quantity>_min", "as mean", "smallest finite value of an image"),
        ("bound", "", "ARDEN's B, of the features' infinity norm, stated or measured"),
        (
            "epsilon_published",
            "nats",
            "ARDEN's ε, as its paper computes it; no guarantee",
        ),
        ("epsilon_l1_vector", "nats", "ARDEN's ε of the whole vector of features"),
        ("inverse_snr", "", "1/SNR that SHREDDER's learned noise has come to"),
        ("inverse_snr_start", "", "1/SNR before its training"),
        (
            "seconds_target",
            "s",
            "training of the target, kept with its part; 0: it came trained",
        ),
        ("seconds_judge", "s", "training of the judge, kept with its part; 0: none"),
        ("seconds_stego", "s", "training of the stego network; 0: none"),
        ("seconds_defense", "s", "training of the defense; 0: none"),
        ("seconds_attack_fit", "s", "training of the attacker"),
        ("seconds_attack", "s", "inverting all targets"),
        ("seconds_total", "s", "this run, without parts that were there already"),
    )
)
"""Every column that a result row may have."""
_WORDS = (
    "<a>, <b>: cover; secret; stego (the secret hidden in the cover); perturbed (what",
    "  a generator makes of the stego); revealed (the secret, by its receiver);",
    "  reconstruction (by the attacker); extracted (the secret, read out of it), also",
    "  extracted_before (before it was denoised).",
    "<blind>: black, grey, train_mean, class_mean (the secret's class), constant (the",
    "  secret's own mean colour, an oracle), mean_image (training images; what",
    "  revealed secrets must beat).",
    "<quantity>: <score>_<a>_<b> or perturbation_<norm>. <norm>: l2, linf.",
    "A defense of your own adds columns: label and unit are in row.parquet's metadata.",
)
