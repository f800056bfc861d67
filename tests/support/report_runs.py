"""The results of a build with sample runs, without weights and pictures: report_runs.json, and how to renew it.

    python tests/support/report_runs.py results

reads the run folders of a finished `python -m hw_report build` in `results`; `unpack` lays them out again for a test.
"""

import json
import sys
from pathlib import Path

import toy_homework

from hw_common.runs import files
from hw_common.runs.run_folder import CONFIG
from hw_report.build import Settings
from hw_report.experiments import EXPERIMENTS

KEPT = Path(__file__).with_suffix(".json")
_OF_CONFIG = ("schema", "homework", "command", "started", "versions")


def pack(results_dir):
    """Everything that hw_report reads of the run folders in `results_dir`: JSON files, and the names of figures."""
    kept = {}
    for experiment in EXPERIMENTS.values():
        collector = Settings("sample", results_dir).collect(experiment)
        for numbers in collector.numbers.values():
            folder = numbers.run.folder
            name = folder.relative_to(results_dir).as_posix()
            kept[name] = {
                path.name: files.read_json(path) for path in folder.glob("*.json") if path.stem != "vocabulary"
            }
            config = kept[name][CONFIG]
            shown = {"arguments": numbers.as_json()["arguments"]}
            kept[name][CONFIG] = {key: config[key] for key in _OF_CONFIG} | shown
            figures = [picture.path for picture in collector.pictures.values() if picture.path.parent == folder]
            kept[name]["figures"] = sorted(path.name for path in figures)
    return dict(sorted(kept.items()))


def unpack(results_dir):
    """Lays out the run folders in `results_dir`, with a blank page for every figure."""
    blank = toy_homework.blank()
    for name, content in json.loads(KEPT.read_text()).items():
        (results_dir / name).mkdir(parents=True)
        for figure in content.pop("figures"):
            (results_dir / name / figure).write_bytes(blank)
        for file, value in content.items():
            (results_dir / name / file).write_text(json.dumps(value))


if __name__ == "__main__":
    KEPT.write_text(json.dumps(pack(Path(sys.argv[1])), separators=(",", ":")).replace('},"hw_', '},\n"hw_') + "\n")
