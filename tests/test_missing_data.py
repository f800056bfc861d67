"""Without a network, the message about a missing file names its address, its size or licence, and its folder."""

import re
import urllib.error
import urllib.request

import pytest
import torch

from hw_asr import readers as speech
from hw_caption import data as captions
from hw_cnn import readers as images
from hw_common.runs.errors import UserError
from hw_common.training import pretrained
from hw_numpy import coco_utils
from hw_ocr import readers as letters
from hw_transfer import data as transfer

LOADS = {
    **{name: images.READERS[name] for name in ("mnist", "fashion-mnist", "octmnist", "cifar10")},
    "hymenoptera": lambda folder: transfer.load("hymenoptera", folder),
    "ocr": lambda folder: letters.READERS["ocr"](folder, 0),
    "sydney": lambda folder: captions.load("sydney", folder),
    "flickr": lambda folder: captions.load("flickr", folder),
    "ljspeech": lambda folder: speech.read_dataset("ljspeech", folder, None),
    "digits": lambda folder: speech.read_dataset("digits", folder, None),
    "coco": coco_utils.load_coco_data,
    "weights": lambda folder: pretrained.load_pretrained("imagenet", folder),
}


@pytest.mark.parametrize("name", LOADS)
def test_the_message_names_address_and_folder(tmp_path, monkeypatch, name):
    def no_network(*arguments, **options):
        raise urllib.error.URLError(OSError(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    folder = tmp_path / "data"
    with pytest.raises(UserError, match=f"^{folder}(.* is missing| contains neither )") as refused:
        LOADS[name](folder)
    message = str(refused.value)
    assert re.search(r"https?://[\w.-]+/", message) and "licence" in message.replace("public domain", "licence")
    assert message.count(str(folder)) > 1 and "\n" not in message  # the missing file, and the folder to put it in
    assert name in ("digits", "coco") or ("Temporary failure" in message and re.search(r"\d [MG]B", message))
    assert list(tmp_path.iterdir()) == []
