"""The sheet's files import only NumPy and one another, by bare names if the course's scripts import them so."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from hw_numpy import presets, solver

FOLDER = Path(solver.__file__).parent
FILES = ("layers", "rnn_layers", "softmax", "cnn", "rnn", "optim", "solver", "captioning_solver", "gradient_check")
LIBRARY = {"numpy", "collections", "concurrent", "math", "typing"}
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from layers import *
from rnn_layers import *
from softmax import *
from cnn import *
from rnn import CaptioningRNN
from solver import *
from captioning_solver import CaptioningSolver
from gradient_check import *
from optim import *
import numpy as np, rnn, rnn_layers
assert rnn.rnn_layers is rnn_layers and rnn_step_forward and lstm_backward and temporal_softmax_loss

model = ConvNet(input_dim=(1, 6, 6), num_filters=2, filter_size=3, hidden_dim=3, seed=0)
X, y = np.ones((4, 1, 6, 6)), np.array([0, 1, 2, 3])
Solver(model, dict(X_train=X, y_train=y, X_val=X, y_val=y), num_epochs=1, verbose=False).train()
SoftmaxClassifier(4, 3).loss(np.ones((2, 4)))

np.random.seed(0)
words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "a": 3}
data = {"train_captions": np.array([[1, 3, 2, 0]]), "train_image_idxs": np.array([0]),
        "train_features": np.ones((1, 4)), "word_to_idx": words}
model = CaptioningRNN(words, input_dim=4, wordvec_dim=3, hidden_dim=8, cell_type="rnn")
training = CaptioningSolver(model, data, update_rule="adam", num_epochs=60, batch_size=25,
                            optim_config={"learning_rate": 5e-3}, lr_decay=0.95, verbose=True, print_every=10)
training.train()
assert len(training.loss_history) == 60
print(model.sample(np.ones((1, 4)), max_length=5))
assert not any(name.startswith(("hw_", "torch", "h5py", "PIL")) for name in sys.modules)
"""


@pytest.mark.parametrize("name", FILES)
def test_the_sheets_files_import_only_numpy_and_one_another(name):
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= LIBRARY | set(FILES)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module.partition(".")[0] in LIBRARY | set(FILES)
        elif isinstance(node, ast.ImportFrom):
            assert {node.module} <= set(FILES) if node.module else {alias.name for alias in node.names} <= set(FILES)


def test_the_files_work_as_the_courses_scripts_import_them(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(FOLDER)]
    done = subprocess.run(command, cwd=tmp_path, env={"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("(step 1 of 60) loss ") and lines[-1] == "[[3 2 0 0 0]]"


def test_the_commands_offer_the_solvers_update_rules():
    assert presets.UPDATE_RULES == solver.UPDATE_RULES
