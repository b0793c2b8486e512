"""Write a caption for a recording from its metadata: tags, title, description.

    Template   puts the words of the metadata into a phrase
    Endpoint   asks a server that speaks the OpenAI protocol: vLLM, Ollama, llama.cpp, a provider
    Local      runs a text-generation model of transformers on this machine

A writer is a callable, (facts, seed) -> text, with a `name`. `captioning` checks what it writes.
When a writer is pickled, the other process makes it once from the same arguments: a model is loaded
once per process, and each process keeps the limit on requests per second for itself.
"""

import functools
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

import httpx
import tenacity

from flamlib.distributions import KeyedRandom

Facts = Mapping[str, str]  # tags, title and description of a recording

PROMPT = """\
You name sounds. Given what is known of one short recording, write one plain English phrase of
2 to 13 words that says what is heard and, if it is known, what makes the sound. Present tense,
lower case, no full stop. Name a single event: nothing that comes before or after it, nothing in
the background. Use only what is known; invent no place, no number and no second sound. Do not
mention files, recordings, microphones, loudness or feelings. Answer with the phrase alone.

tags: Dog; Bark; Domestic animals
a dog barks

title: metal_gate_creak_03
a metal gate creaks"""
TEMPLATES = ("{}", "the sound of {}", "{} is heard")
RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)  # HTTP status codes that are tried again


def facts_as_text(facts: Facts) -> str:
    """Return the facts as lines of the prompt."""
    return "\n".join(f"{key}: {value}" for key, value in facts.items() if value)


def words_in_name(text: str) -> list[str]:
    """Return the words of a title or file name in lower case.

    >>> words_in_name("field/MetalGate_creak-03.wav")
    ['metal', 'gate', 'creak']
    """
    name = re.sub(r"\.\w{2,4}$", "", text.rsplit("/", 1)[-1])
    return _words(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))


def words_from_facts(facts: Facts) -> list[str]:
    """Return the words of the title; if it has none, of the description; else the first two tags.

    >>> words_from_facts({"title": "0001.wav", "tags": "Dog; Bark"})
    ['dog', 'bark']
    >>> words_from_facts({"title": "0001.wav"})
    []
    """
    if words := words_in_name(facts.get("title", "")) or _words(facts.get("description", "")):
        return words
    tags = [tag for tag in facts.get("tags", "").split(";") if re.search(r"[^\W_]", tag)]
    return " ".join(tags[:2]).lower().split()


def _words(text: str) -> list[str]:
    # A lone letter is an article or the number of a take, but in Chinese it can be a word.
    words = re.findall(r"[^\W\d_]+", text.lower())
    return [word for word in words if len(word) > 1 or not word.isascii()]


@functools.cache
def _cached_writer(kind: type, arguments: tuple[tuple[str, Any], ...]) -> Any:
    """The writer of these arguments: one for this process."""
    return kind(**dict(arguments))


class Template:
    """Puts the first ten of `words_from_facts` into one of `TEMPLATES`.

    Raises ValueError for facts without a word.
    """

    name = "template"

    def __call__(self, facts: Facts, seed: int) -> str:
        words = words_from_facts(facts)
        if not words:
            raise ValueError(f"no word to write a caption from in {dict(facts)}")
        phrase = " ".join(words[:10])
        if len(words) < 2:
            return f"the sound of {phrase}"
        return KeyedRandom(seed, phrase).choice(TEMPLATES).format(phrase)


class Endpoint:
    """A chat model behind a URL.

    Connection errors, time-outs and the status codes `RETRIED` are tried again after `wait_s`
    seconds, then twice as many and so on, or as long as the server asks for (Retry-After).

    Args:
        url: of the server, such as http://localhost:11434/v1.
        model: its name on the server.
        key: sent as bearer token; None: no such header.
        per_second: at most so many requests a second.
        n_calls: attempts for one caption.
        timeout_s: of a request.
        temperature: of the sampling.
        wait_s: before the second attempt.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        per_second: float | int = 10.0,
        n_calls: int = 5,
        timeout_s: float | int = 60.0,
        temperature: float | int = 0.7,
        wait_s: float | int = 1.0,
    ):
        if per_second <= 0:
            raise ValueError(f"per_second: expected more than 0, got {per_second}")
        self._arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.name = f"{model} at temperature {temperature:g}"
        self.model, self.temperature, self.n_calls, self.wait_s = (
            model,
            temperature,
            n_calls,
            wait_s,
        )
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout_s)
        self._apart_s, self._next, self._lock = 1 / per_second, 0.0, threading.Lock()

    def __reduce__(self):
        return _cached_writer, (Endpoint, tuple(self._arguments.items()))

    def __call__(self, facts: Facts, seed: int) -> str:
        calls = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.n_calls),
            wait=self._wait,
            retry=tenacity.retry_if_exception(_may_pass),
            reraise=True,
        )
        return calls(self._ask, facts, seed)

    def _ask(self, facts: Facts, seed: int) -> str:
        self._wait_for_turn()
        body = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": PROMPT},
                {"role": "user", "content": facts_as_text(facts)},
            ],
            "temperature": self.temperature,
            "max_tokens": 40,
            "seed": seed,
        }
        answer = self._client.post("/chat/completions", json=body)
        answer.raise_for_status()
        try:
            return answer.json()["choices"][0]["message"]["content"] or ""
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{answer.url}: no chat completion: {answer.text[:200]!r}") from error

    def _wait_for_turn(self) -> None:
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._apart_s
        time.sleep(max(0.0, turn - time.monotonic()))

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error: Any = state.outcome.exception()
        after = getattr(getattr(error, "response", None), "headers", {}).get("retry-after", "")
        if after.isdigit():
            return min(float(after), 60.0)
        return self.wait_s * 2 ** (state.attempt_number - 1)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in RETRIED
    return isinstance(error, httpx.TransportError)


class Local:
    """A causal language model of transformers, from a folder or a hub.

    Uses the tokenizer's chat template if it has one. The same seed gives the same text on the same
    machine; threads take turns.
    """

    def __init__(self, model: str, *, temperature: float | int = 0.7, max_new_tokens: int = 40):
        import transformers

        self._arguments = model, temperature, max_new_tokens
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(model, dtype="auto").eval()
        self.name = f"{model} at temperature {temperature:g}"
        self._sampling: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False}
        if temperature > 0:
            self._sampling |= {"do_sample": True, "temperature": temperature}
        self._lock = threading.Lock()

    def __reduce__(self):
        names = "model", "temperature", "max_new_tokens"
        return _cached_writer, (Local, tuple(zip(names, self._arguments, strict=True)))

    def __call__(self, facts: Facts, seed: int) -> str:
        import torch

        if self._tokenizer.chat_template:
            messages = [
                {"role": "system", "content": PROMPT},
                {"role": "user", "content": facts_as_text(facts)},
            ]
            text = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        else:
            text = f"{PROMPT}\n\n{facts_as_text(facts)}\n"
        tokens = self._tokenizer(text, return_tensors="pt").input_ids
        with self._lock, torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(seed)
            generated = self._model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
                **self._sampling,
            )
        return self._tokenizer.decode(generated[0, tokens.shape[1] :], skip_special_tokens=True)
