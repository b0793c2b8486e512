import dataclasses
import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny
import torch
from sounds import (
    FOREGROUNDS,
    RATE,
    mixture_config,
    noise,
    variants_config,
    write_data,
)

from flamlib.compute import distributions
from flamlib.data import batches
from flamlib.data.batches import Batches
from flamlib.data.datasets.annotations import AnnotatedSet, Clip
from flamlib.data.mixtures import bank, mixing, recipes, strong
from flamlib.data.mixtures.lexicon import COLUMNS, Lexicon
from flamlib.data.pairs import Pairs
from flamlib.sound_events.events import Event, active_frames, count_frames

RULES = mixture_config(
    {},
    clip_s=2.56,
    max_event_s=2.0,
    fragment_prob=0.2,
    repeat_prob=0.2,
    min_snr_db=None,
)
N_MIXTURES = 10
PARENTS = {"tone": "something tonal", "siren": "something tonal", "click": "something short"}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    settings = {"seed": 0, "sample_rate": RATE, "clip_s": 10.0, "variants": variants_config()}
    bank.build(write_data(folder / "data"), folder / "bank", **settings, n_jobs=1, progress=False)
    return bank.Bank.open(folder / "bank")


@pytest.fixture(scope="module")
def mixtures(sounds):
    return [mixing.draw(sounds, RULES, seed=0, split="train", index=i) for i in range(N_MIXTURES)]


def lexicon(parents=PARENTS):
    captions = {caption: family for _, caption, family, *_ in FOREGROUNDS.values()}
    rows = [
        [caption, family, "train", f"{caption}|the sound of {caption}", parents.get(family, "")]
        for caption, family in captions.items()
    ]
    return Lexicon(pd.DataFrame(rows, columns=COLUMNS))


@pytest.fixture(scope="module")
def steps(sounds, mixtures):
    """Build batches of these settings, with changes."""
    train = {
        "n_steps": 20,
        "batch_size": 4,
        "pair_batch_size": 4,
        "pair_s": 1.28,
        "pair_background_prob": 0.5,
        "n_hypernyms": 1,
        "wording_prob": 0.5,
    }
    settings = {
        "bank": sounds,
        "lexicon": lexicon(),
        "mixtures": mixtures,
        "sets": (),
        "set_shares": (),
        "mixture": RULES,
        "split": "train",
        "seed": 7,
        "n_frames": 8,
        "frame_s": 0.32,
        "uses_mixtures": True,
        "uses_pairs": True,
        "rank": 0,
        "n_ranks": 1,
    }

    def make(**changes):
        own = {name: value for name, value in changes.items() if name not in settings}
        others = {name: value for name, value in changes.items() if name in settings}
        used = settings | others
        shared = {"train": tiny.config(**train | own).train, "mixture": used["mixture"]}
        pairs = Pairs(bank=used["bank"], split=used.pop("split"), seed=used["seed"], **shared)
        return Batches(pairs=pairs, **used | shared)

    return make


def same(one, other):
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(one, other, strict=True)
    )


def rows(batches, step):
    """The mixtures that this rank hears."""
    return [row for _, row in batches.step_slots(step)][batches.rank :: batches.n_ranks]


def caption_of(text):
    return text.removeprefix("the sound of ")


def test_a_step_is_the_same_whenever_and_wherever_it_is_taken(steps):
    forwards, again = steps(), pickle.loads(pickle.dumps(steps()))
    taken = [forwards[step] for step in range(6)]
    for step in (5, 0, 3):
        assert same(again[step], taken[step])
    assert not same(taken[0], taken[1])
    assert not same(steps(seed=8)[0], taken[0])


def test_each_pass_sees_every_mixture_once_in_another_order(steps):
    """Also where a step begins in one pass and ends in the next."""
    taken = [row for step in range(5) for row in rows(steps(), step)]
    first, second = taken[:N_MIXTURES], taken[N_MIXTURES:]
    assert sorted(first) == sorted(second) == [*range(N_MIXTURES)]
    assert first != second


@pytest.mark.parametrize("n_ranks", [2, 4])
def test_processes_share_the_mixtures_of_a_step(steps, n_ranks):
    ranks = [steps(rank=rank, n_ranks=n_ranks) for rank in range(n_ranks)]
    for step in range(6):
        shared = [rows(rank, step) for rank in ranks]
        assert {len(some) for some in shared} == {4 // n_ranks}
        assert sorted(itertools.chain(*shared)) == sorted(rows(steps(), step))


@pytest.mark.parametrize("n_ranks", [2, 3, 4])
@pytest.mark.parametrize("step", range(3))
def test_a_step_is_the_same_however_many_processes_share_it(steps, n_ranks, step):
    """Its clips, pairs, captions and labels; and each caption is read by one of them."""
    whole = steps(batch_size=12)[step]
    shares = [steps(batch_size=12, rank=r, n_ranks=n_ranks)[step] for r in range(n_ranks)]
    for r, share in enumerate(shares):
        assert (share.queries, share.texts) == (whole.queries, whole.texts)
        for name in ("audio", "active", "known", "pair_audio"):
            assert torch.equal(getattr(share, name), getattr(whole, name)[r::n_ranks]), name
        assert share.pair_captions == whole.pair_captions[r::n_ranks]
    read = [query for share in shares for query in share.queries[share.own]]
    assert sorted(read) == sorted(whole.queries)


def test_pairs_are_of_the_split_that_is_asked_for(steps, sounds):
    valid = {caption for _, caption, _, split, *_ in FOREGROUNDS.values() if split == "valid"}
    for step in range(3):
        assert {caption_of(t) for t in steps(split="valid")[step].pair_captions} <= valid
    assert not steps(split="nowhere", pair_background_prob=0.0)[0].pair_captions


def test_recordings_longer_than_the_backgrounds_are_refused(steps, sounds):
    longer = sounds.clip_s + 0.1
    with pytest.raises(ValueError, match=r"pair_s .* is longer than clip_s .*, for which backgr"):
        steps(pair_s=longer)
    steps(pair_s=longer, pair_background_prob=0.0)
    steps(pair_s=longer, uses_pairs=False)


def test_backgrounds_that_are_not_there_are_missed_before_the_first_step(steps):
    with pytest.raises(ValueError, match="no backgrounds of split 'nowhere'"):
        steps(split="nowhere")


def test_mixtures_of_another_length_are_refused(steps):
    with pytest.raises(ValueError, match=r"of 40960 samples, where those of 5.12 s have 81920"):
        steps(mixture=dataclasses.replace(RULES, clip_s=5.12))


def test_the_waveforms_are_the_mixtures(steps, sounds, mixtures):
    batch = steps()[2]
    assert batch.audio.dtype == batch.pair_audio.dtype == torch.float32
    for waveform, row in zip(batch.audio, rows(steps(), 2), strict=True):
        assert torch.equal(waveform, torch.from_numpy(recipes.render(sounds, mixtures[row])))


@pytest.mark.parametrize("frame_s", [0.32, 0.4])  # 0.4: the last frame has 0.16 s of the clip
@pytest.mark.parametrize("step", range(5))
def test_labels_are_those_of_the_mixtures(steps, mixtures, step, frame_s):
    """A caption is active where its events are, in the clips of this step and in their order."""
    frames = {"n_frames": count_frames(RULES.clip_s, frame_s), "frame_s": frame_s}
    batch = steps(n_hypernyms=0, **frames)[step]
    assert list(map(caption_of, batch.texts)) == batch.queries
    for i, row in enumerate(rows(steps(), step)):
        own = active_frames(mixtures[row].labels, batch.queries, clip_s=RULES.clip_s, **frames)
        np.testing.assert_array_equal(batch.active[i], own)
    assert batch.known.shape == batch.active.shape[:2]


def test_what_sounds_to_the_end_of_a_clip_is_active_in_its_last_frame(steps, mixtures):
    """Of seven frames of 0.4 s a clip of 2.56 s has 0.16 s of the last."""
    lasting = [mixtures[0]._replace(labels=(Event(1.0, RULES.clip_s, "a tone"),))]
    batch = steps(mixtures=lasting, batch_size=1, n_hypernyms=0, n_frames=7, frame_s=0.4)[0]
    assert batch.active[0, batch.queries.index("a tone")].tolist() == [False, False] + [True] * 5


@pytest.mark.parametrize("step", range(5))
def test_queries_are_what_sounds_in_the_step_and_some_parents(steps, mixtures, step):
    batch = steps()[step]
    sounding = {e.caption for row in rows(steps(), step) for e in mixtures[row].labels}
    queries = batch.queries
    parents = {parent for c in sounding for parent in steps().lexicon.parents[c]}
    assert set(queries) >= sounding
    assert len(queries) == len(set(queries)) == len(sounding) + min(1, len(parents))
    assert set(queries) - sounding <= parents
    assert len(steps(n_hypernyms=9)[step].queries) == len(sounding) + len(parents)


def test_a_parent_that_is_a_caption_is_asked_once(steps):
    """A corpus may hold both "a tone" and captions of which it is true."""
    known = lexicon({"siren": "a tone", "bell": "a tone"})
    for step in range(5):
        queries = steps(lexicon=known, n_hypernyms=9)[step].queries
        assert len(queries) == len(set(queries))


def test_words_are_the_querys_own(steps):
    wordings = {text for texts in lexicon().wordings.values() for text in texts}
    for step in range(6):
        batch = steps()[step]
        assert {*batch.texts, *batch.pair_captions} <= wordings


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_as_many_queries_are_worded_otherwise_as_is_asked(steps, share):
    """Of two wordings one is the query itself, so that half of those that are drawn stay."""
    drawn = steps(wording_prob=share, n_hypernyms=0)
    texts = [t for step in range(20) for t in (*drawn[step].texts, *drawn[step].pair_captions)]
    others = sum(caption_of(text) != text for text in texts)
    assert others / len(texts) == pytest.approx(share / 2, abs=0.1 if share else 0)


def test_no_caption_is_true_of_two_pairs(steps):
    family_of = dict(zip(lexicon().table["caption"], lexicon().table["family"], strict=True))
    for step in range(8):
        families = [family_of[caption_of(text)] for text in steps()[step].pair_captions]
        assert len(families) == len(set(families)) == 4


def test_a_pair_is_a_recording_and_its_own_caption(steps, sounds):
    """Without backgrounds and repeats, what is heard is the recording up to its gain."""
    train = sounds.sources.query("role == 'foreground' and split == 'train'")
    drawn = steps(pair_background_prob=0.0)
    for step in range(3):
        pairs = drawn.pairs.draw(step, distributions.generator(step))
        for recipe in [drawn.pairs.recipe(pair) for pair in pairs]:
            assert recipe.background is None
            [event] = recipe.events
            assert event.clip_id in set(train["clip_id"])
            assert event.caption == FOREGROUNDS[event.clip_id][1]


def test_there_are_no_more_pairs_than_families(steps):
    batch = steps(pair_batch_size=100)[0]
    n_families = len(
        {family for _, _, family, split, _ in FOREGROUNDS.values() if split == "train"}
    )
    assert len(batch.pair_captions) == len(batch.pair_audio) == n_families


def test_an_objective_may_do_without_pairs_or_without_mixtures(steps):
    no_pairs = steps(pair_batch_size=0)[1]
    assert no_pairs.pair_audio.shape == (0, round(1.28 * RATE))
    assert no_pairs.pair_captions == []
    assert same(no_pairs[:1], steps()[1][:1])
    no_mixtures = steps(batch_size=0)[1]
    assert no_mixtures.audio.shape == (0, round(2.56 * RATE))
    assert no_mixtures.active.shape == (0, 0, 8)
    assert len(no_mixtures.pair_captions) == 4


def test_clips_without_any_event_ask_nothing(steps, mixtures):
    empty = [m._replace(events=(), labels=()) for m in mixtures]
    batch = steps(mixtures=empty)[0]
    assert batch.queries == []
    assert batch.active.shape == (4, 0, 8)


def test_what_is_audible_in_a_background_is_not_known(steps, sounds, mixtures):
    siren, tone = Event(0.0, 1.0, "a siren wails on"), Event(1.0, 2.0, "a tone")
    behind = recipes.Background("sirens", 0, 0, 0.1, -45.0)
    heard = mixtures[0]._replace(background=behind, labels=(siren, tone))
    assert recipes.audible_families(sounds, heard) == {"siren"}
    assert recipes.audible_families(sounds, heard._replace(background=None)) == set()
    batch = steps(mixtures=[heard], n_hypernyms=9)[0]
    known = dict(zip(batch.queries, batch.known[0].tolist(), strict=True))
    assert known == {"a siren wails on": False, "a tone": True, "something tonal": False}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A closed set, one of whose captions is a parent in the corpus, and one of free text."""
    folder = tmp_path_factory.mktemp("sets")
    texts = {
        "closed": [("something tonal", 0.0, 1.0), ("speech", 1.0, 2.0), ("speech", 0.5, 1.5)],
        "free": [("a tone", 0.0, 2.56), ("someone hums to herself", 1.0, 2.0)],
    }
    annotated = []
    for name, events in texts.items():
        clips = []
        for i, (caption, onset, offset) in enumerate(events):
            path = folder / f"{name}-{i}.wav"
            soundfile.write(path, noise(2.56, seed=i), RATE)
            clips.append(Clip(path.name, path, 2.56, [Event(onset, offset, caption)]))
        captions = sorted({caption for caption, *_ in events})
        annotated.append(AnnotatedSet(name, "sed", clips, captions, closed=name == "closed"))
    how = {"sample_rate": RATE, "clip_s": 2.56, "n_jobs": 1, "progress": False}
    strong.build(annotated, folder / "strong", **how)
    return [strong.StrongSet.open(folder / "strong" / name) for name in texts]


@pytest.fixture
def mixed(steps, sets):
    """`steps` whose clips are one half mixtures, three tenths of the closed set."""
    words = lexicon()
    words = Lexicon(words.table, frozenset().union(*(each.captions for each in sets)))
    return lambda **changes: steps(
        **{"sets": sets, "set_shares": (0.3, 0.2), "lexicon": words} | changes
    )


def test_without_sets_mixtures_are_what_they_were_before_there_were_any(steps):
    """Passes in an order that the seed and the number of the pass alone decide."""
    orders = [distributions.generator(7, "epoch", i).permutation(N_MIXTURES) for i in range(2)]
    taken = [slot for step in range(5) for slot in steps().step_slots(step)]
    assert taken == [(0, int(row)) for row in np.concatenate(orders)]


def test_clips_come_from_the_sets_in_their_shares(mixed):
    batches, n_steps = mixed(batch_size=12), 500
    slots = [slot for step in range(n_steps) for slot in batches.step_slots(step)]
    n = len(slots)
    for number, share in ((0, 0.5), (1, 0.3), (2, 0.2)):
        found = sum(a == number for a, _ in slots)
        assert abs(found - share * n) < 4 * (share * (1 - share) * n) ** 0.5
        # And the clips of one alike.
        clips = [row for a, row in slots if a == number]
        size = [N_MIXTURES, 3, 2][number]
        counts = np.bincount(clips, minlength=size)
        assert len(counts) == size
        assert np.abs(counts - found / size).max() < 4 * (found / size) ** 0.5
    alone = mixed(set_shares=(0.6, 0.4), batch_size=12)
    assert {a for step in range(50) for a, _ in alone.step_slots(step)} == {1, 2}


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_a_step_with_sets_is_the_same_whenever_and_by_however_many(mixed, n_ranks):
    whole = [mixed(batch_size=12)[step] for step in range(4)]
    for r in range(n_ranks):
        share = pickle.loads(pickle.dumps(mixed(batch_size=12, rank=r, n_ranks=n_ranks)))
        for step in (3, 0, 2):
            one = share[step]
            assert one.texts == whole[step].texts
            for name in ("audio", "active", "known"):
                assert torch.equal(getattr(one, name), getattr(whole[step], name)[r::n_ranks])


def test_what_is_known_of_a_clip_is_a_matter_of_its_set(mixed, sets, mixtures, sounds):
    batches, seen = mixed(batch_size=12), set()
    for step in range(6):
        batch = batches[step]
        for i, (number, row) in enumerate(batches.step_slots(step)):
            clip = [mixtures, *(each.clips for each in sets)][number][row]
            bank = sets[number - 1].bank if number else sounds
            heard = torch.from_numpy(recipes.render(bank, clip))
            assert torch.equal(batch.audio[i], heard)
            known = dict(zip(batch.queries, batch.known[i].tolist(), strict=True))
            if number == 0:
                assert not known.get("speech")
                assert not known.get("someone hums to herself")
                assert any(known.values())
            elif number == 1:
                assert {q for q in known if known[q]} == {*known} & {"something tonal", "speech"}
            else:
                assert {q for q in known if known[q]} == {clip.labels[0].caption}
            for j, query in enumerate(batch.queries):
                if number and known[query]:
                    frames = active_frames(
                        clip.labels, [query], n_frames=8, frame_s=0.32, clip_s=2.56
                    )
                    assert batch.active[i, j].tolist() == frames[0].tolist()
            seen.add(number)
    assert seen == {0, 1, 2}


def test_hard_negatives_and_wordings_take_captions_of_sets(mixed):
    batch = mixed(batch_size=12, n_hard_negatives=3, wording_prob=1.0, set_shares=(0.5, 0.5))[0]
    assert {"speech", "someone hums to herself"} <= set(batch.queries)
    assert {"speech", "someone hums to herself"} <= set(batch.texts)


def test_a_reader_is_told_which_clips_a_step_is_of(mixed):
    batches = mixed(batch_size=12)
    kinds = {name.split()[0] for name in batches.names(0)}
    assert kinds == {"synthetic", "closed", "free"}
    assert len(batches.names(0)) == 12


def test_a_set_for_clips_of_another_length_is_refused(mixed):
    with pytest.raises(ValueError, match=r"clips of 40960 samples.*make them again with 02_mix"):
        mixed(mixture=dataclasses.replace(RULES, clip_s=1.28), mixtures=[])


def test_there_are_as_many_steps_as_asked_for(steps):
    assert len(steps(n_steps=3)) == 3


@pytest.mark.parametrize("n_ranks", [1, 2])
@pytest.mark.parametrize("hears", [(True, True), (True, False), (False, True), (False, False)])
def test_what_is_not_heard_leaves_the_rest_as_it_is(steps, hears, n_ranks):
    flags = dict(zip(("uses_mixtures", "uses_pairs"), hears, strict=True))
    mixtures = {"audio", "active", "known"} if not hears[0] else set()
    unheard = mixtures | ({"pair_audio"} if not hears[1] else set())
    here = {"n_ranks": n_ranks, "rank": n_ranks - 1, "n_hard_negatives": 2}
    for step in range(3):
        some, whole = steps(**here, **flags)[step], steps(**here)[step]
        for name in batches.Batch._fields:
            one, other = getattr(some, name), getattr(whole, name)
            if name in unheard:
                assert one.shape == (0, *other.shape[1:]), name
            else:
                assert same([one], [other]), name


def test_hard_negatives_are_asked_and_are_never_true(steps):
    plain, drawn = steps(), steps(n_hard_negatives=3)
    asked = 0
    for step in range(6):
        batch, without = drawn[step], plain[step]
        n = len(without.queries)
        assert len(batch.queries) >= n
        assert not batch.active[:, n:].any()
        assert torch.equal(batch.active[:, :n], without.active)
        assert len(set(batch.queries)) == len(batch.queries)
        asked += len(batch.queries) - n
    assert asked


@pytest.mark.parametrize("max_captions_per_clip", [1, 2])
def test_a_mixture_brings_no_more_captions_along_than_it_has_slots(steps, max_captions_per_clip):
    """Which ones is drawn, and it does not move what else is; labels are of all its sounds."""
    batches, whole = (
        steps(n_hypernyms=0, max_captions_per_clip=max_captions_per_clip),
        steps(n_hypernyms=0),
    )
    asked = set()
    for step in range(4):
        some, every = batches[step], whole[step]
        sounding = {q for j, q in enumerate(every.queries) if every.active[:, j].any()}
        assert set(some.queries) <= sounding
        assert len(some.queries) <= max_captions_per_clip * batches.train.batch_size
        assert some.pair_audio.equal(every.pair_audio)
        for j, query in enumerate(some.queries):
            assert some.active[:, j].equal(every.active[:, every.queries.index(query)])
        asked |= set(some.queries)
    assert asked
