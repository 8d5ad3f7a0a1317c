"""Methods as a run names them: plain names, or mappings with settings of their own."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gl_ris.choices import Rule
from gl_ris.clip.loading import PRECISIONS
from gl_ris.errors import UserError, unknown_name
from gl_ris.files import plain
from gl_ris.recipe import Recipe
from gl_ris.rerank import NONE, check_reranking, reranked
from gl_ris.scorers import Scorer, load_scorer
from gl_ris.scorers.base import check_shares
from gl_ris.thresholds import Given, read_thresholds, rule_of

Methods = Sequence[str | Mapping[str, Any]] | Mapping[str, Any] | str

# Recipe fields about the data or the figures: there is one of each in a run, whatever its methods.
WHOLE_RUN = ("skip_images_without_proposals", "target_overlap", "unseen")

_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "method": (str, "a name or the path of a class"),
    "title": (str, "a text"),
    "alpha": ((int, float), "a share from 0 to 1"),
    "beta": ((int, float), "a share from 0 to 1"),
    "masked_blocks": (int, "a whole number"),
    "recipe": ((str, Mapping, Recipe), "clean, published or fields of a recipe"),
    "clip": (str, "the name of a CLIP model"),
    "pretrained": ((str, type(None)), "a tag or file of weights, or null"),
    "precision": (str, "fp32, bf16 or fp16"),
    "rerank": (str, "none, reclip, hybridgl, hybridgl_fixed, full or the path of a class"),
    "top": ((int, type(None)), "a whole number, or null"),
    "file": (str, "a file or folder of scores"),
    "abstain": ((int, float, str, type(None)), "a number, a file of thresholds, or null"),
    "union": ((int, float, str, type(None)), "a number, a file of thresholds, or null"),
}


@dataclass(frozen=True)
class Variant:
    """One way of scoring: a method with everything that it is set to, checked."""

    method: str  # short name or class path of the method
    title: str  # what results call it; the method's own title unless it is given
    alpha: float  # Share of the global visual feature, in [0, 1] (Eq. 5).
    beta: float  # Share of the global text feature, in [0, 1] (Eq. 8).
    masked_blocks: int  # blocks of a ViT with masked tokens, counted from the last
    recipe: Recipe  # the details
    clip: str  # the CLIP model
    pretrained: str | None  # its weights, for an open_clip name
    # That its weights are loaded in: fp32, bf16 or fp16. Mixing, similarities and masks stay in
    # float32, figures in integers.
    precision: str = "fp32"
    rerank: str = "none"  # what ranks the best masks anew, see `gl_ris.rerank`; none for nothing
    top: int | None = None  # how many of the best masks; the re-ranker's own number if None
    # what a method reads its scores from, if it is one of those, see `gl_ris.scorers.from_files`
    file: str | None = None
    # thresholds of `rule`, or the file that has them; see `gl_ris.choices.Rule`
    abstain: Given = None
    union: Given = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        # here, too, so that it is said before models are loaded
        check_shares(alpha=self.alpha, beta=self.beta)
        check_reranking(self.rerank, self.top)
        if load_scorer(self.method).reads_file != (self.file is not None):
            fix = "leave file out of it" if self.file else f"give {{method: {self.method}, file: PATH}}"
            raise UserError(f"Method '{self.method}' reads {'no' if self.file else 'a'} file: {fix}.")
        _ = self.rule

    @functools.cached_property
    def rule(self) -> Rule:
        """What is chosen beside the best; `UserError` if it is to come from a file that does not have it."""
        return rule_of(self.abstain, self.union, self.title, self.settings if self.rule_files else {})

    @property
    def rule_files(self) -> list[Path]:
        """The files that `rule` comes from."""
        return [Path(given).expanduser() for given in (self.abstain, self.union) if isinstance(given, str)]

    @property
    def said_rule(self) -> dict[str, Any]:
        """The thresholds that were asked for, "none" where a file has none, and what it was found on."""
        rule = {name: "none" if value is None else value for name, value in asdict(self.rule).items()}
        found = {name: value for name, value in rule.items() if getattr(self, name) is not None}
        files = {read_thresholds(file).place for file in self.rule_files}
        return {**found, **({"found on": "; ".join(sorted(files))} if files else {})}

    @property
    def settings(self) -> dict[str, Any]:
        """All that bears on the scores, as JSON has it."""
        own: dict[str, Any] = plain(asdict(self))
        return {name: value for name, value in own.items() if name not in ("title", "abstain", "union")}

    @property
    def foreign_shares(self) -> str | None:
        """What to say where Global-Local mixes by shares that suit other pictures than the model does."""
        from gl_ris.defaults import Shares, shares_of_others
        from gl_ris.scorers.global_local import GlobalLocal

        if load_scorer(self.method) is not GlobalLocal:
            return None
        return shares_of_others(self.clip, Shares(self.alpha, self.beta, self.masked_blocks))

    @property
    def model(self) -> tuple[str, str | None, str]:
        """What `gl_ris.load_clip` needs to know; variants of which this is equal share one model."""
        return self.clip, self.pretrained, self.precision

    def load(self) -> Any:
        """Load the CLIP model, by `gl_ris.load_clip`."""
        from gl_ris.clip import load_clip

        return load_clip(self.clip, self.pretrained, dtype=PRECISIONS[self.precision])

    def make(self, clip: Any, parser: Any = None) -> Scorer:
        """Make the scorer of what `load` gave for this `model`; a `UserError` if the settings do not fit."""
        settings = (self.alpha, self.beta, self.masked_blocks, self.recipe, parser)
        given: dict[str, Any] = {} if self.file is None else {"file": self.file}
        scorer = load_scorer(self.method)(clip, *settings, **given)
        scorer.title = self.title
        return self.finish(scorer)

    def finish(self, scorer: Scorer) -> Scorer:
        """Let the re-ranker, if there is one, follow a scorer, and give it the rule."""
        made = reranked(scorer, self.rerank, self.top)
        made.rule = self.rule
        return made


def resolve_variants(methods: Methods, defaults: Mapping[str, Any]) -> list[Variant]:
    """Turn what a run names into variants.

    An entry is a name, or a mapping of `Variant` fields with at least ``method``; ``defaults`` has the other
    fields but ``title``. A `UserError` for no method, an unknown field or method, a wrong value, two variants
    of one title, or a recipe that differs in a field of the whole run.

    Example:
        >>> defaults = {"alpha": 0.5, "beta": 0.5, "masked_blocks": 3, "recipe": Recipe()}
        >>> defaults |= {"clip": "refshapes-vit", "pretrained": None}
        >>> methods = ["cropping", {"method": "global_local", "alpha": 1}]
        >>> [variant.alpha for variant in resolve_variants(methods, defaults)]
        [0.5, 1.0]
    """
    entries = [methods] if isinstance(methods, str | Mapping) else list(methods)
    variants = [_resolve(entry, defaults) for entry in entries]
    titles = [variant.title for variant in variants]
    if not titles:
        raise UserError("methods=[] must name one method or more, each once.")
    for title in titles:
        if titles.count(title) > 1:
            raise UserError(
                f"methods must name one method or more, each once; '{title}' is there {titles.count(title)} "
                "times: give each a title of its own, e.g. {method: global_local, title: A, alpha: 1.0}."
            )
    if all(variant.rerank == NONE for variant in variants):
        check_reranking(NONE, defaults.get("top"))
    return variants


def _resolve(entry: str | Mapping[str, Any], defaults: Mapping[str, Any]) -> Variant:
    given = _checked({"method": entry} if isinstance(entry, str) else entry)
    title = given.setdefault("title", load_scorer(given["method"]).title)
    # the default weights belong to the default model
    if "clip" in given:
        given.setdefault("pretrained", None)
    recipe = _recipe(title, given.pop("recipe", defaults["recipe"]), defaults["recipe"])
    values = {**defaults, **given, "recipe": recipe}
    if values.get("rerank", NONE) == NONE and "top" not in given:
        values["top"] = None  # that of the whole run is for its other methods
    return Variant(**{**values, "alpha": float(values["alpha"]), "beta": float(values["beta"])})


def _checked(entry: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise UserError(f"A method is a name or a mapping such as {{method: global_local}}, not {entry!r}.")
    names = [field.name for field in fields(Variant)]
    for name in entry:
        if name not in names:
            raise unknown_name(f"field of method {dict(entry)}:", name, names)
    if "method" not in entry:
        raise UserError(f"{dict(entry)} in methods lacks the method, e.g. {{method: global_local, ...}}.")
    for name, value in entry.items():
        kind, words = _KINDS[name]
        # Python's bool is an int
        if not isinstance(value, kind) or isinstance(value, bool) or value == "":
            raise UserError(f"'{name}' of method '{entry['method']}' must be {words}, not {value!r}.")
    return dict(entry)


def _recipe(title: str, recipe: str | Mapping[str, Any] | Recipe, default: Recipe) -> Recipe:
    # fields without a base change the run's own recipe, not the clean one
    if isinstance(recipe, Mapping) and "base" not in recipe:
        found = default.replace(**recipe)
    else:
        found = Recipe.resolve(recipe)
    for name in WHOLE_RUN:
        own, whole = getattr(found, name), getattr(default, name)
        if own != whole:
            raise UserError(
                f"Method '{title}' cannot have {name}={own} for itself: it is of the whole run, where "
                f"it is {whole}; set model.recipe.{name}={str(own).lower()} for all methods."
            )
    return found
