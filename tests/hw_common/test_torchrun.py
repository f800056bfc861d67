"""Real commands under torchrun: two processes, two machines, and a killed process that torchrun starts again."""

import csv
import importlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import asr_files
import caption_files
import pytest
import tiny
from commands import draw_nothing, interrupted
from two_machines import ADDRESSES, two_machines

from hw_common.runs import checkpoints
from hw_common.runs.errors import Stopped
from hw_common.runs.run_folder import CONFIG, LAST, METRICS, SUMMARY

SUPPORT = Path(__file__).resolve().parents[1] / "support"
CNN = "--dataset sample --network oct --epochs 2 --batch_size 100 --lr 0.1 --save_minutes 1e-9 --threads 1 --name run"
REST = "--epochs 1 --threads 1 --name run"
STEPS = 12  # optimizer steps in an epoch of CNN


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """A small training of each kind: its module and flags."""
    data = tmp_path_factory.mktemp("data")
    caption_files.write_json(data / "captions")
    speech = asr_files.write(data / "speech")
    return {
        "hw_cnn": f"hw_cnn.train {CNN}",
        "hw_asr": f"hw_asr.train --dataset_dir {speech} --batch_size 4 --decoder lstm {REST}",
        "hw_caption": f"hw_caption.train --dataset_dir {data / 'captions'} --weights none --backbone squeezenet1_1 "
        f"--image_size 32 --lr 0.01 --batch_size 4 -use_attention {REST}",
    }


@pytest.fixture(scope="module")
def torchrun(lines):
    """Runs torchrun with forked processes, which saves seconds; `test_distributed.py` runs torchrun as it is.

    `torchrun(words, lines, results)` returns what it has printed. With `namespaces`, it runs once in each of these
    network namespaces, with the flag --node_rank.
    """
    program = SUPPORT / "forking_torchrun.py"
    path = os.pathsep.join([str(SUPPORT.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    modules = [f"{homework}.experiment" for homework in lines]
    forking = subprocess.Popen(
        [sys.executable, program, *modules], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def run(words, lines, results, kills=(), namespaces=(None,)):
        lines = [f"{line} --results_dir {shlex.quote(str(results))}" for line in lines]
        environment = {"KILLS": json.dumps(kills)}
        if namespaces[0]:  # gloo would listen at the address of the host's name, which is not in the namespace
            environment["GLOO_SOCKET_IFNAME"] = "veth0"
        outputs = [results / f"torchrun-{rank}.log" for rank in range(len(namespaces))]
        requests = [
            ([*words, f"--node_rank={rank}"], lines, str(output), environment, namespace)
            for rank, (output, namespace) in enumerate(zip(outputs, namespaces, strict=True))
        ]
        print(json.dumps(requests), file=forking.stdin, flush=True)
        answer = forking.stdout.readline()
        assert answer, "forking_torchrun.py has ended"
        exit_codes = json.loads(answer)
        printed = "".join(output.read_text() for output in outputs)
        assert set(exit_codes) == {0}, printed[-4000:]
        return printed

    with forking:
        yield run
        forking.stdin.close()


@pytest.fixture(scope="module")
def two_processes(lines, torchrun, tmp_path_factory):
    """The results of two processes that were not interrupted."""
    results = tmp_path_factory.mktemp("two")
    torchrun(["--standalone", "--nproc_per_node=2"], lines.values(), results)
    return results


@pytest.fixture(scope="module")
def one_process(lines, tmp_path_factory):
    """The results of one process."""
    results = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        for line in lines.values():
            module, *flags = shlex.split(line)
            importlib.import_module(module).main([*flags, "--results_dir", str(results)])
    return results


def rows(results, homework):
    with open(results / homework / "run" / METRICS, newline="") as file:
        return [{name: float(row[name]) for name in row if name != "seconds"} for row in csv.DictReader(file)]


def assert_equal_up_to_rounding(results, others, homework):
    for own, other in zip(rows(results, homework), rows(others, homework), strict=True):
        assert own == pytest.approx(other, rel=1e-4, abs=1e-5)


def bits(results):
    state = checkpoints.load_state(results / "hw_cnn" / "run" / LAST)
    return tiny.plain([state[name] for name in ("model", "best", "optimizer", "generators")])


@pytest.mark.parametrize("homework", ["hw_cnn", "hw_asr", "hw_caption"])
def test_two_processes_give_the_numbers_of_one(two_processes, one_process, homework):
    assert_equal_up_to_rounding(two_processes, one_process, homework)
    config = json.loads((two_processes / homework / "run" / CONFIG).read_text())
    assert config["host"]["processes"] == 2


def test_two_machines_give_the_numbers_of_one_process(lines, torchrun, one_process, two_processes, tmp_path):
    words = ["--nnodes=2", "--nproc_per_node=1", "--master_addr", ADDRESSES[0]]
    with two_machines() as namespaces:
        torchrun(words, [lines["hw_cnn"], lines["hw_asr"]], tmp_path, namespaces=namespaces)
    for homework in ("hw_cnn", "hw_asr"):
        assert_equal_up_to_rounding(tmp_path, one_process, homework)
    assert bits(tmp_path) == bits(two_processes)


def test_killed_processes_come_back_and_end_with_the_same_bits(lines, torchrun, two_processes, tmp_path):
    kills = [(1, STEPS + 5), (0, 3)]  # in the second epoch; then soon after the training has been resumed
    words = ["--standalone", "--nproc_per_node=2", "--max_restarts=3"]
    output = torchrun(words, [lines["hw_cnn"]], tmp_path, kills)
    assert output.count(f"torchrun has restarted this training; it resumes in {tmp_path}") == 2
    assert [folder.name for folder in (tmp_path / "hw_cnn").iterdir()] == ["run"]
    assert (tmp_path / "hw_cnn" / "run" / SUMMARY).is_file()
    assert rows(tmp_path, "hw_cnn") == rows(two_processes, "hw_cnn") and bits(tmp_path) == bits(two_processes)


# ── which folder a restarted training resumes, in this process alone ─────────────────────────────────────────────────


@pytest.fixture
def attempt(trained, monkeypatch, tmp_path, undrawn):
    """`attempt(job, restarts)` is a start of a training by torchrun."""
    run = trained("hw_ocr.train", "cnn")

    def train(job, restarts):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", job)
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(restarts))
        run.main(run.flags_into(tmp_path))

    return train


@pytest.mark.parametrize("job", ["my-job", "none"])
@pytest.mark.parametrize("left", [LAST, CONFIG])
def test_a_restart_resumes_the_folder_of_its_own_first_start(attempt, trained, tmp_path, job, left):
    attempt("other", 0)
    with interrupted("step 4"), pytest.raises(Stopped):
        attempt(job, 0)
    folder = tmp_path / "hw_ocr" / "run-2"
    if left == CONFIG:  # killed before the first checkpoint
        (folder / LAST).unlink()
    attempt(job, 1)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["run", "run-2"]
    assert (folder / SUMMARY).is_file()
    assert tiny.outcome(folder) == tiny.outcome(trained("hw_ocr.train", "cnn").folder)


def test_a_restart_without_a_folder_makes_one_and_another_call_makes_its_own(attempt, tmp_path):
    attempt("my-job", 1)
    attempt("my-job", 0)
    attempt("other", 1)
    assert sorted(path.name for path in (tmp_path / "hw_ocr").iterdir()) == ["run", "run-2", "run-3"]
