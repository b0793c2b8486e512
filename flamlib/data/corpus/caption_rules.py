"""What a caption is: a plain phrase that names one sound.

    clean_answer      the phrase in what a model answered
    find_violation    the rule that a caption breaks
    words_from_facts  the words in what is known of a recording

A caption that breaks no rule can be written to and read from every table of the project as it is.
"""

import html
import re
import unicodedata
from collections.abc import Iterator, Mapping

from flamlib import texts

Facts = Mapping[str, str]  # tags, title and description of a recording

FEWEST, MOST = 2, 13  # words
LONGEST = 200  # characters
# Words of a sequence of sounds: a caption must be true in every moment of its event.
BOUNDARY = (
    "then", "before", "after", "afterwards", "followed", "following", "next", "later", "first",
    "finally", "until", "begins", "starts", "stops", "ends", "suddenly", "eventually", "meanwhile",
)  # fmt: skip
# What joins a second event to the first.
JOINTS = r"\b(?:and|while|as|with|over|amid|plus|alongside|accompanied by)\b|[,;/&]"
STOP_WORDS = frozenset(  # words that name no sound
    (
        "a", "an", "the", "of", "in", "on", "at", "to", "by", "is", "are", "it", "its", "from",
        "sound", "sounds", "heard", "being", "some", "someone", "something", "up", "down", "out",
        "off", "very", "loud", "loudly", "quiet", "quietly", "soft", "softly", "background",
    )
)  # fmt: skip
NEVER_LAST = frozenset(("a", "an", "the", "and", "with", "while", "as", "of", "at", "to", "from"))

_SENTENCES = re.compile(r"[.!?:…]\s+\S|[。！？]\s*\S|[^\W\d_]{2}\.[^\W\d_]")
# Characters of markup, code, lists and tables.
_MARKUP = re.compile(r"[<>*`{}|\[\]\\_#~^=@]|^[+-]")
_ADDRESS = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,20}:/\S*|\bmailto:\S*|\bwww\.\S*|\S{1,99}@\S*|"
    r"\b[^\W\d_][\w-]{1,60}(?:\.[\w-]{1,60}){0,3}"
    r"\.(?:com|org|net|edu|gov|info|io|app|dev|eu|de|uk|fr|jp|cn|ru|nl|se|ch|au|ca|us)\b"
    r"(?:[/:?#]\S*)?",
    re.IGNORECASE,
)
# Scripts that put no blanks between words, of which about two letters make one.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
_JOINERS = "\u200c\u200d"  # within a word of Persian, Hindi and others

_THOUGHT = (
    r"(?:\w{1,20}:)?(?:think|thinking|thoughts?|reason|reasoning|reflect|reflection|analysis|"
    r"rationale|scratchpad)"
)
_HIDDEN = {  # what is no part of an answer: from an opening mark to a closing one
    "thought": (
        rf"[<\[◁]\|?(?:start_|begin_of_|begin_)?{_THOUGHT}\b[^<>\[\]◁▷]*[>\]▷]|<\|channel>",
        rf"[<\[◁]\|?(?:/|end_of_|end_)\s*{_THOUGHT}\s*\|?[>\]▷]|<channel\|>",
    ),
    "comment": ("<!--", "-->"),
    "script": (r"<(?:script|style)\b[^<>]*>", r"</(?:script|style)\s*>"),
}
_MARKS = re.compile(
    "|".join(f"(?P<{kind}>{a})|(?P<end_{kind}>{b})" for kind, (a, b) in _HIDDEN.items()),
    re.IGNORECASE,
)
_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<>]*<\|message\|>")  # the last channel of Harmony
_TOKEN = r"<\|[^<>|]*\|>|<(?:start_of_turn|end_of_turn|s|/s|eos|bos)>"  # of a chat template
_BLOCK = (
    "address|blockquote|body|br|dd|div|dl|dt|h[1-6]|hr|html|li|ol|p|pre|section|t[dhr]|table|ul"
)
_INLINE = (
    "a|abbr|b|big|center|cite|code|del|em|font|i|img|ins|kbd|mark|q|samp|small|span|strike|strong|"
    "sub|sup|tt|u|var|wbr"
)
_NAME = r"(?:answer|assistant|caption|description|label|output|phrase|response|result|sound|title)"
_LABEL = re.compile(rf"^[^:：]{{0,40}}\b{_NAME}s?\s*\d*\s*[:：]", re.IGNORECASE)
# A heading, a label that stands alone, or "Sure, here it is:"
_INTRODUCTION = re.compile(rf"#.*|\W*(?:final )?{_NAME}s?\W*|.*[:：][*_\s]*", re.IGNORECASE)
_LIST_MARK = re.compile(r"^(?:[-–—•·>#+]+|\(?\d{1,3}[.)](?!\d)|[a-z][.)](?=\s)|\[[ x]?\])\s*", re.I)
_QUOTES = "\"'“”‘’‚„‟‹›«»「」『』` "


def find_violation(caption: str, facts: Facts) -> str | None:
    """Return which rule a caption breaks, in words, or None.

    What follows "and", "with", a comma and the like is a second event; it counts as made up unless
    it shares a word (its first four letters) with the facts.
    """
    if len(caption) > LONGEST:
        return f"{len(caption)} characters, more than {LONGEST}"
    if not FEWEST <= (n_words := _count_words(caption)) <= MOST:
        return f"{n_words} words, not {FEWEST} to {MOST}"
    if "\n" in caption.strip() or _SENTENCES.search(caption):
        return "more than one phrase"
    if odd := _find_odd(caption):
        return f"{odd!r} is no part of a plain phrase"
    if bounds := [w for w in re.findall(r"[\w'’-]+", caption.lower()) if w in BOUNDARY]:
        return f"{bounds[0]!r} puts sounds one after another"
    known = {word[:4] for word in _words_known(facts)}
    for part in re.split(JOINTS, caption.lower())[1:]:
        named = [word for word in _letter_runs(part) if word not in STOP_WORDS]
        if named and not any(word[:4] in known for word in named):
            return f"a second event that is not in the metadata: {part.strip()!r}"
    return None


def clean_answer(text: str) -> str:
    """Return the phrase in a model's answer; "" if there is none.

    That is the first line after what the model thought, without tags, Markdown, quotation marks, a
    label such as "Caption:" and the full stop.
    """
    answer = _strip_markup(_final_answer(_unescape(text)))
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", answer)]
    lines = [line for line in lines if re.search(r"\w", line) and not line.startswith("```")]
    phrases = [line for line in lines if not _INTRODUCTION.fullmatch(line)]
    line = texts.normal((phrases or lines or [""])[0])
    if len(line) > 2 * LONGEST:
        return line[: 2 * LONGEST]  # no caption, whatever is taken away from it
    before = None
    while line != before:
        before = line
        line = re.sub(r"!?\[([^\[\]]*)\]\([^()]*\)", r"\1", line)  # a link
        line = re.sub(r"\*+|`+|~~|(?<!\w)_+|_+(?!\w)", "", line)
        line = _LABEL.sub("", _LIST_MARK.sub("", line))
        line = line.strip(_QUOTES).rstrip(".。…").strip(_QUOTES)
    line = " ".join(line.split())
    return line[:1].lower() + line[1:] if line[1:2].islower() or line[1:2] == " " else line


def words_from_facts(facts: Facts) -> list[str]:
    """Return the words of the title; if it has none, of the description; else the first two tags.

    Addresses, tags and entities of HTML, what something was recorded with, and numbers are no
    words. Of a description the first sentence with a word counts, and nothing from a word of
    `BOUNDARY` on.

    >>> words_from_facts({"title": "0001.wav", "tags": "Dog; Bark"})
    ['dog', 'bark']
    >>> words_from_facts({"title": "0001.wav"})
    []
    >>> words_from_facts({"description": "<b>Dog</b> barks, then stops. Recorded with an H4n."})
    ['dog', 'barks']
    """
    return next(filter(None, _candidates(facts)), [])


def words_in_name(text: str) -> list[str]:
    """Return the words of a title or file name in lower case.

    >>> words_in_name("field/MetalGate_creak-03.wav")
    ['metal', 'gate', 'creak']
    """
    name = re.split(r"[/\\](?! )", _plain(text))[-1]
    name = re.sub(r"\.\w{2,4}$", "", name.strip())
    return _words(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))


def _candidates(facts: Facts) -> Iterator[list[str]]:
    yield _one_sound(words_in_name(facts.get("title", "")))
    for sentence in re.split(r"[.!?:;]\s|[\r\n]", _plain(facts.get("description", ""))):
        yield _one_sound(_words(sentence))
    tags = [_words(_plain(tag)) for tag in _unescape(facts.get("tags", "")).split(";")]
    yield _one_sound([word for tag in list(filter(None, tags))[:2] for word in tag])


def _one_sound(words: list[str]) -> list[str]:
    """The words in front of those that put sounds one after another."""
    while words and words[0] in BOUNDARY:
        words = words[1:]
    end = next((i for i, word in enumerate(words) if word in BOUNDARY), len(words))
    words = words[:end]
    while words and words[-1] in NEVER_LAST:
        words = words[:-1]
    return words


def _find_odd(caption: str) -> str | None:
    """The first character or address that is no part of plain words, None without any."""
    if match := _MARKUP.search(caption) or _ADDRESS.search(caption):
        return match[0]
    for i, character in enumerate(caption):
        kind = unicodedata.category(character)
        within_word = 0 < i < len(caption) - 1 and not caption[i - 1].isspace()
        if character in _JOINERS and within_word and not caption[i + 1].isspace():
            continue
        # Control, format, surrogate, private and unassigned; line separators; other symbols, which
        # pictures are, and the mark of what could not be decoded.
        if kind[0] == "C" or kind in ("Zl", "Zp", "So"):
            return character
    return None


def _count_words(text: str) -> int:
    words = [word for word in re.split(r"[\s/,;&]+", text) if any(map(str.isalnum, word))]
    return max(len(words), (len(_UNSPACED.findall(text)) + 1) // 2)


def _words_known(facts: Facts) -> set[str]:
    """Every word of the facts, as it is written and as it is read."""
    known = {word for value in facts.values() for word in _letter_runs(value.lower())}
    known |= {word for value in facts.values() for word in _words(_plain(value))}
    return known | set(words_in_name(facts.get("title", "")))


def _words(text: str) -> list[str]:
    """The words of a text in lower case, without numbers and what stands with them."""
    text = re.sub(
        r"\b(?:recorded|recording|captured|taped|filmed|sampled|mastered|processed)\s+"
        r"(?:with|using|on|by|in|at|via|through|from)\b[^.:;\r\n]*",
        " ",
        _ADDRESS.sub(" ", text),
        flags=re.IGNORECASE,
    )
    text = re.sub(r"\b\d[\d.,/]*\s?(?:k?hz|kbps|bits?|d[bB])\b", " ", text, flags=re.IGNORECASE)
    words = []
    for run in _split(text.lower()):
        # creak03 is the third creak, H4n a recorder.
        match = re.fullmatch(r"(\D{3,})\d+|(\D+)", run)
        word = (match[1] or match[2]) if match else ""
        # A lone letter is an article or the number of a take, but in Chinese it can be a word.
        if any(map(str.isalpha, word)) and (len(word) > 1 or not word.isascii()):
            words.append(word)
    return words


def _split(text: str) -> list[str]:
    """Runs of letters, marks and digits, with the apostrophes within them."""
    # Python's \w has no marks, which are parts of words in many scripts.
    kept = "".join(
        c if unicodedata.category(c)[0] in "LMN" or c in "'’" or c in _JOINERS else " "
        for c in texts.normal(text)
    )
    return [word for word in (run.strip("'’" + _JOINERS) for run in kept.split()) if word]


def _letter_runs(text: str) -> list[str]:
    return [word for run in _split(text) for word in re.split(r"[\d'’]+", run) if word]


def _plain(text: str) -> str:
    """A text out of HTML or Markdown, without addresses."""
    text = _strip_markup(_outside(_unescape(text)))
    return _ADDRESS.sub(" ", re.sub(r"<[^<>]*>", " ", text))


def _unescape(text: str) -> str:
    """Entities as characters, those that were escaped twice, too."""
    for _ in range(3):
        text = re.sub(
            r"&(?:#\d{1,7}|#x[\da-f]{1,6}|[a-z][a-z\d]{1,31});",
            lambda entity: html.unescape(entity[0]),
            text,
            flags=re.IGNORECASE,
        )
    return text


def _strip_markup(text: str) -> str:
    text = re.sub(rf"</?(?:{_BLOCK})\b[^<>]*>", "\n", text, flags=re.IGNORECASE)
    return re.sub(rf"</?(?:{_INLINE})\b[^<>]*>", "", text, flags=re.IGNORECASE)


def _final_answer(text: str) -> str:
    """What a model says at last: after what it thought, in the last element that names it."""
    if "<|channel|>" in text:
        finals = list(_FINAL.finditer(text))
        text = text[finals[-1].end() :] if finals else ""
    text = re.sub(r"\A\s*analysis.*assistantfinal", "", text, flags=re.DOTALL)  # without its marks
    text = _outside(text)
    text = re.sub(rf"\A(?:\s*(?:{_TOKEN})(?:\s*(?:assistant|model)\b)?)+", "", text)
    text = re.split(_TOKEN, text)[0]
    name = r"(?:answer|caption|final|output|phrase|response|result)"
    *_, said = re.split(rf"<{name}\b[^<>]*>", text, flags=re.IGNORECASE)
    return re.split(rf"</{name}\s*>", said, flags=re.IGNORECASE)[0]


def _outside(text: str) -> str:
    """A text without what stands between the marks of `_HIDDEN`, closed or not."""
    kept, start, inside = [], 0, None
    for mark in _MARKS.finditer(text):
        kind = mark.lastgroup
        if inside is None and kind in _HIDDEN:
            kept.append(text[start : mark.start()])
            inside = kind
        elif kind == f"end_{inside}":
            inside, start = None, mark.end()
        elif inside is None and kind == "end_thought":  # whose beginning was in the question
            kept, start = [], mark.end()
    if inside is None:
        kept.append(text[start:])
    return " ".join(kept)
