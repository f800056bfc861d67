"""Every command of hw_caption through its real entry point: tiny runs, the files they write, resume, bad input."""

import itertools
import json
import os
import shutil
from pathlib import Path

import caption_files
import cnn_files
import commands
import pytest
import torch
from PIL import Image

from hw_caption import caption, compare, experiment, plots, reproduce, results, train
from hw_caption.vocabulary import SPECIALS
from hw_common.runs import checkpoints, files
from hw_common.runs.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
RUN_FILES = {".lock", "config.json", "metrics.csv", "summary.json", "best.safetensors", "last.pt", "vocabulary.json"}
FIGURES = {f"{stem}.{suffix}" for stem in ("curves", "captions") for suffix in ("png", "pdf")}
METRICS = ("bleu4", "corpus_bleu1", "corpus_bleu2", "corpus_bleu3", "corpus_bleu4", "rouge_l", "cider_d")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """A tiny data set: images 0.tif to 5.tif, three for training, one for validation, two for testing."""
    return caption_files.write_json(tmp_path_factory.mktemp("tiny scenes"))  # a path with spaces


def flags_of(scenes, results_dir, *flags):
    where = ["--dataset_dir", str(scenes), "--results_dir", str(results_dir), "--threads", "1", "--device", "cpu"]
    small = ["--image_size", "64", "--epochs", "2", "--lr", "0.01", "--batch_size", "4"]
    return [*where, "--weights", "none", "--backbone", "squeezenet1_1", *small, *flags]


def run_folders(results_dir):
    return {path.name: path for path in (results_dir / "hw_caption").iterdir() if (path / "config.json").is_file()}


_FINETUNED = ["--finetune_encoder", "--backbone", "resnet18"]  # with batch normalization


@pytest.fixture(scope="module")
def runs(scenes, tmp_path_factory):
    """Finished tiny runs: without attention, with it, the recommended one, and one that has trained its encoder."""
    results_dir = tmp_path_factory.mktemp("results of captions")
    trainings = {
        "vanilla": [],
        "attention": ["-use_attention"],
        "best": ["--recipe", "best", "--members", "2"],
        "finetuned": [*_FINETUNED, "--augment"],
    }
    for name, flags in trainings.items():
        with pytest.MonkeyPatch.context() as patch:
            if name != "attention":  # this one has every kind of figure
                commands.draw_nothing(patch)
            train.main(flags_of(scenes, results_dir, "--name", name, *flags))
    return run_folders(results_dir)


@pytest.fixture
def copy(runs, tmp_path):
    """A finished run that a test may damage."""
    return Path(shutil.copytree(runs["attention"], tmp_path / "hw_caption" / "attention"))


# ── train ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_folder_holds_what_was_promised(runs):
    assert set(os.listdir(runs["vanilla"])) == RUN_FILES | FIGURES | {"caps_generated_enc_dec.json"}
    looks = {f"attention-{image}.tif.{suffix}" for image in (4, 5) for suffix in ("png", "pdf")}
    both = {"curves-both.png", "curves-both.pdf"}
    generated = {"caps_generated_enc_dec_w_attention.json"}
    assert set(os.listdir(runs["attention"])) == RUN_FILES | FIGURES | looks | both | generated
    config = files.read_json(runs["attention"] / "config.json")
    assert config["arguments"]["use_attention"] and config["arguments"]["dropout"] == 0.5
    assert {"images", "encoder"} < config["data"].keys()
    for path in runs["attention"].glob("*.png"):
        assert Image.open(path).size[0] > 300
    words = files.read_json(runs["vanilla"] / "vocabulary.json")
    assert words == [*SPECIALS, "a", "and", "house", "houses", "many", "red", "road", "some", "t-junctions"]


@pytest.mark.parametrize("name", ["vanilla", "attention", "best"])
def test_the_summary_says_it_all(runs, name):
    summary = files.read_json(runs[name] / "summary.json")
    assert summary["data"] == "Tiny" and summary["images"] == {"training": 3, "validation": 1, "test": 2}
    assert (summary["captions"], summary["words"], summary["longest"]) == (9, 13, 6)
    ways = ["greedy", "beam", *(["consensus"] if name == "best" else [])]
    assert summary["ways"] == ways
    for epoch, way in itertools.product(("final", "best"), ways):
        assert 0 <= summary[epoch][f"validation_{way}_bleu4"] <= 1
        for metric in METRICS:
            assert 0 <= summary[epoch][f"test_{way}_{metric}"] <= (10 if metric == "cider_d" else 1)
    assert summary["final"]["epoch"] == 2
    if name != "best":
        assert summary["parameters"] == {"vanilla": 697_078, "attention": 1_298_467}[name] - (190 - 13) * (100 + 257)


@pytest.mark.parametrize(
    ("name", "file"),
    [("vanilla", "caps_generated_enc_dec.json"), ("attention", "caps_generated_enc_dec_w_attention.json")],
)
def test_generated_captions_are_in_the_courses_format(runs, name, file):
    rows = files.read_json(runs[name] / file)
    words = set(files.read_json(runs[name] / "vocabulary.json"))
    assert [row["image_name"] for row in rows] == ["4.tif", "5.tif"]
    for row in rows:
        assert row.keys() == {"image_name", "caption"} and set(row["caption"]) <= words - set(SPECIALS)


def test_the_default_name_says_what_was_trained(scenes, tmp_path):
    flags = flags_of(scenes, tmp_path)
    assert train.COMMAND.parse(flags).name == "tiny_scenes0-squeezenet1_1-vanilla-plain"
    flags += ["--backbone", "resnet18", "--use-attention", "--recipe", "best"]
    assert train.COMMAND.parse(flags).name == "tiny_scenes0-attention-best"
    assert train.COMMAND.parse([]).name == "sydney-vanilla-plain"


def test_the_courses_settings_are_the_default():
    arguments = train.COMMAND.parse([])
    assert (arguments.dataset, arguments.weights, arguments.image_size) == ("sydney", "imagenet", 224)
    assert (arguments.epochs, arguments.batch_size, arguments.lr, arguments.optimizer) == (6, 8, 4e-4, "adam")
    assert (arguments.dropout, arguments.schedule, arguments.members) == (0.5, "constant", 1)
    assert (arguments.decoding, arguments.augment, arguments.l2_decay) == ("greedy", False, 0.0)


def test_curves_of_other_data_are_not_laid_over(runs, tmp_path, undrawn):
    rows = files.read_csv(runs["attention"] / "metrics.csv")
    folder = Path(shutil.copytree(runs["vanilla"], tmp_path / "hw_caption" / "vanilla")).with_name("attention")
    folder.mkdir()
    results.draw_curves(folder, "attention", rows, {"other": "data"}, "title")
    assert set(os.listdir(folder)) == {"curves.png", "curves.pdf"}
    results.draw_curves(folder, "attention", rows, files.read_json(runs["vanilla"] / "config.json")["data"], "title")
    assert "curves-both.png" in os.listdir(folder)


def test_a_damaged_run_beside_it_stops_no_run_at_its_end(runs, tmp_path, undrawn):
    folder = Path(shutil.copytree(runs["vanilla"], tmp_path / "hw_caption" / "vanilla")).with_name("attention")
    folder.mkdir()
    (folder.with_name("vanilla") / "config.json").write_text("{")
    results.draw_curves(folder, "attention", files.read_csv(runs["attention"] / "metrics.csv"), {}, "title")
    assert set(os.listdir(folder)) == {"curves.png", "curves.pdf"}


def test_attention_figures_have_names_of_their_own():
    names = ["a/b.png", "a_b.png", "a$b.png", "long" * 60 + ".png", "long" * 60 + ".tif", "caf\udce9", "एक", "b.png"]
    stems = plots.stems(names)
    assert stems[0] == "attention-a_b.png" and stems[-3:] == ["attention-caf_", "attention-एक", "attention-b.png"]
    assert len(set(stems)) == len(names) and all(len(f".{stem}.png.tmp".encode()) < 255 for stem in stems)


def test_other_images_can_be_shown(scenes, tmp_path, undrawn):
    train.main(flags_of(scenes, tmp_path, "-use_attention", "--show", "3.tif", "--epochs", "1", "--name", "mine"))
    assert {path.name for path in (tmp_path / "hw_caption" / "mine").glob("attention-*.png")} == {"attention-3.tif.png"}


def test_the_sheets_images_are_shown_where_there_are_any(tmp_path):
    content = caption_files.description({"train": 1, "val": 1, "test": 4})
    for image, name in zip(content["images"][2:], ("7.tif", "540.tif", "357.tif", "219.tif"), strict=True):
        image["filename"] = name
    found = experiment.data.load("sydney", tmp_path, caption_files.write_json(tmp_path / "sheet", content))
    assert [image.name for image, _ in results.images_to_show(found, None)] == ["219.tif", "540.tif", "357.tif"]


def test_resuming_on_other_images_is_refused(scenes, tmp_path, undrawn):
    changed = Path(shutil.copytree(scenes, tmp_path / "scenes"))
    train.main(flags_of(changed, tmp_path, "--name", "run", "--epochs", "1"))
    folder = tmp_path / "hw_caption" / "run"
    (folder / "summary.json").unlink()
    (changed / "images" / "0.tif").write_bytes(caption_files.picture(99))
    with pytest.raises(UserError, match="the data file images is not the one it was started with"):
        train.main(["--resume", str(folder)])


def test_finetuning_changes_the_encoder_at_its_own_rate(runs, scenes, tmp_path):
    state = checkpoints.load_state(runs["finetuned"] / "last.pt")
    assert [group["lr"] for group in state["optimizer"]["param_groups"]] == [0.01, 0.001]
    arguments = train.COMMAND.parse(flags_of(scenes, tmp_path, *_FINETUNED))
    before = experiment.load_encoder(arguments.weights, arguments.data_dir, arguments.backbone).state_dict()
    after = {name: tensor for name, tensor in state["model"].items() if name.startswith("encoder.")}
    changed = [name for name, tensor in before.items() if not torch.equal(after[f"encoder.{name}"], tensor)]
    assert "trunk.0.weight" in changed
    assert not any("running" in name for name in changed)  # batch normalization keeps its statistics


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--encoder_lr", "0.1"], "--encoder_lr is used only with --finetune_encoder"),
        (["--recipe", "best", "--finetune_encoder"], "--finetune_encoder and --decoding consensus exclude each other"),
        (["--members", "101"], "--members: expected a whole number from 1 to 100, got '101'"),
        (["--beam", "100000"], "--beam: expected a whole number from 1 to 1000"),
        (["--show"], "--show: expected at least one argument"),
        (["--image_size", "100"], "--image_size: expected a multiple of 32"),
        (["--dataset", "sample"], "--dataset sample reads no files"),
    ],
)
def test_wrong_flags_are_one_line(scenes, tmp_path, flags, message):
    with pytest.raises(UserError, match=message) as caught:
        train.main(flags_of(scenes, tmp_path, *flags))
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_an_image_to_show_that_is_not_there_is_named_before_anything_is_done(scenes, tmp_path):
    with pytest.raises(
        UserError, match=r"--show: Tiny has no image '219.tif'; the name of its first test image is 4.tif"
    ):
        train.main(flags_of(scenes, tmp_path, "--show", "4.tif", "219.tif"))
    assert list(tmp_path.iterdir()) == []


# ── caption ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["vanilla", "attention", "best", "finetuned"])
def test_captions_of_files_are_those_of_the_run(runs, scenes, capsys, name):
    [generated] = [files.read_json(path) for path in runs[name].glob("caps_generated_*.json")]
    paths = [str(scenes / "images" / row["image_name"]) for row in generated]
    caption.main([str(runs[name]), *paths, "--json"])
    expected = [{"image_name": path, "caption": row["caption"]} for path, row in zip(paths, generated, strict=True)]
    assert json.loads(capsys.readouterr().out) == expected


def test_a_line_for_each_file_whatever_they_are_called(runs, tmp_path, capsys):
    for number, folder in enumerate(("one", "other")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.png").write_bytes(caption_files.picture(number, mode="L"))
    paths = [tmp_path / "one" / "same.png", tmp_path / "other" / "same.png", tmp_path / "one" / "same.png"]
    caption.main([str(runs["attention"]), *map(str, paths), "--beam", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(path) for path in paths]
    assert lines[0] == lines[2]
    with pytest.raises(UserError, match="--beam: expected a whole number from 1 to 1000, got '2000'"):
        caption.main([str(runs["attention"]), str(paths[0]), "--beam", "2000"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*image.png: No such file"),
        (b"no image", "image.png is not an image"),
        (caption_files.picture()[:-50], "image.png is damaged"),
        (cnn_files.png_claiming(100_000, 100_000), "image.png (has|claims)"),
    ],
    ids=["missing", "no image", "cut short", "bomb"],
)
def test_files_that_are_no_images_are_one_line(runs, tmp_path, content, message):
    path = tmp_path / "image.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        caption.main([str(runs["vanilla"]), str(path)])
    assert "\n" not in str(caught.value)


def change_json(path, change):
    content = files.read_json(path)
    change(content)
    path.write_text(json.dumps(content))


def other_words(run):
    change_json(run / "vocabulary.json", lambda words: words.reverse() or words.sort(key=lambda w: w not in SPECIALS))
    change_json(run / "vocabulary.json", lambda words: words.__setitem__(slice(0, 4), SPECIALS))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "vocabulary.json").unlink(), "cannot read .*vocabulary.json"),
        (lambda run: (run / "vocabulary.json").write_text("[1]"), "vocabulary.json is damaged"),
        (other_words, "holds weights for vocabulary '[0-9a-f]+', expected"),
        (
            lambda run: change_json(run / "config.json", lambda c: c["arguments"].update(use_attention=False)),
            "holds weights for decoder 'attention', expected 'vanilla'",
        ),
        (
            lambda run: change_json(run / "config.json", lambda c: c["data"].update(encoder="other")),
            "--weights none in .*config.json have changed since the training",
        ),
        (
            lambda run: change_json(run / "config.json", lambda c: c["arguments"].update(members=10**9)),
            "config.json is damaged: --members: expected a whole number from 1 to 100",
        ),
        (
            lambda run: change_json(run / "summary.json", lambda summary: summary.update(longest=10**9)),
            "its summary has no valid maximum length of a caption",
        ),
    ],
)
def test_a_damaged_run_is_one_clear_line(copy, scenes, damage, message):
    damage(copy)
    with pytest.raises(UserError, match=message) as caught:
        caption.main([str(copy), str(scenes / "images" / "0.tif")])
    assert "\n" not in str(caught.value)


# ── compare and reproduce ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_comparison_has_the_means_over_the_seeds(scenes, tmp_path, capsys, undrawn):
    flags = flags_of(scenes, tmp_path, "--name", "both", "--epochs", "1")
    compare.main([*flags, "--seeds", "42", "43"])
    names = {f"both-{decoder}-seed{seed}" for decoder in ("vanilla", "attention") for seed in (42, 43)}
    assert run_folders(tmp_path).keys() == {"both", *names}
    folder = tmp_path / "hw_caption" / "both"
    table = {"table.csv", "table.md", "curves.png", "curves.pdf"}
    assert set(os.listdir(folder)) == {".lock", "config.json", "summary.json"} | table
    printed = capsys.readouterr().out
    assert "encoder squeezenet1_1" in printed and "without attention | greedy" in printed
    summary = files.read_json(folder / "summary.json")
    assert f"{summary['paired_test']['images']} test images, BLEU-4 with attention minus without" in printed
    means = {decoder: sum(values) / len(values) for decoder in ("vanilla", "attention")
             if (values := summary["paired_test"][f"{decoder}_each"])}  # fmt: skip
    rows = {row["decoder"]: row["best_test_bleu4"] for row in summary["table"] if row["way"] == "greedy"}
    assert means == pytest.approx(rows)
    assert [(row["decoder"], row["way"], row["seeds"]) for row in summary["table"]] == [
        ("vanilla", "greedy", 2), ("vanilla", "beam", 2), ("attention", "greedy", 2), ("attention", "beam", 2)
    ]  # fmt: skip
    values = [
        files.read_json(tmp_path / "hw_caption" / f"both-attention-seed{seed}" / "summary.json")["final"]
        for seed in (42, 43)
    ]
    rouge = [numbers["test_greedy_rouge_l"] for numbers in values]
    assert summary["table"][2]["final_test_rouge_l"] == pytest.approx(sum(rouge) / 2)
    assert summary["table"][2]["final_test_rouge_l_std"] == pytest.approx(abs(rouge[0] - rouge[1]) / 2**0.5)


def test_one_decoder_alone(scenes, tmp_path, undrawn):
    flags = flags_of(scenes, tmp_path, "--name", "one", "--epochs", "1", "--only", "vanilla", "--decoding", "consensus")
    compare.main(flags)
    assert run_folders(tmp_path).keys() == {"one", "one-vanilla-seed42"}
    rows = files.read_json(tmp_path / "hw_caption" / "one" / "summary.json")["table"]
    assert [(row["decoder"], row["way"]) for row in rows] == [
        ("vanilla", "greedy"), ("vanilla", "beam"), ("vanilla", "consensus")
    ]  # fmt: skip
    with pytest.raises(UserError, match="another --name"):
        compare.main(flags_of(scenes, tmp_path, "--name", "one", "--epochs", "1"))


def test_reproduce_does_everything_and_the_second_time_nothing(scenes, tmp_path, monkeypatch, capsys, undrawn):
    quick = flags_of(scenes, tmp_path)
    monkeypatch.setattr(reproduce, "_DATA", {"sample": [*quick, "--epochs", "1"]})
    reproduce.main(["--results_dir", str(tmp_path), "--jobs", "1"])
    printed = [Path(line.strip()) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert len(printed) == 9
    for path in printed:
        assert list(path.parent.glob(path.name)), path
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(before) == 4  # the weights of three runs, and the consensus of one
    reproduce.main(["--results_dir", str(tmp_path), "--jobs", "1"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
