import pickle
import threading
from types import SimpleNamespace

import httpx
import pytest
import torch
from chat_server import Server
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from flamlib.data.corpus import caption_writers
from flamlib.data.corpus.caption_writers import PROMPT, Endpoint, Local, Template, words_in_name

DOG = {"tags": "Dog; Bark", "title": "Dog_Bark-02.wav"}


def test_a_server_is_asked_in_the_protocol():
    with Server("A dog barks.") as server:
        text = Endpoint(server.url + "/", "mixtral", key="secret", temperature=0.3)(DOG, 77)
    assert text == "A dog barks."
    [(path, body)] = server.asked
    assert path == "/v1/chat/completions"
    assert (body["model"], body["seed"], body["temperature"]) == ("mixtral", 77, 0.3)
    assert body["messages"] == [
        {"role": "system", "content": PROMPT},
        {"role": "user", "content": "tags: Dog; Bark\ntitle: Dog_Bark-02.wav"},
    ]
    assert server.keys == ["Bearer secret"]


def test_what_may_pass_is_asked_again():
    with Server(503, 429, "a dog barks") as server:
        assert Endpoint(server.url, "m", wait_s=0.01)(DOG, 0) == "a dog barks"
    assert len(server.asked) == 3
    assert server.keys == [None] * 3


def test_what_will_not_pass_is_said_at_once():
    with Server(401) as server, pytest.raises(httpx.HTTPStatusError, match="401"):
        Endpoint(server.url, "m")(DOG, 0)
    assert len(server.asked) == 1
    with Server(503) as server, pytest.raises(httpx.HTTPStatusError, match="503"):
        Endpoint(server.url, "m", n_calls=3, wait_s=0.01)(DOG, 0)
    assert len(server.asked) == 3
    with pytest.raises(httpx.ConnectError):  # the server above is gone
        Endpoint(server.url, "m", n_calls=2, wait_s=0.01)(DOG, 0)


def test_an_answer_without_a_choice_is_named():
    with Server({"error": "no"}) as server:
        writer = Endpoint(server.url, "m")
        with pytest.raises(ValueError, match=r"no chat completion: .*error"):
            writer(DOG, 0)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, so that no machine is too slow; it notes how long each waits."""
    clock = SimpleNamespace(monotonic=lambda: 100.0, waits=[])
    clock.sleep = clock.waits.append
    monkeypatch.setattr(caption_writers, "time", clock)
    return clock


def test_a_server_is_not_asked_more_often_than_allowed(clock):
    with Server("a dog barks") as server:
        writer = Endpoint(server.url, "m", per_second=20)
        threads = [threading.Thread(target=writer, args=(DOG, i)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.asked) == 6
    assert sorted(clock.waits) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25])
    with pytest.raises(ValueError, match="per_second"):
        Endpoint(server.url, "m", per_second=0)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A causal language model that knows nothing, with a vocabulary of its own."""
    folder = tmp_path_factory.mktemp("llm")
    words = ["<unk>", "</s>", "a", "dog", "barks", "rain", "falls", "on", "the", "roof"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("chat", [False, True])
def test_a_model_of_ones_own_writes_the_same_from_the_same_seed(tiny_model, chat):
    writer = Local(str(tiny_model), max_new_tokens=6, temperature=5.0)
    if chat:
        writer._tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    texts = [writer(DOG, seed) for seed in (1, 2, 3, 1)]
    assert texts[0] == texts[3]
    assert len(set(texts)) > 1
    assert torch.equal(torch.random.get_rng_state(), before)  # nobody else's luck was used
    calm = Local(str(tiny_model), temperature=0, max_new_tokens=6)
    assert calm(DOG, 1) == calm(DOG, 2)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (DOG, {"dog bark", "the sound of dog bark", "dog bark is heard"}),
        ({"tags": "Rain"}, {"the sound of rain"}),
        ({"tags": "Rain; Roof"}, {"rain roof", "the sound of rain roof", "rain roof is heard"}),
        ({"title": "0001.wav", "tags": "Rain"}, {"the sound of rain"}),
        (
            {"description": "rain / hail"},
            {"rain hail", "the sound of rain hail", "rain hail is heard"},
        ),
        ({"tags": "-; Rain"}, {"the sound of rain"}),
        ({"title": "雨.wav"}, {"the sound of 雨"}),
    ],
)
def test_a_template_says_what_is_known(facts, expected):
    said = {Template()(facts, seed) for seed in range(20)}
    assert said == expected
    assert Template()(facts, 3) == Template()(facts, 3)


@pytest.mark.parametrize("facts", [{"title": "0001.wav"}, {"tags": " ; -"}, {}])
def test_of_nothing_a_template_says_nothing(facts):
    with pytest.raises(ValueError, match="no word to write a caption from"):
        Template()(facts, 0)


def test_a_file_name_is_words():
    assert words_in_name("a/b/IceCube_Glass 03.flac") == ["ice", "cube", "glass"]
    assert words_in_name("犬の声.wav") == ["犬の声"]
    assert words_in_name("12.wav") == []


def test_all_who_are_sent_a_writer_share_one(clock):
    """Its pace is then that of the process, not of each who holds it."""
    with Server("a dog barks") as server:
        writer = Endpoint(server.url, "m", key="k", per_second=20, wait_s=0.5)
        first, second = (pickle.loads(pickle.dumps(writer)) for _ in range(2))
        assert first is second
        assert first.name == writer.name
        for _ in range(3):
            first({"tags": "Dog"}, 0)
            second({"tags": "Dog"}, 0)
    assert clock.waits == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25])
    assert server.keys == ["Bearer k"] * 6
