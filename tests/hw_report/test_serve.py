"""`python -m hw_report serve`: tiny trained runs answer uploads, and everything else is refused in one line."""

import io
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import asr_files
import browser
import commands
import numpy as np
import ocr_files
import pytest
from finished_runs import contents_of
from PIL import Image
from served import TITLE, serving, toy

import hw_numpy.data
import hw_transfer.data
from hw_asr import audio
from hw_asr.transcription import transcribe
from hw_caption.caption import caption
from hw_cnn.predict import predict
from hw_common.runs.errors import UserError
from hw_common.runs.run_folder import Run
from hw_ocr.read import read
from hw_report.index import INDEX
from hw_report.serve import app
from hw_report.serve.try_its import Result, open_try_it

RUNS = (
    ("hw_cnn.train", "fashion"),
    ("hw_ocr.train", "conv-bilstm-crf"),
    ("hw_caption.train", "attention"),
    ("hw_asr.train", "transformer"),
    ("hw_caption.train", "vanilla"),
    ("hw_numpy.train", "softmax"),
    ("hw_numpy.train", "cnn"),
    ("hw_transfer.train", "cached"),
    ("hw_ocr.train", "pairwise"),
)
CNN, OCR, CAPTION, ASR, VANILLA, SOFTMAX, CONV, TRANSFER, PAIRWISE = range(len(RUNS))


@pytest.fixture(scope="module")
def runs(request):
    """The folders of RUNS, and their try-its."""
    train = request.getfixturevalue("trained")
    folders = [train(*run).folder for run in RUNS]
    with pytest.MonkeyPatch.context() as patch:
        for command in {command for command, _ in RUNS}:
            commands.TINY[command].patch(patch)
        yield folders, [open_try_it(folder) for folder in folders]


@pytest.fixture(scope="module")
def served(runs):
    with serving(runs[1]) as running:
        yield running


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


LETTER = png(255 - 255 * ocr_files.image("a"))
NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8)
SOUND = asr_files.encoded(asr_files.sound())


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_list_names_questions_of_the_index(served):
    listed = served.get("/try/runs").json
    assert len(listed) == len(RUNS)
    for each in listed:
        for sheet, question in each["questions"]:
            assert question in [answer.question for answer in INDEX[sheet]]
    assert listed[CNN]["canvas"] is None and listed[OCR]["canvas"]["ink"] == "black"


def test_an_image_is_classified_as_by_the_command(runs, served, tmp_path):
    (tmp_path / "image.png").write_bytes(png(NOISE))
    found, [expected] = served.upload(CNN, png(NOISE)).json, predict(runs[0][CNN], [tmp_path / "image.png"])
    assert found["text"] == expected["class"]
    assert dict(found["probabilities"]) == pytest.approx(expected["probabilities"])
    assert len(found["pictures"]) == 5  # the input with Grad-CAM, two convolutions, two pooling layers
    for picture in (picture for row in found["pictures"].values() for picture in row):
        assert picture["alt"] and picture["source"].startswith("data:image/png;base64,")


def test_a_letter_is_read_as_by_the_command(runs, served, tmp_path):
    (tmp_path / "image.png").write_bytes(LETTER)
    found, [expected] = served.upload(OCR, LETTER).json, read(runs[0][OCR], [tmp_path / "image.png"])
    assert found["text"] == expected["text"]
    assert [value for _, value in found["probabilities"]] == pytest.approx(expected["probabilities"])


@pytest.mark.parametrize("number", (CAPTION, VANILLA))
def test_an_image_is_captioned_as_by_the_command(runs, served, tmp_path, number):
    (tmp_path / "image.png").write_bytes(png(NOISE))
    found, [(_, words)] = served.upload(number, png(NOISE)).json, caption(runs[0][number], [tmp_path / "image.png"])
    assert found["text"] == (" ".join(words) or "(no words)")
    [row] = found["pictures"].values() if number == CAPTION and words else [[]]
    assert len(row) == (len(words) + 1 if row else 0)  # the input, then a picture for each word


@pytest.mark.parametrize("is_speech", (True, False))
def test_a_sound_is_transcribed_as_by_the_command(runs, served, tmp_path, monkeypatch, is_speech):
    monkeypatch.setattr("hw_asr.transcription.has_speech", lambda samples, rate: is_speech)
    (tmp_path / "sound.wav").write_bytes(SOUND)
    found, [expected] = served.upload(ASR, SOUND).json, transcribe(runs[0][ASR], [tmp_path / "sound.wav"])
    if is_speech:
        assert found["text"] == expected["text"]
        [[picture]] = found["pictures"].values()
        assert expected["pieces"][0]["text"] in picture["alt"]
    else:
        assert found["text"] == "no speech found" and expected["pieces"][0]["text"] in found["notes"][0]


@pytest.mark.parametrize("number", (SOFTMAX, CONV))
def test_digits_are_classified_as_in_the_training(runs, served, number):
    run = Run.open(runs[0][number])
    images, labels = hw_numpy.data.load("mnist", Path(run.arguments["data_dir"])).test
    found = [served.upload(number, png(image[0])).json for image in images]
    assert all(sum(dict(each["probabilities"]).values()) == pytest.approx(1) for each in found)
    right = [each["text"] == str(label) for each, label in zip(found, labels, strict=True)]
    assert np.mean(right) == pytest.approx(run.summary()["best"]["test_accuracy"])


def test_pictures_are_classified_as_in_the_training(runs, served):
    summary = Run.open(runs[0][TRANSFER]).summary()
    val = hw_transfer.data.load("sample", Path()).val
    counts = np.zeros((2, 2), int)
    for picture, label in zip(val.pictures, val.labels.tolist(), strict=True):
        found = served.upload(TRANSFER, png(picture)).json
        counts[label, summary["classes"].index(found["text"])] += 1
    assert counts.tolist() == summary["confusion_best"]


def test_uploads_leave_nothing_behind(runs, served, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = [contents_of(folder) for folder in runs[0]]
    for number, content in enumerate((png(NOISE), LETTER, png(NOISE), SOUND)):
        assert served.upload(number, content).status == 200
    assert [contents_of(folder) for folder in runs[0]] == before and not any(tmp_path.iterdir())


def test_a_run_that_cannot_answer_is_refused(trained, tmp_path):
    folder = trained("hw_attention_theory.train").folder
    with pytest.raises(UserError, match="is a run of hw_attention_theory, which cannot answer uploads; expected a run"):
        open_try_it(folder)
    with pytest.raises(UserError, match=r"was made by hw_numpy\.caption, expected a run of hw_numpy\.train"):
        open_try_it(trained("hw_numpy.caption").folder)
    (tmp_path / "config.json").write_text('{"schema": 1, "arguments": {}}')
    with pytest.raises(UserError, match="it names no homework"):
        open_try_it(tmp_path)


# ── Hostile uploads ──────────────────────────────────────────────────────────────────────────────────────────────────

BOMB = LETTER[:16] + (60_000).to_bytes(4, "big") * 2 + LETTER[24:]
HOSTILE = {
    "text": b"../../etc/passwd",
    "zeros": bytes(100_000),
    "noise": np.random.default_rng(1).bytes(50_000),
    "half a picture": png(NOISE)[:-1000],
    "header of a picture": LETTER[:20],
    "picture that claims 3.6 billion pixels": BOMB,
    "program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(x) run\n",
    "drawing with a script": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "archive": b"PK\3\4" + bytes(100),
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "half a sound": SOUND[:100],
    "sound that claims 4 GB": asr_files.wav(b"\1\0" * 2205, promised=2**32 - 37),
    "sound that claims a year": asr_files.flac_claiming(2**36 - 1),
    "silence": asr_files.wav(bytes(44_100)),
    "MP3 without frames": b"\xff\xfb\x90\x00" + bytes(2000),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_uploads_are_refused_in_one_line(served, content, capfd):
    for number in (CNN, OCR, CAPTION, ASR, SOFTMAX, TRANSFER):
        reply = served.upload(number, content)
        assert reply.status == 422 and reply.refusal.startswith("the upload ")
    assert capfd.readouterr() == ("", "")


def test_long_sounds_are_refused(served):
    long = asr_files.encoded(asr_files.sound(seconds=61, rate=8000), rate=8000)
    assert served.upload(ASR, long).refusal == "the upload lasts 61 s, over the limit of 60 s; shorten the file"


@pytest.fixture
def limits(monkeypatch):
    """Small limits, so that tests reach them quickly."""
    monkeypatch.setattr(app, "MAX_BYTES", 1_000_000)
    monkeypatch.setattr(app, "_READ_SECONDS", 0.3)
    monkeypatch.setattr(app, "_ANSWER_SECONDS", 0.3)


def blocks(number):
    for _ in range(number):
        yield bytes(100_000)


POST = b"POST /try/runs/0 HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def test_the_size_of_an_upload_is_limited_whether_it_is_declared_or_not(limits):
    with serving([toy(lambda content: Result(str(len(content))))]) as running:
        assert running.upload(0, bytes(1_000_000)).json["text"] == "1000000"
        assert running.upload(0, blocks(10)).json["text"] == "1000000"
        for body in (bytes(1_000_001), blocks(11), blocks(200)):
            reply = running.upload(0, body)
            assert (reply.status, reply.refusal) == (413, "the upload is larger than the limit of 1 MB")
        assert running.upload(0, b"").refusal == "the upload is empty"
        assert b"413" in running.raw(POST + b"Content-Length: 99999999999999999999\r\n\r\nx")
        assert b"400" in running.raw(POST + b"Content-Length: -5\r\n\r\n")
        running.raw(POST + b"Content-Length: 5000\r\n\r\nx", wait=False)
        assert running.upload(0, b"x").status == 200


def test_an_upload_that_does_not_arrive_ends(limits):
    with serving([toy(lambda content: Result(""))]) as running:
        assert b"408 " in running.raw(POST + b"Content-Length: 10\r\n\r\nx")


@pytest.fixture
def blocked():
    """A try-it that answers after `go_on.set()`: (event, try-it)."""
    go_on = threading.Event()
    yield go_on, toy(lambda content: (go_on.wait(60), Result("fine"))[1])
    go_on.set()


def test_the_time_of_an_answer_is_limited(limits, blocked):
    with serving([blocked[1]]) as running:
        for _ in range(2):  # the first one goes on, so the second one is never begun
            reply = running.upload(0, b"x")
            assert reply.status == 503 and "this took longer than 0.3 s" in reply.refusal
        blocked[0].set()


def test_the_number_of_uploads_is_limited(blocked):
    go_on, try_it = blocked
    with serving([try_it]) as running, ThreadPoolExecutor(app.MAX_UPLOADS + 1) as visitors:
        pending = {visitors.submit(running.upload, 0, b"x") for _ in range(app.MAX_UPLOADS + 1)}
        done, pending = wait(pending, timeout=60, return_when=FIRST_COMPLETED)
        [reply] = (visitor.result() for visitor in done)
        assert "the server is busy" in reply.refusal and reply.headers["retry-after"] == "5"
        go_on.set()
        assert all(visitor.result().json["text"] == "fine" for visitor in pending)
        assert running.upload(0, b"x").status == 200


def test_a_mistake_of_ours_gives_one_line_and_the_server_goes_on(capfd):
    def fail(content):
        if content == b"x":
            raise ValueError("a\nb")
        return Result("fine", probabilities=[("nan", float("nan"))] if content == b"nan" else ())

    with serving([toy(fail)]) as running:
        assert running.upload(0, b"x").refusal == "this file could not be processed: ValueError"
        assert capfd.readouterr().err == f"error: {TITLE}: this file could not be processed: ValueError: a b\n"
        assert running.upload(0, b"nan").status == 500
        assert running.upload(0, b"y").json["text"] == "fine"


# ── In a browser ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def page(served):
    """The page of all try-its; the test fails if it logs an error or asks for a foreign address."""
    problems = []
    with browser.chromium() as chromium:
        page = chromium.new_page(color_scheme="dark", viewport={"width": 390, "height": 800})
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if "/try" not in request.url else None)
        page.goto(f"{served.address}/try")
        page.locator(".try-run").nth(len(RUNS) - 1).wait_for()
        yield page
    assert [problem for problem in problems if not problem.startswith("data:")] == []


def test_try_its_in_a_browser(page):
    boxes = page.locator(".try-run")
    images = ((CNN, png(NOISE), 2), (OCR, LETTER, 1), (CAPTION, png(NOISE), 0), (TRANSFER, png(NOISE), 1))
    for number, content, pictures in images:
        boxes.nth(number).locator("input").set_input_files({"name": "a", "mimeType": "image/png", "buffer": content})
        boxes.nth(number).locator(".try-answer").wait_for()
        shown = boxes.nth(number).locator("img")
        assert shown.count() >= pictures and all(image.get_attribute("alt") for image in shown.all())
    boxes.nth(ASR).locator("input").set_input_files({"name": "a", "mimeType": "audio/wav", "buffer": SOUND})
    boxes.nth(ASR).locator(".try-answer").wait_for()

    for number, kind in ((OCR, "thin"), (SOFTMAX, "small")):
        canvas = boxes.nth(number).locator("canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + 100, box["y"] + 10)
        page.mouse.down()
        page.mouse.move(box["x"] + 100, box["y"] + 60)
        page.mouse.up()
        boxes.nth(number).locator(f"img.{kind}").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_errors_and_recordings_in_a_browser(page):
    box = page.locator(".try-run").nth(VANILLA)
    page.evaluate("window.fetch = async () => new Response(JSON.stringify({ error: '<b>no</b> image' }))")
    box.locator("input").set_input_files({"name": "a", "mimeType": "image/png", "buffer": b"x"})
    page.get_by_text("<b>no</b> image").wait_for()
    box.locator("input").set_input_files({"name": "a", "mimeType": "image/png", "buffer": bytes(10_000_001)})
    page.get_by_text("This file is larger than 10 MB.").wait_for()
    content = bytes(page.evaluate("wav([new Float32Array([0, 0.5, -2]), new Float32Array(3000)], 44100).arrayBuffer()"
                                  ".then((content) => [...new Uint8Array(content)])"))  # fmt: skip
    samples, rate = audio.decode(content, "a recording")
    assert rate == 44_100 and len(samples) == 3003
    assert samples[:3] == pytest.approx([0, 0.5, -1], abs=1e-4)
