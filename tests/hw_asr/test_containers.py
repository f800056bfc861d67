"""Sound files whose headers are wrong: whole files are read to the end, and files that were cut short are refused."""

import struct

import asr_files
import numpy as np
import pytest
from asr_files import encoded

from hw_asr import audio, containers, mp3
from hw_common.runs.errors import UserError

RATE = 8000
CLIP = asr_files.sound(0, 1.5, RATE)
KINDS = {
    "wav": ("WAV", "PCM_16"), "wavex": ("WAVEX", "PCM_24"), "rf64": ("RF64", "PCM_16"), "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"), "au": ("AU", "PCM_16"), "caf": ("CAF", "PCM_16"), "nist": ("NIST", "PCM_16"),
    "flac": ("FLAC", "PCM_16"), "vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", None),
    "float": ("WAV", "FLOAT"), "double": ("AU", "DOUBLE"), "8 bits": ("WAV", "PCM_U8"), "32 bits": ("WAV", "PCM_32"),
    "mu-law": ("WAV", "ULAW"), "a-law": ("AIFF", "ALAW"), "adpcm": ("WAV", "IMA_ADPCM"), "gsm": ("WAV", "GSM610"),
}  # fmt: skip
FILES = {name: encoded(CLIP, RATE, kind, subtype) for name, (kind, subtype) in KINDS.items()}
WAV, FLAC, MP3 = FILES["wav"], FILES["flac"], FILES["mp3"]
BYTES = len(CLIP) * 2


def patched(name, mark, distance, form, *values):
    """The file `name` with other numbers `distance` bytes behind the bytes `mark`."""
    content = bytearray(FILES[name])
    struct.pack_into(form, content, content.index(mark) + distance, *values)
    return bytes(content)


def chunk(name, content, padding=True):
    return struct.pack("<4sI", name, len(content)) + content + bytes(len(content) % 2 if padding else 0)


def riff(*chunks, start=b"RIFF"):
    return struct.pack("<4sI4s", start, 4 + sum(map(len, chunks)), b"WAVE") + b"".join(chunks)


FORM, DATA = WAV[12:36], WAV[36:]
UNKNOWN = DATA.replace(DATA[4:8], bytes(4), 1)
FLAC_INFO = int.from_bytes(FLAC[18:26], "big")


def flac_with(samples):
    return FLAC[:18] + (FLAC_INFO - len(CLIP) + samples).to_bytes(8, "big") + FLAC[26:]


WHOLE = {
    **{f"wav {size:x}": patched("wav", b"data", 4, "<I", size) for size in
       (0, 0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFD8, BYTES + 1, BYTES + 8)},
    **{f"riff {size:x}": patched("wav", b"RIFF", 4, "<I", size) for size in (0, 36, 0xFFFFFFFF)},
    "rifx": b"RIFX" + struct.pack(">I4s4sIHHIIHH4sI", 36 + BYTES, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16,
                                  b"data", 0xFFFFFFFF) + np.int16(np.round(CLIP * 32768)).astype(">i2").tobytes(),
    "rf64 unknown": patched("rf64", b"ds64", 16, "<Q", 2**64 - 1),
    "bw64": b"BW64" + FILES["rf64"][4:],
    **{f"w64 {size:x}": patched("w64", b"data", 16, "<Q", size) for size in (0, 24, 2**63 - 1, 2**64 - 1)},
    **{f"aiff {size:x}": patched("aiff", b"SSND", 4, ">I", size) for size in (0, 0x7F000008, 0xFFFFFFFF)},
    "aiff frames 0": patched("aiff", b"COMM", 10, ">I", 0),
    **{f"au {size:x}": patched("au", b".snd", 8, ">I", size) for size in (0, 0xFFFFFFFF)},
    "caf unknown": patched("caf", b"data", 4, ">Q", 2**64 - 1),
    **{f"flac {samples}": flac_with(samples) for samples in (0, 5000)},
    "flac tags": b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + FLAC + b"TAG" + bytes(125),
    "flac unknown, tag": flac_with(0) + b"TAG" + bytes(125),
    "data before fmt": riff(DATA, FORM),
    "chunk without padding": riff(FORM, chunk(b"LIST", b"odd", padding=False), DATA),
    "chunk with padding": riff(FORM, chunk(b"LIST", b"odd"), DATA),
    "chunks behind data": riff(FORM, DATA, chunk(b"LIST", b"INFO" * 5), chunk(b"id3 ", b"x")),
}  # fmt: skip
CUT = {
    **{f"{name} {part}": content[: int(len(content) * part)] for name, content in FILES.items()
       for part in (0.5, 0.9, 0.99) if name not in ("adpcm", "gsm")},
    "flac unknown": flac_with(0)[: len(FLAC) // 2],
    "flac too many": flac_with(len(CLIP) + 1),
    "rifx": WHOLE["rifx"].replace(b"data\xff\xff\xff\xff", struct.pack(">4sI", b"data", BYTES))[:9000],
    "ogg at a page": FILES["vorbis"][: FILES["vorbis"].rindex(b"OggS")],
    "ogg in a page's header": FILES["vorbis"][: FILES["vorbis"].rindex(b"OggS") + 20],
}  # fmt: skip


def decoded(content):
    samples, rate = audio.decode(content, "a file")
    assert rate == RATE
    return samples


def refused(content):
    with pytest.raises(UserError) as caught:
        audio.decode(content, "a file")
    assert str(caught.value).startswith("a file ") and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", KINDS)
def test_whole_files_are_read(name):
    samples = decoded(FILES[name])
    assert 0 <= len(samples) - len(CLIP) < 600
    if name not in ("vorbis", "opus", "mp3", "adpcm", "gsm"):
        assert np.allclose(samples, CLIP[:, 0], atol=0.02)


@pytest.mark.parametrize("name", WHOLE)
def test_lengths_that_were_never_filled_in(name):
    samples = decoded(WHOLE[name])
    assert len(samples) == len(CLIP) and np.allclose(samples, CLIP[:, 0], atol=1e-4)


@pytest.mark.parametrize("name", CUT)
def test_files_that_were_cut_short(name):
    assert "is cut short" in refused(CUT[name])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (riff(FORM), "has no chunk 'data'"),
        (FILES["aiff"][:30], "has no chunk 'SSND'"),
        (FILES["w64"][:80], "has no chunk 'data'"),
        (FILES["caf"][:50], "has no chunk 'data'"),
        (riff(DATA), "has no chunk 'fmt'"),
        (riff(FORM, chunk(b"data", b""), chunk(b"LIST", b"INFO" * 500)), "has 0 samples"),
        (FILES["vorbis"][:6000] + b"?" + FILES["vorbis"][6001:], "is damaged: the checksum of page"),
        (WAV * 2, "holds several recordings one after another"),
        (FILES["vorbis"] * 2, "holds several recordings one after another"),
        (encoded(CLIP, RATE, "VOC", "PCM_16"), "has the format VOC, which is not supported; convert it"),
        (b"\xff\xfd" + bytes(range(256)) * 9, "is damaged, or its MP3 frames state no bit rate"),
        (b"\xff\xfb\x00\x00" * 999, "is damaged, or its MP3 frames state no bit rate"),  # free format
    ],
)
def test_files_that_are_refused(content, message):
    assert message in refused(content)


# ── MP3 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


FRAMES = mp3._walk(MP3, 0, "x")
SOUND = MP3[FRAMES[0][1].size :]  # without the frame that holds the Xing tag
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 1, 1 << 31) + bytes(8)
TAGS = {
    "no tag": SOUND,
    "id3": b"ID3\4\0\0\0\0\x01\x02" + bytes(130) + SOUND,
    "id3 with footer": b"ID3\4\0\x10\0\0\0\x0a" + bytes(20) + SOUND,
    "id3v1": SOUND + b"TAG" + bytes(125),
    "ape": SOUND + APE + bytes(1968) + APE + b"TAG" + bytes(125),
    "junk in front": b"junk\xff\xfb" * 50 + SOUND,
    "zeros behind": SOUND + bytes(3000),
    "in wav": riff(chunk(b"fmt ", struct.pack("<HHIIHHH", 0x55, 1, RATE, 4000, 1, 0, 0)), chunk(b"data", SOUND)),
}


@pytest.mark.parametrize("name", TAGS)
def test_mp3_without_xing_tag(name):
    assert np.array_equal(decoded(TAGS[name]), decoded(SOUND))
    assert 0 <= len(decoded(SOUND)) - len(CLIP) < 1800


@pytest.mark.parametrize(
    ("content", "times"),
    [(SOUND + SOUND, 2), (MP3 + MP3, 2), (MP3 + b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + SOUND + SOUND, 3)],
)
def test_joined_mp3_files_are_read_to_the_end(content, times):
    assert abs(len(decoded(content)) - times * len(FRAMES) * 576) < 2400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (MP3[: FRAMES[9][0]], "is cut short: its header says"),
        (SOUND[: len(SOUND) // 2 + 1], "is cut short: the last of its"),
        (SOUND + b"\xff\xe3", "is cut short: the last of its"),
        (SOUND[:3000] + bytes(500) + SOUND[3000:], "is damaged: no MP3 frame begins at byte"),
        (SOUND * 3000, "has more than 50000 frames; shorten the file"),
        (SOUND + bytes(5000), "is damaged: no MP3 frame begins at byte"),
        (SOUND + encoded(CLIP, 16_000, "MP3"), "changes its sample rate or number of channels"),
    ],
)
def test_mp3_files_that_are_refused(content, message):
    assert message in refused(content)


def test_bit_rates_that_vary():
    loud = encoded(asr_files.sound(1, 2, 44_100), 44_100, "MP3")
    frames = mp3._walk(loud, 0, "x")
    sound = loud[frames[0][1].size :]
    assert len({frame.size for _, frame in frames}) > 3
    samples, rate = audio.decode(sound, "x")
    assert rate == 44_100 and len(samples) >= 2 * 44_100


def test_the_decoder_s_own_messages_are_not_printed(capfd):
    decoded(MP3)
    assert capfd.readouterr().err == ""


# ── floats and channels ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("factor", "divisor"), [(3.0, 1.5), (16.0, 8.0), (40_000.0, 32768.0), (2.0**23, 2.0**23), (2.0**31, 2.0**31)]
)
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_beyond_1_are_scaled_with_a_note(factor, divisor, subtype):
    clip, notes = CLIP / np.abs(CLIP).max() / 2, []
    samples, _ = audio.decode(encoded(clip * factor, RATE, subtype=subtype), "x", note=notes.append)
    assert np.allclose(samples, clip[:, 0] * factor / divisor, atol=1e-6)
    assert notes == [
        f"x has samples up to {factor / 2:.6g}, expected -1 to 1; all samples were divided by {divisor:.6g}"
    ]


def test_too_many_channels_are_refused():
    content = encoded(np.zeros((8, 65)), RATE)
    assert "has 65 channels, expected at most 64" in refused(content)


def test_the_loudest_floats_are_refused_and_others_are_unchanged():
    assert "has samples up to 5e+09, expected -1 to 1" in refused(encoded(CLIP * 1e10, RATE, subtype="FLOAT"))
    assert np.array_equal(decoded(encoded(CLIP * 2, RATE, subtype="FLOAT")), CLIP[:, 0] * 2)


@pytest.mark.parametrize("share", [-1.0, -0.99, 0.5])
def test_channels_that_cancel_out_are_named(share):
    content = encoded(np.concatenate([CLIP, share * CLIP], axis=1), RATE)
    if share > 0:
        assert len(decoded(content)) == len(CLIP)
    else:
        message = refused(content)
        assert "has channels that cancel out when they are averaged" in message and "silent" not in message


# ── fuzz ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_read_or_refused(name):
    generator = np.random.default_rng(0)
    for _ in range(30):
        content = bytearray(FILES[name])
        for place in generator.integers(0, 100 if generator.random() < 0.7 else len(content), 3):
            content[place] = generator.integers(256)
        if generator.random() < 0.3:
            del content[generator.integers(len(content)) :]
        try:
            assert isinstance(containers.checked(bytes(content), "x"), bytes)
        except UserError as error:
            assert str(error).startswith("x ")  # noqa: PT017
