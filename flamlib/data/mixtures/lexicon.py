"""Captions of a corpus and how they relate: wordings, parents, families; labels of queries."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse
from jaxtyping import Bool
from sklearn.feature_extraction.text import TfidfVectorizer

from flamlib import texts
from flamlib.sound_events.events import Event, active_frames
from flamlib.storage import tables

COLUMNS = ("caption", "family", "split", "wordings", "parents")


@dataclass(frozen=True, eq=False)
class Lexicon:
    """The table `captions.tsv` of a corpus.

    A *query* is a caption, or a parent of one: a broader caption, true whenever the caption is. In
    a clip a query is

    - true in the frames in which the caption itself, or one that it is a parent of, sounds;
    - false in all other frames;
    - unknown, in the whole clip, if another caption of the query's own families sounds, or a
      broader one, or if one of these families can be heard in the background: then nobody can tell.

    Attributes:
        table: one row per caption, see `COLUMNS`; lists are separated by "|".
        others: captions of other datasets (`strong`): queries too, but unknown in this corpus
            unless the table has one that reads the same.
    """

    table: pd.DataFrame
    others: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: str | Path) -> "Lexicon":
        """Read a `captions.tsv`; columns other than `COLUMNS` are kept but not used.

        Raises ValueError naming file and line for a missing column, for a caption or family that is
        empty, and for captions that read the same.
        """
        rows = tables.read(path, COLUMNS, filled=("caption", "family"), short_rows=True)
        tables.check_unique(rows, "caption", key=texts.key)
        columns = None if rows else COLUMNS
        fields = [{key: texts.normal(text) for key, text in row.fields.items()} for row in rows]
        return cls(pd.DataFrame(fields, columns=columns, dtype=str))

    @cached_property
    def captions(self) -> dict[str, int]:
        """The row of each caption."""
        return {caption: i for i, caption in enumerate(self.table["caption"])}

    @cached_property
    def parents(self) -> dict[str, list[str]]:
        """The parents of each caption."""
        parents = zip(self.table["caption"], _split(self.table["parents"]), strict=True)
        return {other: [] for other in self.others} | dict(parents)

    @cached_property
    def wordings(self) -> dict[str, list[str]]:
        """The texts of each query, itself first. Parents and `others` have no other text."""
        texts = {other: [other] for other in self.others}
        texts |= {parent: [parent] for parents in self.parents.values() for parent in parents}
        wordings = _split(self.table["wordings"])
        for caption, of_caption in zip(self.table["caption"], wordings, strict=True):
            texts[caption] = [caption, *(text for text in of_caption if text != caption)]
        return texts

    @cached_property
    def _number(self) -> dict[str, int]:
        """Number the queries: captions by their rows, then parents that are no captions."""
        numbers = dict(self.captions)
        for parents in self.parents.values():
            for parent in parents:
                numbers.setdefault(parent, len(numbers))
        return numbers

    @cached_property
    def _truth(self) -> scipy.sparse.csr_array:
        """Which captions each query is true of, `[query, caption]`: of a million, a few."""
        pairs = [(row, row) for row in self.captions.values()]
        pairs += [
            (self._number[parent], self.captions[caption])
            for caption, parents in self.parents.items()
            for parent in parents
        ]
        return _incidence(pairs, (len(self._number), len(self.table)))

    @cached_property
    def _family(self) -> dict[str, int]:
        """Number the families."""
        return {family: i for i, family in enumerate(dict.fromkeys(self.table["family"]))}

    @cached_property
    def _families(self) -> scipy.sparse.csr_array:
        """The families of the captions that each query is true of, `[query, family]`."""
        pairs = [(row, self._family[name]) for row, name in enumerate(self.table["family"])]
        return self._truth @ _incidence(pairs, (len(self.table), len(self._family)))

    def _narrower(self, queries: list[int], captions: list[int]) -> Bool[np.ndarray, "query cap"]:
        """Whether a query is true only of what a caption is true of, too."""
        of_query, of_caption = (
            self._truth[np.array(rows, int)].astype(np.int32) for rows in (queries, captions)
        )
        return (of_query @ of_caption.T).toarray() == of_query.sum(axis=1)[:, None]

    @cached_property
    def _same(self) -> dict[str, str]:
        """For each of `others` the query of the table that reads the same, if there is one."""
        by_key = {texts.key(query): query for query in self._number} if self.others else {}
        same = {other: by_key.get(texts.key(other)) for other in self.others - self._number.keys()}
        return {other: query for other, query in same.items() if query is not None}

    @cached_property
    def _texts(self) -> scipy.sparse.csr_array:
        """Which captions have which text, themselves or a wording, `[caption, text]`."""
        numbers: dict[str, int] = {}
        column = [
            [numbers.setdefault(texts.key(text), len(numbers)) for text in self.wordings[caption]]
            for caption in self.table["caption"]
        ]
        start = np.cumsum([0, *map(len, column)])
        text = np.concatenate([np.array(of_caption, int) for of_caption in column] or [[]])
        ones = np.ones(len(text), np.int64)
        return scipy.sparse.csr_array((ones, text, start), shape=(len(column), len(numbers)))

    @cached_property
    def _spelling(self) -> scipy.sparse.csr_matrix:
        """A unit vector per caption: TF-IDF of its character 3- and 4-grams."""
        # Characters and not words, so that "barks" and "barking" have something in common.
        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)
        return vectorizer.fit_transform(self.table["caption"])

    def resembling(self, caption: str, n: int) -> list[str]:
        """Return the captions most similar in wording that mean another sound: hard negatives.

        At most `n`, the most similar first, of the same split and another family, neither parent
        nor child, and without a text that reads the same. None for one of `others`, whose family is
        not known.
        """
        if caption not in self.captions and caption in self.others:
            return []
        row = self.captions[caption]
        similarity = (self._spelling @ self._spelling[row].T).toarray()[:, 0]
        table = self.table
        similarity[
            (table["family"] == table["family"][row]) | (table["split"] != table["split"][row])
        ] = 0
        related = {*self.parents[caption], *(c for c, up in self.parents.items() if caption in up)}
        similarity[[self.captions[c] for c in related if c in self.captions]] = 0
        similarity[(self._texts @ self._texts[[row]].T).nonzero()[0]] = 0
        best = np.argsort(-similarity, kind="stable")[:n]
        return [self.table["caption"][i] for i in best if similarity[i] > 0]

    def families(self, query: str) -> set[str]:
        """Return the families of the captions that a query is true of."""
        rows = self._truth[[self._number[query]]].indices
        return set(self.table["family"].iloc[rows])

    def label(
        self,
        labels: Sequence[Sequence[Event]],
        audible: Sequence[Iterable[str]],
        queries: Sequence[str],
        *,
        n_frames: int,
        frame_s: float,
        clip_s: float,
    ) -> tuple[Bool[np.ndarray, "clip query frame"], Bool[np.ndarray, "clip query"]]:
        """Label clips frame by frame.

        Args:
            labels: the events of each clip.
            audible: the families that can be heard in the background of each clip.
            queries: the captions that are asked for.
            n_frames: frames of a clip.
            frame_s: length of a frame in seconds.
            clip_s: length of a clip in seconds, of which the last frame has what is left.

        Returns:
            active: in which frames of which clip a query is true, `[clip, query, frame]`.
            known: whether that is known, `[clip, query]`; see `Lexicon`.

        Raises:
            KeyError: an event's caption is not in the table, or a query is unknown altogether.
        """
        queries = [self._same.get(query, query) for query in queries]
        in_corpus = np.array([q in self._number or q not in self.others for q in queries], bool)
        numbers = [self._number[q] for q, known in zip(queries, in_corpus, strict=True) if known]
        family = self.table["family"]

        def of_queries(found: scipy.sparse.csr_array, columns: list[int]) -> np.ndarray:
            dense = np.zeros((len(queries), len(columns)), bool)
            dense[in_corpus] = found[np.array(numbers, int)][:, np.array(columns, int)].toarray()
            return dense

        heard = sorted({self.captions[event.caption] for events in labels for event in events})
        place = {row: i for i, row in enumerate(heard)}
        is_true = of_queries(self._truth, heard)
        is_related = of_queries(self._families, [self._family[family.iat[row]] for row in heard])
        is_narrower = np.zeros_like(is_true)
        is_narrower[in_corpus] = self._narrower(numbers, heard)
        doubtful = (is_related | is_narrower) & ~is_true
        behind = sorted({*self._family} & {name for names in audible for name in names})
        may_be_behind = of_queries(self._families, [self._family[name] for name in behind])

        frames = {"n_frames": n_frames, "frame_s": frame_s, "clip_s": clip_s}
        active = np.zeros((len(labels), len(queries), n_frames), bool)
        known = np.ones((len(labels), len(queries)), bool)
        for i, (events, in_its_background) in enumerate(zip(labels, audible, strict=True)):
            captions = sorted({event.caption for event in events})
            rows = [place[self.captions[caption]] for caption in captions]
            sounds = active_frames(events, captions, **frames)
            active[i] = is_true[:, rows] @ sounds
            in_background = np.isin(behind, list(in_its_background))
            known[i] = ~doubtful[:, rows].any(axis=1) & ~may_be_behind[:, in_background].any(axis=1)
            known[i] &= in_corpus
        return active, known


def _incidence(pairs: list[tuple[int, int]], shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """A matrix that is true at these pairs of row and column."""
    rows, columns = np.array(pairs, int).reshape(-1, 2).T
    return scipy.sparse.csr_array((np.ones(len(rows), bool), (rows, columns)), shape=shape)


def _split(column: pd.Series) -> list[list[str]]:
    return [[text for text in cell.split("|") if text] for cell in column]
