"""Reads the splits of a dataset from train.txt, val.txt and test.txt, which list ids of clips, one per line.

If there is no val.txt, whole speakers of train.txt are used for validation, so that no speaker is in both splits. The
speaker is known for ids as in AN4: `an251-fash-b` is the utterance an251 of the speaker fash.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from hw_common.data.dataset_files import FindFile
from hw_common.runs.errors import UserError

_AN4_ID = re.compile(r"[a-z]+\d+-([a-z]+\d*)-[a-z]")  # utterance, speaker, and one letter
_VALIDATION = 0.1  # smallest part of the training clips that is used for validation, as in ESPnet's recipe for AN4


@dataclass(frozen=True)
class ListedSplits:
    """The splits that the files name."""

    ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # train, val and test; empty if there is no file
    hashes: Mapping[str, str] = field(default_factory=dict)  # file name -> SHA-256 of its content


def read(find: FindFile, clips: Collection[str], metadata: str) -> ListedSplits:
    """Reads the files of a dataset that has these `clips`; `metadata` is the path of metadata.csv, for messages.

    Raises:
        UserError: train.txt or test.txt is missing although there are other lists; a list is empty or names an unknown
            clip or a clip that is listed already; or val.txt is missing and the speakers are not known.
    """
    files = {name: file for name in ("train", "val", "test") if (file := find(f"{name}.txt")) is not None}
    if not files:
        return ListedSplits()
    if missing := [f"{name}.txt" for name in ("train", "test") if name not in files]:
        found = next(iter(files.values())).where
        raise UserError(f"{found} lists a split, but {missing[0]} is missing; write it, or remove all lists of splits")
    hashes, seen, ids = {}, set[str](), dict[str, tuple[str, ...]]()
    for name, file in files.items():
        text, hashes[f"{name}.txt"] = file.read_text()
        ids[name] = _parse(text, file.where, clips, seen, metadata)
    if "val" not in ids:
        ids["train"], ids["val"] = _split_by_speaker(ids["train"], files["train"].where)
    return ListedSplits(ids, hashes)


def _parse(text: str, where: str, clips: Collection[str], seen: set[str], metadata: str) -> tuple[str, ...]:
    """Returns the ids in the text of the file `where`, and adds them to `seen`."""
    ids = []
    for number, line in enumerate(text.splitlines(), 1):
        if not (clip := line.strip()):
            continue
        if clip not in clips:
            raise UserError(f"{where}, line {number}: {clip[:80]!r} is not the id of a clip in {metadata}")
        if clip in seen:
            raise UserError(f"{where}, line {number}: {clip!r} is listed twice; a clip may be in one split only")
        seen.add(clip)
        ids.append(clip)
    if not ids:
        raise UserError(f"{where} lists no clip; expected ids of {metadata}, one per line")
    return tuple(ids)


def _split_by_speaker(ids: tuple[str, ...], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns training and validation clips; no speaker is in both.

    Speakers are added to validation, in the order of the SHA-256 of their names, until it has a tenth of the clips.
    """
    speakers = {}
    for clip in ids:
        match = _AN4_ID.fullmatch(clip)
        if match is None:
            raise UserError(
                f"{where}: the speaker of {clip!r} is not known (expected ids like an251-fash-b, with the speaker in "
                "the middle); write a val.txt that lists the validation clips, and remove them from train.txt"
            )
        speakers[clip] = match[1]
    if len(set(speakers.values())) < 2:
        raise UserError(f"{where}: all clips have one speaker, so none can be split off; write a val.txt")
    val: list[str] = []
    for speaker in sorted(set(speakers.values()), key=lambda name: hashlib.sha256(name.encode()).digest())[:-1]:
        if len(val) >= _VALIDATION * len(ids):
            break
        val += [clip for clip in ids if speakers[clip] == speaker]
    chosen = set(val)
    return tuple(clip for clip in ids if clip not in chosen), tuple(val)
