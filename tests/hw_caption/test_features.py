"""The encoder's features: their values, the file that stores them, and what is computed again after a change."""

import fcntl
import json
import os
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import caption_files
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import transforms
from torchvision.models import densenet121, resnet18

from hw_caption import backbone, data, feature_store, features, images
from hw_caption.models import Encoder
from hw_common.data.feature_cache import INDEX, ROWS
from hw_common.runs.errors import Stopped
from hw_common.training.backbones import BACKBONES

SIZE = 32


# The encoder


def test_the_trunk_is_resnet18_without_its_last_two_layers(tmp_path):
    trunk = backbone.load_trunk("none", tmp_path, seed=3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = resnet18().eval()
    inputs = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        regions = Encoder(trunk)(inputs)
        assert regions.shape == (2, 2 * 3, 512)
        assert torch.allclose(network.fc(regions.mean(1)), network(inputs), atol=1e-5)
    assert not trunk.training and not any(parameter.requires_grad for parameter in trunk.parameters())
    assert sum(parameter.numel() for parameter in trunk.parameters()) == 11_176_512


@pytest.mark.parametrize("network", list(BACKBONES))
def test_other_trunks_give_the_feature_maps_that_torchvision_pools(tmp_path, network):
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:  # shapes only
        patch.setattr(torch.nn.init, "trunc_normal_", lambda tensor, *_, **__: tensor)
        trunk = backbone.load_trunk("none", tmp_path, backbone=network)
        regions = Encoder(trunk)(torch.empty(1, 3, 224, 224))
    side = 13 if network == "squeezenet1_1" else 7
    assert regions.shape == (1, side * side, BACKBONES[network].channels)


def test_the_regions_of_densenet_are_what_its_classifier_averages(tmp_path):
    trunk = backbone.load_trunk("none", tmp_path, seed=3, backbone="densenet121")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = densenet121().eval()
    inputs = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = network(inputs)
        torch.testing.assert_close(network.classifier(Encoder(trunk)(inputs).mean(1)), expected, atol=1e-5, rtol=1e-5)


def test_pixels_are_normalized_as_torchvision_does_it():
    pixels = caption_files.pixels(3, 6, 5, 3)
    convert = transforms.Compose([transforms.ToTensor(), transforms.Normalize(backbone.PIXEL_MEAN, backbone.PIXEL_STD)])
    expected = torch.stack([convert(image) for image in pixels])
    found = backbone.to_input(pixels)
    assert torch.allclose(found, expected, atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert pixels.dtype == np.uint8 and np.array_equal(pixels, caption_files.pixels(3, 6, 5, 3))  # untouched


@pytest.fixture(scope="module")
def trained() -> dict[str, torch.Tensor]:
    """A state dict of ResNet-18 with ten classes."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return resnet18(num_classes=10).state_dict()


def test_weights_reach_the_trunk(tmp_path, trained):
    save_file(trained, tmp_path / "weights.safetensors")
    trunk = backbone.load_trunk(str(tmp_path / "weights.safetensors"), tmp_path)
    expected = [tensor for name, tensor in trained.items() if not name.startswith("fc.")]
    assert all(torch.equal(a, b) for a, b in zip(trunk.state_dict().values(), expected, strict=True))
    assert backbone.weights_sha256(trunk) != backbone.weights_sha256(backbone.load_trunk("none", tmp_path))


# What is kept


def small_network(weights, data_dir, seed=42, network="resnet18"):
    """A quick stand-in for `load_trunk`; other seeds or weights give other numbers."""
    layer = torch.nn.Conv2d(3, BACKBONES[network].channels, 32, 32)
    generator = torch.Generator().manual_seed(seed + len(weights))
    layer.weight.data.copy_(torch.randn(layer.weight.shape, generator=generator) / 50)
    layer.bias.data.zero_()
    return torch.nn.Sequential(layer).eval().requires_grad_(False)


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> data.CaptionData:
    """Six images in a folder, and a small network in place of ResNet-18."""
    monkeypatch.setattr(backbone, "load_trunk", small_network)
    return data.load("sydney", tmp_path, caption_files.write_json(tmp_path / "tiny"))


@pytest.fixture
def count(monkeypatch) -> list[str]:
    """A list of the images decoded for the network so far, by name."""
    seen = []
    decode = feature_store.decode_bytes
    monkeypatch.setattr(
        feature_store, "decode_bytes", lambda *arguments: (seen.append(Path(arguments[1]).name), decode(*arguments))[1]
    )
    return seen


def ensure(found: data.CaptionData, results: Path, weights: str = "none", **options) -> feature_store.FeatureStore:
    options = {"size": SIZE, "data_dir": results, "device": torch.device("cpu"), **options}
    return feature_store.ensure(found.images, found.label, weights, results_dir=results / "results", **options)


def expected(found: data.CaptionData, view: int = 0, size: int = SIZE, **network) -> torch.Tensor:
    """The features of all images, each computed by itself."""
    encoder = Encoder(small_network(**{"weights": "none", "data_dir": Path(), **network}))
    inputs = [backbone.to_input(images.turn(images.decode(image, size), view)[None].copy()) for image in found.images]
    with torch.inference_mode():
        return torch.cat([encoder(image) for image in inputs])


def test_features_are_those_of_each_image_by_itself(tmp_path, tiny):
    store = ensure(tiny, tmp_path, size=96)
    names = [image.name for image in tiny.images]
    found = store.take(names)
    assert (found.shape, found.dtype, len(store.caches)) == ((6, 9, 512), torch.float32, 1)
    assert torch.allclose(found, expected(tiny, size=96), rtol=1e-3, atol=1e-3)  # float16
    assert torch.equal(store.take(["4.tif", "1.tif", "4.tif"]), found[[4, 1, 4]])
    rows = np.memmap(store.folder / ROWS, np.float16, "r", shape=(6, 9, 512))
    assert torch.equal(torch.from_numpy(rows.astype(np.float32)), found)


def test_the_index_says_what_the_features_are_of(tmp_path, tiny):
    store = ensure(tiny, tmp_path)
    assert store.folder == tmp_path / "results" / "hw_caption" / "features" / "tiny-none42-32"
    assert sorted(caption_files.snapshot(store.folder)) == [INDEX, ROWS]
    index = json.loads((store.folder / INDEX).read_text())
    assert index.keys() == {"schema", "width", "device", "decoder", "encoder", "preprocessing", "items"}
    assert list(index["items"]) == [feature_store._sha256(image) for image in tiny.images]
    assert index["preprocessing"]["size"] == [SIZE, SIZE] and index["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert index["encoder"]["sha256"] == store.hashes["encoder"]


def test_what_is_up_to_date_is_not_computed_again(tmp_path, tiny, count, capsys):
    ensure(tiny, tmp_path)
    assert len(count) == 6
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.*") if path.name != ".lock"}
    capsys.readouterr()
    ensure(tiny, tmp_path)
    assert len(count) == 6 and capsys.readouterr().out == ""
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_only_what_changed_is_computed_again(tmp_path, tiny, count):
    first = ensure(tiny, tmp_path)
    old = first.take([image.name for image in tiny.images])
    (tmp_path / "tiny" / "images" / "2.tif").write_bytes(caption_files.picture(99))
    store = ensure(tiny, tmp_path)
    assert count[6:] == ["2.tif"]
    new = store.take([image.name for image in tiny.images])
    assert torch.allclose(new, expected(tiny), rtol=1e-3, atol=1e-3)
    assert (new != old).flatten(1).any(1).tolist() == [False, False, True, False, False, False]
    assert store.hashes["images"] != first.hashes["images"]
    # A store that was opened earlier still has the old features.
    assert torch.equal(first.take([image.name for image in tiny.images]), old)


def test_features_belong_to_images_and_not_to_places(tmp_path, tiny, count):
    ensure(tiny, tmp_path)
    content = caption_files.description()
    content["images"].reverse()
    del content["images"][1]
    (tmp_path / "tiny" / "dataset.json").write_text(json.dumps(content))
    changed = data.load("sydney", tmp_path, tmp_path / "tiny")
    store = ensure(changed, tmp_path)
    assert len(count) == 6
    assert torch.allclose(store.take([i.name for i in changed.images]), expected(changed), rtol=1e-3, atol=1e-3)


def test_other_weights_or_sizes_have_their_own_features(tmp_path, tiny):
    stores = [
        ensure(tiny, tmp_path),
        ensure(tiny, tmp_path, seed=7),
        ensure(tiny, tmp_path, size=64),
        ensure(tiny, tmp_path, weights="some/where/my weights.pth"),
    ]
    assert [store.folder.name for store in stores] == [
        "tiny-none42-32", "tiny-none7-32", "tiny-none42-64", "tiny-my_weights-32"
    ]  # fmt: skip
    assert len({store.hashes["encoder"] for store in stores}) == 3
    assert torch.allclose(stores[1].take(["0.tif"])[0], expected(tiny, seed=7)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("break_it", "computed", "says"),
    [
        (lambda f: os.truncate(f / ROWS, 5000), 2, "the features of 2 images are damaged; they are computed again"),
        (lambda f: change_byte(f / ROWS, 2000), 1, "the features of 1 images are damaged; they are computed again"),
        (lambda f: (f / INDEX).write_bytes((f / INDEX).read_bytes()[:200]), 6, "cannot be read"),
        (lambda f: change_index(f, encoder={"network": "resnet18", "sha256": "0"}), 6, "another encoder"),
        (lambda f: change_index(f, preprocessing=None, encoder=None), 6, "another encoder and another preprocessing"),
        (lambda f: change_index(f, decoder=None), 6, "the cached features were made with another decoder; all"),
    ],
    ids=["cut short", "changed", "index cut short", "weights", "preprocessing", "before decoders had names"],
)
def test_features_that_cannot_be_trusted_are_computed_anew(tmp_path, tiny, count, capsys, break_it, computed, says):
    names = [image.name for image in tiny.images]
    store = ensure(tiny, tmp_path)
    before = store.take(names)
    break_it(store.folder)
    capsys.readouterr()
    again = ensure(tiny, tmp_path)
    first_line = capsys.readouterr().out.splitlines()[0]
    assert says in first_line and str(store.folder) in first_line and "computed again" in first_line
    assert len(count) == 6 + computed
    assert torch.equal(again.take(names), before)


def change_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def change_index(folder: Path, **changes) -> None:
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps({**index, **changes}))


def test_a_gpu_and_a_cpu_do_not_share_features(tmp_path, tiny, count, monkeypatch, capsys):
    def on_gpu(name):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
        return ensure(tiny, tmp_path, device=SimpleNamespace(type="cuda"))

    cpu = ensure(tiny, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "to", lambda module, device: module)  # stands in for a GPU
        for name in ("a GPU", "a GPU", "another GPU"):
            gpu = on_gpu(name)
    assert gpu.folder.name == f"{cpu.folder.name}-cuda" and len(count) == 18
    assert capsys.readouterr().out.count("made with another device; all features are computed again") == 1
    assert ensure(tiny, tmp_path).folder == cpu.folder and len(count) == 18
    change_index(cpu.folder, device=None)  # like a folder of an earlier version, which named no device
    ensure(tiny, tmp_path)
    assert len(count) == 24


def test_an_image_that_is_there_twice_is_computed_once(tmp_path, tiny, count):
    content = (tmp_path / "tiny" / "images" / "1.tif").read_bytes()
    (tmp_path / "tiny" / "images" / "4.tif").write_bytes(content)
    store = ensure(tiny, tmp_path)
    assert len(count) == 5
    assert torch.equal(*store.take(["1.tif", "4.tif"]))


def test_an_image_that_changes_meanwhile_is_not_mistaken_for_itself(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(feature_store, "_sha256", lambda image: "of what it was before " + image.name)
    with pytest.raises(feature_store.UserError, match="0.tif was changed while the features were computed"):
        ensure(tiny, tmp_path)


def test_views_are_kept_beside_each_other(tmp_path, tiny, count):
    store = ensure(tiny, tmp_path, views=8)
    assert len(store.caches) == 8 and len(count) == 48
    names, views = ["0.tif", "3.tif", "0.tif"], [5, 0, 2]
    rows = {"0.tif": 0, "3.tif": 3}
    wanted = torch.stack([expected(tiny, view)[rows[name]] for name, view in zip(names, views, strict=True)])
    assert torch.allclose(store.take(names, views), wanted, rtol=1e-3, atol=1e-3)
    assert len(list(store.folder.parent.iterdir())) == 8
    assert torch.equal(ensure(tiny, tmp_path).take(names), store.take(names))  # view 0 is shared


def test_pixels_are_what_the_encoder_sees(tiny):
    pixels = feature_store.Pixels(tiny.images, SIZE)
    wanted = [
        backbone.to_input(images.turn(images.decode(tiny.images[i], SIZE), v)[None].copy()) for i, v in [(2, 0), (1, 6)]
    ]
    assert torch.equal(pixels.take(["2.tif", "1.tif"], [0, 6]), torch.cat(wanted))


# Interruptions


@pytest.fixture
def interrupt(monkeypatch):
    """`at(number, error)` raises `error` while the network processes that image; batches have one image each."""
    monkeypatch.setattr(feature_store, "_BATCH", 1)
    real = Encoder.forward

    def at(number, error):
        seen = []

        def forward(self, images):
            seen.append(images)
            if len(seen) > number:
                raise error
            return real(self, images)

        monkeypatch.setattr(Encoder, "forward", forward)

    return at


@pytest.mark.parametrize("number", [0, 1, 5])
def test_an_interrupted_computation_goes_on_to_the_same_bits(tmp_path, tiny, count, interrupt, number):
    whole = caption_files.snapshot(ensure(tiny, tmp_path / "undisturbed").folder)
    interrupt(number, KeyboardInterrupt())
    with pytest.raises(Stopped, match=f"stopped after {number} of 6 images; they are saved") as stopped:
        ensure(tiny, tmp_path)
    assert stopped.value.signal_number == 2
    interrupt(99, None)
    count.clear()
    folder = ensure(tiny, tmp_path).folder
    assert len(count) == 6 - number
    assert caption_files.snapshot(folder) == whole


def test_a_damaged_image_costs_nothing_that_was_done(tmp_path, tiny, count, monkeypatch):
    monkeypatch.setattr(feature_store, "_BATCH", 1)
    good = (tmp_path / "tiny" / "images" / "3.tif").read_bytes()
    (tmp_path / "tiny" / "images" / "3.tif").write_bytes(b"no image")
    with pytest.raises(feature_store.UserError, match="3.tif is not an image"):
        ensure(tiny, tmp_path)
    (tmp_path / "tiny" / "images" / "3.tif").write_bytes(good)
    count.clear()
    ensure(tiny, tmp_path)
    assert sorted(count) == ["3.tif", "4.tif", "5.tif"]


def test_a_second_process_waits_for_the_first(tmp_path, tiny, monkeypatch):
    folder = ensure(tiny, tmp_path).folder
    said = []
    with open(folder / ".lock", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as another process would hold it
        release = partial(fcntl.flock, file, fcntl.LOCK_UN)
        monkeypatch.setattr("builtins.print", lambda line, **options: (said.append(line), release()))
        timer = threading.Timer(20, release)  # only if nothing is printed
        timer.start()
        ensure(tiny, tmp_path)
        timer.cancel()
        timer.join()
    assert "waiting for another process" in said[0]


# The command


def test_the_command_computes_once(tmp_path, tiny, count, capsys):
    flags = ["--dataset_dir", str(tmp_path / "tiny"), "--results_dir", str(tmp_path / "with space")]
    for computed in (6, 6):
        features.main([*flags, "--weights", "none", "-image_size", "64", "--threads", "1", "--device", "cpu"])
        assert len(count) == computed
        where = tmp_path / "with space" / "hw_caption" / "features" / "tiny-none42-64"
        assert capsys.readouterr().out.splitlines()[-1] == f"Tiny: 6 images with 2×2 regions are in {where}"
    assert sorted(caption_files.snapshot(tmp_path / "with space")) == [
        f"hw_caption/features/tiny-none42-64/{name}" for name in (INDEX, ROWS)
    ]


def test_defaults_depend_on_the_data_set():
    found = []
    for flags in ([], ["--dataset", "sample"], ["--dataset", "sample", "--weights", "imagenet", "--image_size", "64"]):
        arguments = features.parser().parse_args(flags)
        features.resolve(arguments)
        found.append((arguments.weights, arguments.image_size))
    assert found == [("imagenet", 224), ("none", 128), ("imagenet", 64)]
