"""Where a run takes its proposals from: the store if they are there, else the generator, and then kept."""

import logging
import multiprocessing
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from gl_ris.errors import UserError, in_short
from gl_ris.proposals.base import ProposalGenerator, Proposals
from gl_ris.proposals.store import ImageKey, ProposalStore, StoreKey, default_root

COUNTS = ("read", "generated", "failed")

log = logging.getLogger(__name__)


class ProposalSource:
    """Gives the proposals of images, and keeps what it had to make.

    Safe to use in forked and spawned processes, as those of a `DataLoader`: each writes files of its own, and
    all count together. If strict, a store that cannot be written is an error, else there is one warning.
    """

    def __init__(
        self, generator: ProposalGenerator, store: ProposalStore | None, strict: bool = False
    ) -> None:
        self.generator, self.store, self.strict = generator, store, strict
        self._counts: Any = multiprocessing.Array("q", len(COUNTS))
        self._writable, self._warned = True, False
        # what became of the last image that this process asked for: one of `COUNTS`, or None
        self.outcome: str | None = None
        # What was stored since then (nanoseconds since the epoch), before the run was cut off, it has made.
        self.began: int | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many images had their proposals read, generated, and attempted in vain."""
        return dict(zip(COUNTS, self._counts[:], strict=True))

    @property
    def stored(self) -> dict[int | str, int]:
        """How many proposals are stored for each image that has any, by its id."""
        return {} if self.store is None else {one.image.image_id: one.count for one in self.store.entries}

    def __call__(self, image_id: int | str, image: Tensor) -> Proposals:
        """Return the proposals of an image, uint8 ``(3, H, W)``, on its device, stored or not the same bits.

        What the generator raises is raised again, and the store then has the reason.
        """
        key, found = self._look_up(image_id, image)
        return self._generate(image_id, image, key) if found is None else found

    def ahead(self, image_id: int | str, image: Tensor) -> Proposals | None:
        """Do the same in a worker that reads images; None for what the main process has to generate."""
        if self.generator.in_workers:
            return self(image_id, image)
        return self._look_up(image_id, image)[1]

    def _look_up(self, image_id: int | str, image: Tensor) -> tuple[ImageKey | None, Proposals | None]:
        self.outcome = None
        if self.store is None:
            return None, None
        key = ImageKey.of(image_id, image)
        found = self.store.get(key)
        if found is None:
            return key, None
        own = self.began is not None and self.store.made_since(key, self.began)
        self._count("generated" if own else "read")
        return key, found.to(image.device)

    def _generate(self, image_id: int | str, image: Tensor, key: ImageKey | None) -> Proposals:
        self._warn_of_change(key)
        start = time.perf_counter()
        try:
            made = self.generator.for_image(image_id, image)
        except UserError:
            raise
        except Exception as error:
            self._keep(key, in_short(error, typed=True), time.perf_counter() - start)
            self._count("failed")
            raise
        # As a store keeps them; the layout in memory, too, bears on the last bits of a sum over pixels.
        proposals = Proposals(made.masks.contiguous(), made.boxes.float(), made.scores.float())
        proposals = proposals.to(image.device)
        self._keep(key, proposals, time.perf_counter() - start)
        self._count("generated")
        return proposals

    def _keep(self, key: ImageKey | None, outcome: Proposals | str, seconds: float) -> None:
        if self.store is None or key is None or not self._writable:
            return
        try:
            if isinstance(outcome, str):
                self.store.put_failure(key, outcome, seconds)
            else:
                self.store.put(key, outcome, seconds)
        except OSError as error:
            message = f"Proposals cannot be stored in '{self.store.folder}' ({error.strerror or error})"
            if self.strict:
                raise UserError(f"{message}; name another folder by store=FOLDER.") from error
            self._writable = False
            log.warning("%s; the run goes on without storing them.", message)

    def _warn_of_change(self, key: ImageKey | None) -> None:
        if self._warned or self.store is None or key is None or key.image_id not in self.store.image_ids:
            return
        self._warned = True
        log.warning(
            "Image %s is not as it was when its proposals were stored in '%s' (other pixels, or a "
            "damaged record): they are made anew. There may be more of its kind.",
            key.image_id,
            self.store.folder,
        )

    def _count(self, what: str) -> None:
        self.outcome = what
        with self._counts.get_lock():
            self._counts[COUNTS.index(what)] += 1


def open_source(
    generator: ProposalGenerator, store: bool | str | Path | None, data: Any, strict: bool = False
) -> ProposalSource:
    """Make the source of a run on ``data``, a data module; a `UserError` if the store is damaged.

    The store is True for the usual place (`gl_ris.proposals.store.default_root`), a folder, or False or None.
    Of data without the names of a data set and its split, nothing is stored.
    """
    names: list[Any] = [getattr(data, name, None) for name in ("dataset_name", "partition", "split")]
    if not (generator.stored and store and names[0] and names[2]):
        return ProposalSource(generator, None)
    root = default_root() if store is True else Path(store).expanduser()
    key = StoreKey.of(generator, *names)
    return ProposalSource(generator, ProposalStore(root, key, generator.league), strict)


def describe_stored(source: ProposalSource, image_ids: set[int | str]) -> str:
    """Say in a line how much of a split is stored, and where the rest will be.

    Example:
        >>> from gl_ris.proposals import Felzenszwalb
        >>> describe_stored(ProposalSource(Felzenszwalb(), None), {1, 2})
        'proposals: not stored, generating those of 2 images (felzenszwalb)'
    """
    total = f"{len(image_ids):,}"
    if not source.generator.stored:
        return f"proposals: those of {total} images are looked up ({source.generator.name})"
    if source.store is None:
        return f"proposals: not stored, generating those of {total} images ({source.generator.name})"
    known = len(image_ids & source.store.image_ids)
    if known == len(image_ids):
        return f"proposals: all {total} images stored in {source.store.folder}"
    stored, rest = (f"{known:,}", "the rest") if known else ("none", "them")
    return f"proposals: {stored} of {total} images stored, generating {rest} into {source.store.folder}"


def give_to(data: Any, source: ProposalSource | None) -> None:
    """Let data that can take proposals from a source, beside reading images, do so."""
    if hasattr(data, "take_proposals_from"):
        data.take_proposals_from(source)
