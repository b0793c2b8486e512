"""What a corpus keeps for the test of captions that nobody trained on, and what may join it.

A family with recordings of the split `unseen_captions` is in no other split, and no text that is
trained on names it, see `catalogue.check_splits`. A collection holds more than anybody would look
through: what would break this is skipped, and a wording or broader caption that would is left out.
"""

from dataclasses import replace

from flamlib import texts
from flamlib.data.collections.items import AUTO, Item
from flamlib.data.corpus.catalogue import Catalogue, names_pattern, split_list


class KeptUnseen:
    """The families that a catalogue keeps unseen."""

    def __init__(self, catalogue: Catalogue) -> None:
        is_kept = catalogue.clips["split"] == "unseen_captions"
        families = set(catalogue.clips.loc[is_kept, "family"])
        self._keys, self._names = set(map(texts.key, families)), names_pattern(families)
        self._family_of: dict[str, str] = {}
        for row in catalogue.captions.itertuples(index=False):
            for text in [row.caption, *split_list(row.wordings)]:
                self._family_of.setdefault(texts.key(text), row.family)

    def check(self, item: Item, family: str) -> Item | str:
        """Return a foreground as it may join, or why it may not.

        One that is to be shared out may be of such a family: it is kept unseen, too.

        Args:
            item: with its caption.
            family: of the caption, unless the catalogue has it; "": the caption alone.
        """
        family = self._family_of.get(texts.key(item.caption)) or family or item.caption
        if texts.key(family) in self._keys:
            return item if item.split == AUTO else f"{family!r} is kept for unseen captions"
        if match := self._names.search(item.caption):
            return f"{item.caption!r} names {match[0]!r}, which is kept for unseen captions"
        wordings = tuple(text for text in item.wordings if not self._names.search(text))
        parents = tuple(text for text in item.parents if not self._names.search(text))
        return replace(item, wordings=wordings, parents=parents)
