"""Write a caption for a recording from its metadata: tags, title, description.

    Template   puts the words of the metadata into a phrase
    Endpoint   asks a server that speaks the OpenAI protocol: vLLM, Ollama, llama.cpp, a provider
    Local      runs a text-generation model of transformers on this machine

A writer is a callable, (facts, seed) -> text, with a `name`. `captioning` checks what it writes.
When a writer is pickled, the other process makes it once from the same arguments: a model is loaded
once per process, and each process keeps the limit on requests per second for itself.
"""

import asyncio
import functools
import json
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import tenacity

from flamlib.compute.distributions import KeyedRandom
from flamlib.data.corpus.caption_rules import Facts, find_violation, words_from_facts

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
MAX_BYTES = 1_000_000  # of a server's answer, packed or unpacked
MAX_TOKENS = 1024  # of an answer: a phrase has forty, but some models think before they write it


def facts_as_text(facts: Facts) -> str:
    """Return the facts as lines of the prompt."""
    return "\n".join(f"{key}: {value}" for key, value in facts.items() if value)


@functools.cache
def _cached_writer(kind: type, arguments: tuple[tuple[str, Any], ...]) -> Any:
    """The writer of these arguments: one for this process."""
    return kind(**dict(arguments))


class Template:
    """Puts the first ten of `words_from_facts` into one of `TEMPLATES`.

    Raises ValueError for facts without a word, and where that breaks a rule of a caption.
    """

    name = "template"

    def __call__(self, facts: Facts, seed: int) -> str:
        words = words_from_facts(facts)
        if not words:
            raise ValueError(f"no word to write a caption from in {str(dict(facts))[:200]}")
        phrase = " ".join(words[:10])
        template = KeyedRandom(seed, phrase).choice(TEMPLATES if len(words) > 1 else TEMPLATES[1:2])
        caption = template.format(phrase)
        if why := find_violation(caption, facts):
            raise ValueError(f"no caption can be written from the metadata: {caption!r} has {why}")
        return caption


class Endpoint:
    """A chat model behind a URL.

    Connection errors and the status codes `RETRIED` are tried again after `wait_s` seconds, then
    twice as many and so on, or as long as the server asks for (Retry-After, at most a minute). A
    redirection is not followed.

    Args:
        url: of the server, such as http://localhost:11434/v1.
        model: its name on the server.
        key: sent as bearer token; None: no such header.
        per_second: at most so many requests a second.
        n_calls: attempts for one caption.
        timeout_s: of all requests for one caption together, up to the last byte of the answer.
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
        if not per_second >= 1e-3:
            raise ValueError(f"per_second: expected 0.001 or more, got {per_second}")
        _check_address(url)
        if key is not None and not (key.isascii() and key.isprintable()):
            raise ValueError("the key of the server holds characters that no key has")
        self._arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.name = f"{model} at temperature {temperature:g}"
        self.model, self.temperature, self.n_calls, self.wait_s = (
            model,
            temperature,
            n_calls,
            wait_s,
        )
        self.timeout_s, self._url = timeout_s, f"{url.rstrip('/')}/chat/completions"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._certificates = httpx.create_ssl_context()  # takes longer than a short request
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
        left_s = self.timeout_s

        def call() -> str:
            nonlocal left_s
            self._wait_for_turn()
            started = time.monotonic()
            try:
                return self._ask(facts, seed, left_s)
            finally:
                left_s -= time.monotonic() - started

        return calls(call)

    def _ask(self, facts: Facts, seed: int, timeout_s: float) -> str:
        body = {
            "model": self.model,
            "messages": _messages(facts),
            "temperature": self.temperature,
            "max_tokens": MAX_TOKENS,
            "seed": seed,
        }
        # In a thread of its own: the event loop of a notebook's thread is running already.
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(asyncio.run, self._post(body, timeout_s)).result()
        if answer.status_code != httpx.codes.OK:
            raise httpx.HTTPStatusError(
                f"{self._url}: {answer.status_code} {answer.reason_phrase} {_shown(answer)}",
                request=httpx.Request("POST", self._url),
                response=answer,
            )
        try:
            text = json.loads(answer.content)["choices"][0]["message"]["content"]
            if not isinstance(text, str | None):
                raise TypeError(f"content is {type(text).__name__}")
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{self._url}: no chat completion: {_shown(answer)}") from error
        return text or ""

    async def _post(self, body: dict[str, Any], timeout_s: float) -> httpx.Response:
        """The whole answer: at most `MAX_BYTES`, within `timeout_s`, however slowly it comes."""
        # Neither httpx nor a socket has a limit for the whole of an answer, only for each read.
        try:
            async with (
                asyncio.timeout(timeout_s),
                httpx.AsyncClient(
                    headers={"Accept-Encoding": "gzip"} | self._headers,
                    timeout=None,
                    verify=self._certificates,
                ) as client,
                client.stream("POST", self._url, json=body) as answer,
            ):
                packed = b""
                async for piece in answer.aiter_raw():
                    packed += piece
                    if len(packed) > MAX_BYTES:
                        raise ValueError(self._too_large)
        except httpx.TransportError as error:
            raise type(error)(
                f"{self._url}: {str(error) or type(error).__name__}; is the server running, and "
                "the address right?"
            ) from error
        except TimeoutError as error:
            raise TimeoutError(
                f"{self._url}: no whole answer within {self.timeout_s:g} s; is it too slow, "
                "or still loading the model?"
            ) from error
        headers = dict(answer.headers)
        content = self._unpacked(packed, headers.pop("content-encoding", "identity"))
        return httpx.Response(answer.status_code, headers=headers, content=content)

    def _unpacked(self, packed: bytes, encoding: str) -> bytes:
        if encoding.lower() == "identity":
            return packed
        if encoding.lower() != "gzip":
            raise ValueError(f"{self._url}: no chat completion: packed as {encoding!r}")
        try:
            content = zlib.decompressobj(wbits=31).decompress(packed, MAX_BYTES + 1)
        except zlib.error as error:
            raise ValueError(f"{self._url}: no chat completion: damaged gzip ({error})") from error
        if len(content) > MAX_BYTES:
            raise ValueError(self._too_large)
        return content

    @property
    def _too_large(self) -> str:
        return f"{self._url}: no chat completion: an answer of more than {MAX_BYTES:,} bytes"

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
    return isinstance(error, httpx.TransportError) and not isinstance(
        error, httpx.LocalProtocolError | httpx.UnsupportedProtocol
    )


def _check_address(url: str) -> None:
    """Raise ValueError for a text that is no address of a server."""
    try:
        address = httpx.URL(url)
        known = address.scheme in ("http", "https") and address.host
        if not known or (address.port or 0) > 65535:
            raise httpx.InvalidURL("expected http:// or https://, a host and perhaps a port")
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is not the address of a server: {error}") from error


def _shown(answer: httpx.Response) -> str:
    """The beginning of an answer, for a message."""
    return repr(answer.content[:200].decode(errors="replace"))


def _messages(facts: Facts) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": PROMPT},
        {"role": "user", "content": facts_as_text(facts)},
    ]


class Local:
    """A causal language model of transformers, from a folder or a hub.

    Uses the tokenizer's chat template if it has one, and asks it to let the model answer without
    thinking. The same seed gives the same text on the same machine; threads take turns.

    Raises OSError or ValueError for a folder without such a model, and for one that needs code of
    its own: that is never run.
    """

    def __init__(self, model: str, *, temperature: float | int = 0.7, max_new_tokens: int = 40):
        import transformers

        self._arguments = model, temperature, max_new_tokens
        safely = {"trust_remote_code": False}  # else transformers may ask on the terminal
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(model, **safely)
            self._model = transformers.AutoModelForCausalLM.from_pretrained(
                model, dtype="auto", **safely
            ).eval()
        except OSError:
            raise
        except Exception as error:  # of a damaged folder it can be any
            why = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{model}: no text-generation model of transformers could be loaded "
                f"({type(error).__name__}: {why})"
            ) from error
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
            tokens = self._chat(facts)
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

    def _chat(self, facts: Facts):
        """The ids of the question in the model's chat template."""
        import jinja2

        system, user = _messages(facts)
        together = {"role": "user", "content": f"{system['content']}\n\n{user['content']}"}
        for messages in ([system, user], [together]):
            try:
                # Not text for the tokenizer, which would add the tokens of a beginning once more.
                return self._tokenizer.apply_chat_template(
                    messages,
                    add_generation_prompt=True,
                    enable_thinking=False,  # a variable of some templates, unknown to the others
                    return_tensors="pt",
                ).input_ids
            except jinja2.TemplateError as error:  # those of Gemma and Mistral have no "system"
                why = error
        raise ValueError(f"{self.name}: its chat template cannot be filled in: {why}") from why
