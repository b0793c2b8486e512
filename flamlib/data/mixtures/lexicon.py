"""What the captions of a corpus mean for each other: wordings, broader captions, doubtful pairs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse
from jaxtyping import Bool
from sklearn.feature_extraction.text import TfidfVectorizer

from flamlib import tables
from flamlib.events import Event, active_frames

COLUMNS = ("caption", "family", "split", "wordings", "parents")


@dataclass(frozen=True, eq=False)
class Lexicon:
    """The table `captions.tsv` of a corpus.

    A *query* is a caption or one of its parents (a broader caption, true whenever the caption is).
    What a query says of a clip:

    - true while a caption sounds that it is, or is a parent of;
    - false while other families sound;
    - unknown, for the whole clip, if something sounds of which one cannot say: another caption of
      the query's own families, or a background in which one of those families can be heard.

    `others` are captions of other sets (`strong`): queries too, but where they are not in the table
    nothing is known of them here.
    """

    table: pd.DataFrame
    others: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: str | Path) -> "Lexicon":
        """Read a `captions.tsv`; columns other than `COLUMNS` are kept but not used.

        Raises ValueError naming file and line for a missing column, and for a caption or family
        that is empty and a caption that is listed twice.
        """
        rows = tables.read(
            path, COLUMNS, filled=("caption", "family"), unique="caption", short_rows=True
        )
        columns = None if rows else COLUMNS
        table = pd.DataFrame([row.fields for row in rows], columns=columns, dtype=str)
        return cls(table)

    @cached_property
    def captions(self) -> dict[str, int]:
        """Each caption's row."""
        return {caption: i for i, caption in enumerate(self.table["caption"])}

    @cached_property
    def parents(self) -> dict[str, list[str]]:
        parents = zip(self.table["caption"], _split(self.table["parents"]), strict=True)
        return {other: [] for other in self.others} | dict(parents)

    @cached_property
    def wordings(self) -> dict[str, list[str]]:
        """Other texts for a query, itself first. A parent, and one of `others`, has no other."""
        texts = {other: [other] for other in self.others}
        texts |= {parent: [parent] for parents in self.parents.values() for parent in parents}
        wordings = _split(self.table["wordings"])
        for caption, others in zip(self.table["caption"], wordings, strict=True):
            texts[caption] = [caption, *(text for text in others if text != caption)]
        return texts

    @cached_property
    def _truth(self) -> dict[str, np.ndarray]:
        """Query -> rows of the captions it is true of."""
        truth = {caption: [row] for caption, row in self.captions.items()}
        for caption, parents in self.parents.items():
            for parent in parents:
                truth.setdefault(parent, []).append(self.captions[caption])
        return {query: np.unique(rows) for query, rows in truth.items()}

    @cached_property
    def _spelling(self) -> scipy.sparse.csr_matrix:
        """A unit vector per caption: its groups of 3 and 4 letters, the rare ones heavier."""
        # Letters and not words, so that "barks" and "barking" have something in common.
        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)
        return vectorizer.fit_transform(self.table["caption"])

    def resembling(self, caption: str, n: int) -> list[str]:
        """At most `n` captions of the same split, worded most alike but for another sound.

        Of another family, that is, and neither a parent nor a child; the most alike come first. For
        one of `others`, whose kin is not known, there are none.
        """
        if caption not in self.captions and caption in self.others:
            return []
        row = self.captions[caption]
        alike = (self._spelling @ self._spelling[row].T).toarray()[:, 0]
        table = self.table
        alike[
            (table["family"] == table["family"][row]) | (table["split"] != table["split"][row])
        ] = 0
        kin = {*self.parents[caption], *(c for c, up in self.parents.items() if caption in up)}
        alike[[self.captions[c] for c in kin if c in self.captions]] = 0
        best = np.argsort(-alike, kind="stable")[:n]
        return [self.table["caption"][i] for i in best if alike[i] > 0]

    def families(self, query: str) -> set[str]:
        """The families of the captions that the query is true of."""
        return set(self.table["family"].iloc[self._truth[query]])

    def label(
        self,
        labels: Sequence[Sequence[Event]],
        audible: Sequence[Iterable[str]],
        queries: Sequence[str],
        *,
        n_frames: int,
        frame_s: float,
    ) -> tuple[Bool[np.ndarray, "clip query frame"], Bool[np.ndarray, "clip query"]]:
        """In which frames of which clip a query is true, and whether that is known.

        `labels` are each clip's events, `audible` the families heard in its background. Raises
        KeyError for an event that is not in the table, or a query that is nowhere.
        """
        n_captions, families = len(self.table), self.table["family"].to_numpy()
        is_true = np.zeros((len(queries), n_captions), bool)
        doubtful = np.zeros((len(queries), n_captions), bool)
        here = np.array([q in self._truth or q not in self.others for q in queries], bool)
        for j, query in enumerate(queries):
            if not here[j]:
                continue
            is_true[j, self._truth[query]] = True
            doubtful[j] = np.isin(families, list(self.families(query))) & ~is_true[j]

        active = np.zeros((len(labels), len(queries), n_frames), bool)
        known = np.ones((len(labels), len(queries)), bool)
        for i, (events, heard) in enumerate(zip(labels, audible, strict=True)):
            captions = sorted({event.caption for event in events})
            rows = [self.captions[caption] for caption in captions]
            sounds = active_frames(events, captions, n_frames=n_frames, frame_s=frame_s)
            active[i] = is_true[:, rows] @ sounds
            in_background = np.isin(families, list(heard))
            known[i] = ~doubtful[:, rows].any(axis=1) & ~is_true[:, in_background].any(axis=1)
            known[i] &= here
        return active, known


def _split(column: pd.Series) -> list[list[str]]:
    return [[text for text in cell.split("|") if text] for cell in column]
