"""convnets-2024 Task 3.2: when a measurement must wait for the GPU."""

import pytest

from hw_check.networks.measuring import measured_ratio

MEASURE = """\
def measure(model, images):
    model(images)
    {before}
    start = time.perf_counter()
    model(images)
    {after}
    return time.perf_counter() - start

ratio = measure(own, images) / measure(default, images)
"""
WAIT = "torch.cuda.synchronize()"


@pytest.mark.parametrize(
    ("networks", "before", "after", "waits"),
    [
        ("own, default = own.cuda(), default.cuda()", WAIT, WAIT, True),
        ("own, default = own.cuda(), default.cuda()", WAIT, "pass", False),
        ("device = torch.device('cuda')\nown, default = own.to(device), default.to(device)", "pass", "pass", False),
        ("trained = Other().cuda()", "pass", "pass", True),  # the timed networks are on the CPU
    ],
)
def test_only_timed_networks_on_a_gpu_must_wait_after_the_timed_calls(networks, before, after, waits, tmp_path):
    text = f"import time\n{networks}\n{MEASURE.format(before=before, after=after)}"
    (tmp_path / "assignment2.py").write_text(text)
    assert ("GPU is not waited for" not in measured_ratio(tmp_path).hint) == waits


EVENTS = """\
def measure(model, images, runs=10):
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    for _ in range(3):
        model(images)
    start.record()
    for _ in range(runs):
        model(images)
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / runs

ratio = measure(own, images) / measure(default, images)
"""


def test_first_clock_of_cuda_events_is_the_first_record(tmp_path):
    path = tmp_path / "assignment2.py"
    path.write_text(EVENTS)
    assert measured_ratio(tmp_path).status == "passed"
    path.write_text(EVENTS.replace("    for _ in range(3):\n        model(images)\n", ""))
    assert "are not run before the clock is first read" in measured_ratio(tmp_path).hint
