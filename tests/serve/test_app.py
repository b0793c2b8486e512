"""Of the service, as a program and as a browser meet it."""

import asyncio
import base64
import io
import shutil
import socket
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile
import uvicorn
from browsers import wait_until
from fastapi.testclient import TestClient
from heldouts import write_model
from sounds import RATE, noise, tone

from flamlib.inference import detector
from flamlib.models.flam import FLAM
from flamlib.search import archive, indexing
from flamlib.serve import app
from flamlib.serve.limits import Limits
from flamlib.serve.workspace import Workspace
from flamlib.sound_events import labels

CAPTIONS = ["a dog barks", "a bell rings"]
LIMITS = Limits(max_bytes=500_000, max_s=8.0, n_kept=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, a recording, and an index of it and of another."""
    folder = tmp_path_factory.mktemp("serve")
    write_model(folder / "model")
    (folder / "sounds").mkdir()
    sounds = np.concatenate([noise(2.0), tone(300, 1.5), tone(2000, 1.3)])
    soundfile.write(folder / "sounds/été.wav", sounds, RATE)
    soundfile.write(folder / "sounds/gone.wav", tone(700, 1.0), RATE)
    found = sorted((folder / "sounds").iterdir())
    indexing.update(
        folder / "model", found, folder / "index", forget=lambda _: False, model_name="m",
        n_jobs=1, progress=False,
    )  # fmt: skip
    (folder / "sounds/gone.wav").unlink()
    return folder, FLAM.from_pretrained(folder / "model")


@pytest.fixture
def client(world):
    folder, model = world
    served = Workspace(model, LIMITS, name="small", index=archive.read(folder / "index"))
    with TestClient(app.make(served), base_url="http://127.0.0.1:8000") as client:
        yield client


def wav(samples, **kind):
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", **kind)
    return file.getvalue()


def send(client, content, name="a.wav"):
    return client.post("/api/recordings", params={"name": name}, content=content)


def error(answer, status):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


def test_events_and_scores_are_those_of_flam_detect(client, world):
    folder, model = world
    path = folder / "sounds/été.wav"
    sent = send(client, path.read_bytes(), "C:\\night\\été.wav").json()
    assert (sent["name"], sent["note"]) == ("été.wav", None)
    answer = client.post(f"/api/recordings/{sent['id']}/scores", json={"captions": CAPTIONS})
    how = {"method": "unbiased", "smoothing": detector.smoothing_of(model)}
    expected = detector.score(model, path, CAPTIONS, **how)
    for of_caption, column in zip(answer.json()["captions"], expected.scores.T, strict=True):
        scores = np.frombuffer(base64.b64decode(of_caption["scores"]), "<f4")
        np.testing.assert_allclose(scores, column, atol=1e-6)
    assert [tuple(e.values()) for e in answer.json()["events"]] == [
        (pytest.approx(e.onset), pytest.approx(e.offset), e.caption, pytest.approx(e.score))
        for e in detector.detect(model, path, CAPTIONS)
    ]
    sound = client.get(f"/api/recordings/{sent['id']}/audio")
    assert sound.headers["content-type"] == "audio/mpeg"
    assert soundfile.info(io.BytesIO(sound.content)).duration == pytest.approx(4.8, abs=0.1)


def test_a_recording_is_heard_once_and_kept_until_others_take_its_place(client, world, monkeypatch):
    _, model = world
    heard, embed = [], model.embed_audio
    monkeypatch.setattr(model, "embed_audio", lambda *a: heard.append(1) or embed(*a))
    first = send(client, wav(noise(1.0))).json()["id"]
    for captions in (CAPTIONS, ["rain"]):
        client.post(f"/api/recordings/{first}/scores", json={"captions": captions})
    assert send(client, wav(noise(1.0))).json()["id"] == first
    assert len(heard) == 1
    for seed in (1, 2):
        send(client, wav(noise(1.0, seed=seed)))
    told = error(client.get(f"/api/recordings/{first}/audio"), 404)
    assert "Open it again" in told["message"]


@pytest.mark.parametrize(
    ("captions", "code"),
    [
        ([], "no_captions"),
        (["a bell", " "], "empty_caption"),
        ([f"sound {i}" for i in range(500)], "too_many_captions"),
        (["x" * 5000], "long_caption"),
        (["a bell", "A  Bell"], "same_caption"),
        ("a bell", "request"),
    ],
)
def test_captions_that_cannot_be_asked(client, captions, code):
    told = error(client.post("/api/recordings/x/scores", json={"captions": captions}), 422)
    assert told["code"] == code
    assert told["message"].endswith(".")


def test_what_the_model_cannot_read_is_told(client):
    known = send(client, wav(noise(1.0))).json()["id"]
    asked = {"captions": ["a bell", "鐘が鳴る"]}
    for address, body in (
        (f"/api/recordings/{known}/scores", asked),
        ("/api/index/search", {"caption": asked["captions"][1]}),
    ):
        assert "鐘が鳴る" in client.post(address, json=body).json()["note"]
    body = {"captions": ["a bell"]}
    assert client.post(f"/api/recordings/{known}/scores", json=body).json()["note"] is None


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "empty"),
        (b"no sound at all", 415, "unreadable"),
        (wav(np.zeros(0)), 415, "unreadable"),
        (wav(np.zeros(RATE)), 422, "silent"),
        (wav(np.full(RATE, np.nan), subtype="FLOAT"), 415, "unreadable"),
        (wav(noise(9.0)), 413, "too_long"),
        (bytes(600_000), 413, "too_large"),
    ],
)
def test_recordings_that_cannot_be_heard(client, content, status, code):
    told = error(send(client, content), status)
    assert told["code"] == code
    assert "sent" not in told["message"]


def test_what_lies_about_its_size_is_stopped_or_told(client):
    """A body without a length, and a header that promises more than there is."""
    pieces = (bytes(100_000) for _ in range(50))
    assert error(client.post("/api/recordings", content=pieces), 413)["code"] == "too_large"
    assert "cut off" in send(client, wav(noise(1.0))[:-8000]).json()["note"]


def test_who_goes_away_while_sending_leaves_no_trace(world):
    """As a server is told of it: the caller is gone, and nothing goes wrong here."""
    service, said = app.make(Workspace(world[1], LIMITS)), []
    coming = iter([{"type": "http.request", "body": b"RIFF", "more_body": True}])

    async def receive():
        return next(coming, {"type": "http.disconnect"})

    async def send(message):
        said.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"9000")]
    of_request = {"method": "POST", "path": "/api/recordings", "query_string": b"name=a.wav"}
    scope = {"type": "http", "headers": headers, "http_version": "1.1"} | of_request
    asyncio.run(service(scope, receive, send))
    assert said[0]["status"] == 400


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is a device of Linux")
def test_a_full_disk_is_told(client, monkeypatch):
    monkeypatch.setattr(app.workspace, "place_for", lambda _: nullcontext(Path("/dev/full")))
    assert error(send(client, wav(noise(1.0))), 507)["code"] == "no_room"


def test_only_this_machine_and_this_page_are_answered(client):
    assert error(client.get("/", headers={"host": "evil.example:8000"}), 421)["code"] == "host"
    for header in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert error(client.get("/api", headers=header), 403)["code"] == "origin"
    page = client.get("/")
    assert "access-control-allow-origin" not in page.headers
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert "/api/recordings" in client.get("/openapi.json").json()["paths"]


def test_the_index_is_searched_and_its_recordings_opened_by_what_they_are(client):
    listed = client.get("/api/index").json()
    ids = {each["name"]: each["id"] for each in listed["recordings"]}
    assert (listed["n_recordings"], ids.keys()) == (2, {"été.wav", "gone.wav"})
    hits = client.post("/api/index/search", json={"caption": "a bell", "k": 3}).json()["hits"]
    assert {hit["id"] for hit in hits} <= set(ids.values())
    assert client.post(f"/api/index/{ids['été.wav']}").json()["name"] == "été.wav"
    part = client.get("/api/index", params={"name": " ÉT"}).json()
    assert [each["name"] for each in part["recordings"]] == ["été.wav"]
    assert error(client.post(f"/api/index/{ids['gone.wav']}"), 410)["code"] == "gone"
    assert error(client.post("/api/index/..%2F..%2Fetc%2Fpasswd"), 404)


@pytest.fixture(scope="module")
def night(world, tmp_path_factory):
    """A recording that is too long to be opened whole, in an index; bells ring at its end."""
    folder = tmp_path_factory.mktemp("night")
    soundfile.write(folder / "night.wav", np.concatenate([noise(26.0), tone(2000, 4.0)]), RATE)
    indexing.update(
        world[0] / "model", [folder / "night.wav"], folder / "index", forget=lambda _: False,
        model_name="m", n_jobs=1, progress=False,
    )  # fmt: skip
    return folder


def test_of_a_recording_that_is_too_long_the_part_around_a_moment_is_opened(world, night):
    model, index = world[1], archive.read(night / "index")
    [known] = index.paths
    waveform, _ = soundfile.read(night / "night.wav", dtype="float32")
    duration_s, parts = len(waveform) / RATE, {}
    how = {"method": "unbiased", "smoothing": detector.smoothing_of(model)}
    service = app.make(Workspace(model, LIMITS, index=index))
    with TestClient(service, base_url="http://127.0.0.1") as client:
        for at in np.arange(0.0, duration_s, 0.7):
            part = client.post(f"/api/index/{known}", params={"at": at}).json()
            start, end = part["start_s"], part["end_s"]
            assert (part["duration_s"], part["recording"]) == (duration_s, known)
            assert "minutes: each moment of a search opens" in part["note"]
            assert end - start <= LIMITS.max_s + model.frame_s
            assert start <= at < end
            # Not near an end, but for those of the recording; and with the frames of the whole.
            quarter = LIMITS.max_s / 4 - 2 * model.frame_s
            assert at - start >= quarter or start == 0
            assert end - at >= quarter or end == pytest.approx(duration_s)
            assert start / model.frame_s == pytest.approx(round(start / model.frame_s))
            if part["id"] not in parts:
                asking = {"captions": CAPTIONS}
                told = client.post(f"/api/recordings/{part['id']}/scores", json=asking).json()
                samples = waveform[round(start * RATE) : round(end * RATE)]
                expected = detector.score(model, (samples, RATE), CAPTIONS, **how)
                for each, column in zip(told["captions"], expected.scores.T, strict=True):
                    found = np.frombuffer(base64.b64decode(each["scores"]), np.float32)
                    np.testing.assert_allclose(found, column, atol=1e-6)
                assert all(start <= e["onset"] < e["offset"] <= end for e in told["events"])
            parts[part["id"]] = start
        assert len(parts) == len(set(parts.values())) > 3
        first = client.post(f"/api/index/{known}").json()
        assert first["id"] in parts
        for at in ("-1", "nan", "inf", "x"):
            error(client.post(f"/api/index/{known}", params={"at": at}), 422)


def test_recordings_of_one_name_are_told_apart_by_their_folders(world, tmp_path):
    """As recorders of two places call them, which begin at the same time."""
    model = world[1]
    for place, frequency_hz in (("lake", 300), ("wood", 2000)):
        (tmp_path / place).mkdir()
        soundfile.write(tmp_path / place / "a.wav", tone(frequency_hz, 1.5), RATE)
    indexing.update(
        world[0] / "model", sorted(tmp_path.rglob("*.wav")), tmp_path / "index",
        forget=lambda _: False, model_name="m", n_jobs=1, progress=False,
    )  # fmt: skip
    index = archive.read(tmp_path / "index")
    place_of = {k: path.parent.name for k, [path] in index.paths.items()}
    service = app.make(Workspace(model, LIMITS, index=index))
    with TestClient(service, base_url="http://127.0.0.1") as client:
        rows = client.get("/api/index").json()["recordings"]
        rows += client.post("/api/index/search", json={"caption": "a bell", "k": 9}).json()["hits"]
        rows += [{"id": k, **client.post(f"/api/index/{k}").json()} for k in (*place_of, *place_of)]
    assert len(rows) >= 6
    assert all(row["name"] == f"{place_of[row['id']]}/a.wav" for row in rows)


# A recording is dropped on the page: its name, and its content in base64.
DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  for (const kind of ["dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true });
    document.getElementById("drop").dispatchEvent(event);
  }
}"""


@pytest.fixture
def url(world):
    with running(world[1], archive.read(world[0] / "index")) as address:
        yield address


@contextmanager
def running(model, index):
    """The address of a service that runs meanwhile."""
    service = app.make(Workspace(model, LIMITS, name="small", index=index))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(service, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join()


def test_the_page_in_a_browser(world, url, tab, tmp_path):
    """A file is dropped, captions asked, one answered and another added: it stays answered."""
    folder, model = world
    path = folder / "sounds/été.wav"
    how = {"method": "unbiased", "smoothing": detector.smoothing_of(model)}
    scores = detector.score(model, path, CAPTIONS, **how)
    tab.goto(url)
    tab.fill("#wanted", "\n".join(CAPTIONS))
    tab.evaluate(DROP, ["sent.wav", base64.b64encode(path.read_bytes()).decode()])
    tab.wait_for_selector("canvas.lane")
    assert tab.locator("#name").text_content() == "sent.wav"
    low = float(np.median(scores.scores))
    tab.locator("#all").evaluate(
        "(e, value) => { e.value = value; e.dispatchEvent(new Event('input')); }", str(low)
    )
    expected = detector.events(scores, threshold=low, min_duration_s=0.0, merge_gap_s=0.0)
    told = tab.locator("#progress").text_content()
    assert told == f"0 of {len(expected)} decided"
    tab.keyboard.press("Escape")
    tab.locator("#play").focus()
    tab.keyboard.press("y")
    tab.fill("#wanted", "\n".join([*CAPTIONS, "rain"]))
    tab.locator("#asking button").click()
    tab.wait_for_selector("#caption-2")
    assert tab.locator("#progress").text_content().startswith("1 of ")
    tab.fill("#sentence", "a bell")
    tab.click("#search button")
    tab.locator("#told", has_text="oment").wait_for()
    tab.select_option("#indexed", label="été.wav")
    tab.locator("#name", has_text="été.wav").wait_for()
    shutil.copy(folder / "sounds/été.wav", tmp_path / "chosen.wav")
    tab.set_input_files("#file", tmp_path / "chosen.wav")
    tab.locator("#name", has_text="chosen.wav").wait_for()
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert {each.removeprefix("blob:").startswith((url, "data:")) for each in tab.asked} == {True}


def test_a_moment_late_in_a_recording_that_is_too_long_is_shown_at_its_time(
    world, night, tab, tmp_path
):
    model, index = world[1], archive.read(night / "index")
    [known] = index.paths
    moment = {"caption": CAPTIONS[1], "onset": 26.24, "offset": 27.84, "score": 0.9}
    hit = {"id": known, "name": "night.wav", "is_there": True} | moment
    answer = {"hits": [hit], "note": None}  # of a model that has learnt something
    tab.route("**/api/index/search", lambda route: route.fulfill(json=answer))
    with running(model, index) as url:
        tab.goto(url)
        tab.locator("#listen").evaluate("box => { box.checked = false; }")
        tab.fill("#sentence", CAPTIONS[1])
        tab.click("#search button")
        hit = tab.locator("#hits button")
        hit.click()
        tab.locator("#about", has_text=" of 0:30.0 · 1 caption").wait_for()
        wait_until(tab, "document.querySelector('#audio').readyState > 0")
        assert hit.get_attribute("aria-current") == "true"
        assert tab.locator("#indexed").input_value() != ""
        assert tab.locator("#clock").text_content().startswith("0:26.2 / ")
        start, end = (float(tab.locator("#position").get_attribute(of)) for of in ("min", "max"))
        assert start <= float(tab.locator("#position").input_value()) <= end <= 30.0
        slide(tab, "#caption-0", 0.0)
        tab.click("#closer")
        tab.locator("#play").focus()
        tab.keyboard.press("y")
        tab.keyboard.press("ArrowLeft")
        with tab.expect_download() as downloading:
            tab.click("#tsv")
        downloading.value.save_as(tmp_path / "night.tsv")
    rows = labels.read(tmp_path / "night.tsv").events["night.wav"]
    assert rows
    assert all(start <= row.onset < row.offset <= end + 1e-6 for row in rows)


def found(tab):
    wait_until(tab, "!document.querySelector('#state').textContent.endsWith('…')")
    return tab.locator("#state").text_content()


def asks(tab, *captions):
    tab.fill("#wanted", "\n".join(captions))
    tab.click("#asking button")
    tab.locator("#about", has_text=f" {len(captions)} caption").wait_for()
    return found(tab)


def opens(tab, path):
    tab.set_input_files("#file", path)
    tab.locator("#name", has_text=path.name).wait_for()
    return found(tab)


def slide(tab, which, value):
    tab.locator(which).evaluate(
        "(e, value) => { e.value = value; e.dispatchEvent(new Event('input')); }", str(value)
    )


def test_a_review_stays_while_captions_are_added_and_other_recordings_are_looked_at(
    url, tab, tmp_path
):
    for name, pitch in (("first.wav", 300), ("second.wav", 900)):
        soundfile.write(tmp_path / name, np.concatenate([noise(1.0), tone(pitch, 1.0)]), RATE)
    tab.goto(url)
    tab.locator("#listen").evaluate("box => { box.checked = false; }")
    tab.fill("#wanted", "\n".join(CAPTIONS))
    assert "the model's own thresholds" in opens(tab, tmp_path / "first.wav")
    slide(tab, "#caption-0", 0.0)
    n_events = tab.locator("#progress").text_content().split()[2]
    tab.keyboard.press("Escape")
    tab.locator("#play").focus()
    tab.keyboard.press("y")
    assert tab.locator("#progress").text_content() == f"1 of {n_events} decided"

    assert "your thresholds" in asks(tab, "rain", *CAPTIONS)
    assert tab.locator("#caption-1").input_value() == "0"
    assert tab.locator("#progress").text_content().startswith("1 of ")

    opens(tab, tmp_path / "second.wav")
    assert tab.locator("#progress").text_content().startswith("0 of ")
    asks(tab, "rain")
    opens(tab, tmp_path / "first.wav")
    assert tab.locator("#progress").text_content().startswith("0 of ")
    asks(tab, *CAPTIONS)
    assert tab.locator("#progress").text_content() == f"1 of {n_events} decided"
    tab.locator("#play").focus()
    tab.keyboard.press("u")
    assert tab.locator("#progress").text_content() == f"0 of {n_events} decided"


def test_only_what_is_above_a_threshold_is_counted_as_found(url, tab, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(2.0), RATE)
    tab.goto(url)
    tab.locator("#listen").evaluate("box => { box.checked = false; }")
    tab.fill("#wanted", CAPTIONS[0])
    before = opens(tab, tmp_path / "a.wav")
    slide(tab, "#caption-0", 0.0)
    tab.locator("#play").focus()
    tab.keyboard.press("y")
    tab.click("#own")
    assert asks(tab, CAPTIONS[0]) == before
    assert tab.locator("#progress").text_content().startswith("1 of ")


def test_captions_are_asked_again_while_it_plays(url, tab, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(6.0), RATE)
    tab.goto(url)
    tab.fill("#wanted", CAPTIONS[0])
    opens(tab, tmp_path / "a.wav")
    tab.click("#play")
    tab.locator("#play", has_text="Pause").wait_for()
    asks(tab, *CAPTIONS)
    wait_until(tab, "document.querySelector('#audio').readyState > 0")
    is_paused = tab.evaluate("document.querySelector('#audio').paused")
    assert tab.locator("#play").text_content() == ("Play" if is_paused else "Pause")


ANSWERS = """([part, message]) => {
  const real = window.fetch;
  window.fetch = (path, ...more) => path.includes(part)
    ? Promise.resolve(new Response(JSON.stringify({ error: { message } }), { status: 400 }))
    : real(path, ...more);
}"""


def test_what_is_wrong_with_a_recording_of_the_index_is_told_beside_it(url, tab, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1.0), RATE)
    tab.goto(url)
    tab.locator("#indexed option", has_text="gone.wav").wait_for(state="attached")
    opens(tab, tmp_path / "a.wav")
    tab.evaluate(ANSWERS, ["/api/index/", "gone.wav is gone."])
    tab.select_option("#indexed", label="gone.wav")
    tab.locator("#told", has_text="gone.wav is gone.").wait_for()
    assert tab.locator("#indexed").input_value() == ""
    assert tab.locator("#name").text_content() == "a.wav"


def test_a_recording_is_shown_also_where_its_captions_cannot_be_asked(url, tab, tmp_path):
    for name in ("first.wav", "second.wav"):
        soundfile.write(tmp_path / name, noise(1.0, seed=len(name)), RATE)
    tab.goto(url)
    tab.fill("#wanted", CAPTIONS[0])
    opens(tab, tmp_path / "first.wav")
    tab.evaluate(ANSWERS, ["/scores", "Captions 1 and 2 are the same."])
    assert opens(tab, tmp_path / "second.wav") == "Captions 1 and 2 are the same."
    assert tab.locator("canvas.lane").count() == 0
