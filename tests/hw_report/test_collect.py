"""Files of a run folder that a report needs: what is missing or damaged is named, with the command that makes it."""

import pytest
import toy_homework

from hw_common.runs.errors import UserError
from hw_report.collect import Collector, NotThere

COMMAND = "python -m toy_homework"


@pytest.fixture
def collector(tmp_path):
    folder = toy_homework.make_run(tmp_path, "sample-toy")
    found = Collector(toy_homework.HOMEWORK, folder, COMMAND)
    found.run("toy")
    return found


def collect(collector, command=""):
    collector.file("toy.extra", "toy", "extra.json", command, select=lambda content: content["rows"][1])


def test_a_part_of_a_file_has_the_facts_of_its_run(collector):
    (collector.head / "extra.json").write_text('{"rows": [1, 2]}')
    collect(collector)
    extra, run = collector.numbers["toy.extra"], collector.numbers["toy"]
    assert extra.content == 2 and (extra.data, extra.sample, extra.seeds) == (run.data, True, (7,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "extra.json is damaged: "),
        ('{"rows": NaN}', "extra.json is damaged: it contains NaN"),
        ("{}", "extra.json is damaged: unexpected content (KeyError: 'rows')"),
        ("[]", "extra.json is damaged: unexpected content (TypeError: "),
        ('{"rows": []}', "extra.json is damaged: unexpected content (IndexError: "),
    ],
)
def test_a_damaged_file_names_the_command_that_makes_its_run_again(collector, content, message):
    (collector.head / "extra.json").write_text(content)
    with pytest.raises(UserError) as caught:
        collect(collector)
    assert message in str(caught.value)
    assert str(caught.value).endswith(f"; make it again with: rm -r {collector.head} && {COMMAND}")


def test_a_missing_file_names_its_own_command_or_that_of_the_users_run(collector):
    with pytest.raises(NotThere, match=r"is missing; make it with: rm -f .*/extra\.\* && toy .*sample-toy$"):
        collect(collector, "toy")
    collector.own = True
    with pytest.raises(NotThere, match=rf"make it with: {COMMAND} \(then run hw_report without --use\)$"):
        collect(collector)
