import asyncio
import gzip
import itertools
import json
import pickle
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import httpx
import pytest
import torch
from chat_server import Raw, Server, completion, raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from flamlib.data.corpus import caption_writers
from flamlib.data.corpus.caption_writers import PROMPT, Endpoint, Local, Template

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
    gone = f"{server.url}.*; is the server running, and the address right"
    with pytest.raises(httpx.ConnectError, match=gone):
        Endpoint(server.url, "m", n_calls=2, wait_s=0.01)(DOG, 0)


ODD = [  # answers with status 200 that are no completion
    {"error": "no"},
    *(completion(content) for content in (1, 0.5, True, {}, {"text": "a dog barks"}, ["a dog"])),
    {"choices": []},
    {"choices": {"0": "a dog barks"}},
    raw(b""),
    raw(b"\xff\xfe\xfd"),
    raw(b"[" * 200_000),
    raw(json.dumps(completion("x")).replace('"x"', "[" * 5000 + "]" * 5000).encode()),
    raw(json.dumps(completion(0)).replace("0", "9" * 5000).encode()),
    raw(b'data: {"choices": [{"delta": {"content": "a dog"}}]}\n\ndata: [DONE]\n\n'),
    raw(b"a dog barks", content_encoding="br"),
    raw(b"a dog barks", content_encoding="gzip"),
]


@pytest.mark.parametrize("answer", ODD, ids=range(len(ODD)))
def test_an_answer_without_a_text_is_named_and_not_asked_for_again(answer):
    why = r"/v1/chat/completions: no chat completion: "
    with Server(answer) as server, pytest.raises(ValueError, match=why):
        Endpoint(server.url, "m")(DOG, 0)
    assert len(server.asked) == 1


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.sampled_from([None, "choices", "message", "content"]))
def test_whatever_a_server_sends_is_a_text_or_an_error(server_of, content, within):
    answer = json.dumps(completion(content.decode("latin-1")))
    if within is not None:  # the bytes in place of some part of an answer
        before = answer.index(f'"{within}"') + len(within) + 4
        content = answer[:before].encode() + content + answer[before + 1 :].encode()
    server_of.answers = [raw(content)]
    said = None
    with suppress(ValueError):
        said = server_of.writer(DOG, 0)
    assert said is None or isinstance(said, str)


@pytest.fixture(scope="module")
def server_of():
    """A server, and who asks it without a pause."""
    with Server("") as server:
        server.writer = Endpoint(server.url, "m", per_second=1e6)
        yield server


def test_an_answer_without_words_is_empty():
    """As of a model that thought until it might write no more."""
    with Server(completion(None)) as server:
        assert Endpoint(server.url, "m")(DOG, 0) == ""


def test_a_packed_answer_is_read():
    content = json.dumps(completion("a dog barks")).encode()
    with Server(raw(gzip.compress(content), content_encoding="gzip")) as server:
        assert Endpoint(server.url, "m")(DOG, 0) == "a dog barks"


def drip(*pieces):
    """One blank after another, slower than a test and faster than any single read may be."""
    yield from pieces
    for _ in range(200):
        time.sleep(0.05)
        yield b" "


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD + b"content-length: 999\r\n\r\n",),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n \r\n",),
        (HEAD + b"x-slow: ",),
        (b"HTTP/1.1 503",),
        (b"HTTP",),
    ],
    ids=["body", "chunk", "header", "status", "begin"],
)
def test_the_whole_answer_has_to_come_in_time_however_it_drips(pieces):
    with Server(lambda _: Raw(drip(*pieces))) as server:
        started = time.monotonic()
        with pytest.raises(OSError, match=r"no whole answer within 0\.4 s"):
            Endpoint(server.url, "m", timeout_s=0.4, wait_s=0.01)(DOG, 0)
    assert time.monotonic() - started < 5
    assert len(server.asked) == 1  # the time is that of all attempts together


@pytest.mark.parametrize(
    "answer",
    [
        Raw(itertools.chain([HEAD + b"\r\n"], itertools.repeat(b" " * 65536))),
        raw(json.dumps(completion("a dog barks" * 100_000)).encode()),
        raw(gzip.compress(b" " * 50_000_000), content_encoding="gzip"),
        raw(b"\0" * 2_000_000, status="400 Bad Request"),
    ],
    ids=["endless", "long", "packed", "error"],
)
def test_an_answer_has_at_most_a_megabyte_packed_or_not(answer):
    why = "no chat completion: an answer of more than 1,000,000"
    with Server(answer) as server, pytest.raises(ValueError, match=why):
        Endpoint(server.url, "m")(DOG, 0)
    assert len(server.asked) == 1


def test_a_redirection_is_said_and_not_followed():
    again = raw(b"", status="307 Temporary Redirect", location="/v1")
    with Server(again) as server, pytest.raises(httpx.HTTPStatusError, match="307"):
        Endpoint(server.url, "m")(DOG, 0)
    assert len(server.asked) == 1


def test_what_a_server_says_of_its_error_is_said_in_one_line():
    content = b'{"error": {"message":\n"model \'m\' not found"}}'
    answer, why = raw(content, status="404 Not Found"), r"404 Not Found .*not found"
    with Server(answer) as server, pytest.raises(httpx.HTTPStatusError, match=why) as caught:
        Endpoint(server.url, "m")(DOG, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "localhost:11434/v1", "ftp://host", "http://", "http://a:99999", "http://a:b", "a b"],
)
def test_what_is_no_address_is_said_at_once(url):
    with pytest.raises(ValueError, match="is not the address of a server"):
        Endpoint(url, "m")


@pytest.mark.parametrize("key", ["sécret", "a\nb", "\0"])
def test_a_key_that_no_header_can_hold_is_not_shown(key):
    with pytest.raises(ValueError, match="the key of the server") as caught:
        Endpoint("http://localhost", "m", key=key)
    assert key not in str(caught.value)


def test_a_notebook_may_ask():
    """An event loop runs in its thread."""

    async def cell():
        return Endpoint(server.url, "m")(DOG, 0)

    with Server("a dog barks") as server:
        assert asyncio.run(cell()) == "a dog barks"


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
    for per_second in (0, -1, float("nan"), 1e-300):
        with pytest.raises(ValueError, match="per_second"):
            Endpoint(server.url, "m", per_second=per_second)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A causal language model that knows nothing, with a vocabulary of its own."""
    folder = tmp_path_factory.mktemp("llm")
    words = ["<unk>", "</s>", "<s>", "a", "dog", "barks", "rain", "falls", "on", "the", "roof"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", words.index("<s>"))]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
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


TEMPLATES = {  # of chats, as they are found
    "with a beginning": "{{ bos_token }}{% for m in messages %} {{ m.content }}\n{% endfor %}",
    "without": "{% for m in messages %}{{ m.content }}\n{% endfor %}",
    "no system": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %} {{ messages[0].content }}"
    ),
    "thinks": (
        "{{ bos_token }}{% for m in messages %} {{ m.content }}\n{% endfor %}"
        "{% if enable_thinking is not defined or enable_thinking %} </s>{% endif %}"
    ),
}


@pytest.mark.parametrize("kind", [None, *TEMPLATES])
def test_a_model_is_asked_with_one_beginning(tiny_model, monkeypatch, kind):
    writer = Local(str(tiny_model), max_new_tokens=2)
    writer._tokenizer.chat_template = TEMPLATES.get(kind)
    asked = []
    generate = writer._model.generate
    monkeypatch.setattr(
        writer._model, "generate", lambda ids, **k: asked.append(ids) or generate(ids, **k)
    )
    writer({"tags": "dog barks"}, 0)
    [[ids]] = [batch.tolist() for batch in asked]
    tokens = writer._tokenizer.convert_ids_to_tokens(ids)
    assert tokens.count("<s>") == (kind != "without")
    assert tokens[0] == "<s>" or kind == "without"
    assert "</s>" not in tokens  # it was not asked to think
    assert tokens[-2:] == ["dog", "barks"]


def test_a_chat_template_that_cannot_be_filled_in_is_named(tiny_model):
    writer = Local(str(tiny_model))
    writer._tokenizer.chat_template = "{{ raise_exception('tools are required') }}"
    with pytest.raises(ValueError, match="chat template cannot be filled in: tools are required"):
        writer(DOG, 0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"no tensors"),
        ("config.json", b"[]"),
        ("config.json", b"{}"),
        ("config.json", b'{"model_type": "llama", "hidden_size": "wide"}'),
        ("tokenizer.json", b"{}"),
    ],
)
def test_a_damaged_folder_of_a_model_is_named(tiny_model, tmp_path, name, content):
    for path in tiny_model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises((OSError, ValueError), match=str(tmp_path)):
        Local(str(tmp_path))


def test_code_of_a_models_own_is_never_run(tiny_model, tmp_path):
    for path in tiny_model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises((OSError, ValueError), match=r"trust_remote_code|custom code"):
        Local(str(tmp_path))
    assert not (tmp_path / "ran").exists()


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
