"""Command lines: declares flags, reports wrong ones, and turns errors into one line and an exit status.

No module of this package imports torch before the arguments are checked, so that errors in them are reported at once.
"""

import argparse
import contextlib
import io
import math
import os
import re
import signal
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from hw_common.commands import environment
from hw_common.commands.failures import explain, is_out_of_memory
from hw_common.runs import launch
from hw_common.runs.errors import Terminated, UserError
from hw_common.runs.roles import Role

_UNSET = object()
_DEVICES = ("con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)))


class _Help(argparse.RawDescriptionHelpFormatter):
    """Shows `--learning_rate LR` or `--augment, --no-augment` instead of all accepted spellings."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        is_switch = isinstance(action, argparse.BooleanOptionalAction)
        words = [(o, o[2:].removeprefix("no-" if is_switch else "")) for o in action.option_strings]
        spellings = ", ".join(o for o, word in words if o.startswith("--") and "-" not in word)
        if not spellings:
            return super()._format_action_invocation(action)
        return spellings if action.nargs == 0 else f"{spellings} {self._format_args(action, 'VALUE')}"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and whose description keeps its line breaks."""

    def __init__(self, prog: str, description: str, **kwargs: Any) -> None:
        usage = f"{prog} [flags]" if "usage" not in kwargs else kwargs.pop("usage")
        super().__init__(
            prog=prog, usage=usage, description=description, formatter_class=_Help, allow_abbrev=False, **kwargs
        )
        self.register("role", "help", Role.CALL)

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        return []  # allow_abbrev=False does not apply to flags with one dash

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError:
            if action.choices is None:
                raise
            return arg_string  # argparse will report that this is none of the choices

    def error(self, message: str) -> NoReturn:
        """Raises UserError, so that the command ends with one line and status 2."""
        message = re.sub(r"argument \S*?(--\w+)\S*:", r"\1:", message)  # name one spelling of the flag only
        raise UserError(f"{message} ({self.prog} --help explains the flags)")


def add_flag(parser: argparse._ActionsContainer, *names: str, role: Role = Role.TRAINED, **kwargs: Any) -> None:
    """Adds a flag that is written `-use_attention`, `--use_attention` or `--use-attention`.

    The sheets write options with one dash and with two.

    Args:
        parser: the parser or one of its groups.
        names: names of the flag; the first one is the name of the argument.
        role: whether the argument may change on resume and whether it decides the result; see `Role`.
        kwargs: further arguments of `add_argument`.
    """
    options: dict[str, None] = {}
    for name in names:
        hyphenated = name.replace("_", "-")
        options |= dict.fromkeys((f"-{name}", f"--{name}", f"-{hyphenated}", f"--{hyphenated}"))
    if kwargs.get("action") is argparse.BooleanOptionalAction:
        options = {option: None for option in options if option.startswith("--")}
    parser.add_argument(*options, dest=names[0], **kwargs)
    parser.register("role", names[0], role)


# `add_flag` with a role other than Role.TRAINED.
add_input = partial(add_flag, role=Role.INPUT, type=Path)
add_place = partial(add_flag, role=Role.PLACE, type=Path)
add_running = partial(add_flag, role=Role.RUNNING)
add_output = partial(add_flag, role=Role.OUTPUT)
add_call = partial(add_flag, role=Role.CALL)


def roles_of(parser: Parser) -> dict[str, Role]:
    """Returns the role of each argument of `parser`."""
    return {name: parser._registry_get("role", name, Role.TRAINED) for name in _actions(parser)}


def defaults_of(parser: Parser) -> dict[str, Any]:
    """Returns the default of each argument of `parser`."""
    return {name: action.default for name, action in _actions(parser).items()}


def _actions(parser: Parser) -> dict[str, argparse.Action]:
    """Returns each argument of `parser` by its name."""
    return {action.dest: action for action in parser._actions if action.dest != "help"}  # argparse has no public list


def parse(parser: Parser, argv: Sequence[str] | None) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Parses `argv`.

    Returns:
        All arguments, and the arguments that `argv` contains, without defaults.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = parser.parse_args(argv)
    marked = parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(vars(arguments), _UNSET)))
    return arguments, {name: value for name, value in vars(marked).items() if value is not _UNSET}


def parse_saved(parser: Parser, saved: Mapping[str, Any]) -> argparse.Namespace:
    """Parses the arguments of a config.json with the checks of a command line.

    Raises:
        UserError: an argument is unknown or its value is not allowed.
    """
    return parser.parse_args([word for name, value in saved.items() for word in flag(parser, name, value)])


def flag(parser: Parser, name: str, value: Any) -> list[str]:
    """Returns the words that set `name` to `value` on a command line; [] for None or a `store_true` flag that is off.

    Raises:
        UserError: there is no such argument.
    """
    known = _actions(parser)
    if name not in known:
        raise UserError(f"there is no argument --{name}")
    if value is None or (value is False and not isinstance(known[name], argparse.BooleanOptionalAction)):
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", *map(str, value)] if isinstance(value, list) else [f"--{name}={value}"]


def _number(convert: Callable[[str], Any], accept: Callable[[Any], bool], expected: str) -> Callable[[str], Any]:
    """Makes an argument type for the numbers that `accept` accepts; `expected` describes them in messages."""

    def parse_number(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not accept(value) or not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return parse_number


def int_up_to(largest: int) -> Callable[[str], Any]:
    """Makes an argument type for whole numbers from 1 to `largest`.

    Saved arguments have the same limits, so a run folder from an untrusted source cannot fill the memory.
    """
    return _number(int, lambda value: 0 < value <= largest, f"a whole number from 1 to {largest}")


positive_int = int_up_to(2**31 - 1)
port = _number(int, lambda value: 0 <= value <= 65_535, "a whole number from 0 to 65535")
non_negative_int = _number(int, lambda value: 0 <= value < 2**31, "a whole number from 0 to 2147483647")
positive_float = _number(float, lambda value: value > 0, "a number above 0")
non_negative_float = _number(float, lambda value: value >= 0, "a number of 0 or more")
fraction = _number(float, lambda value: 0 <= value < 1, "a number from 0 up to, but not including, 1")


def run_name(text: str) -> str:
    """An argument type for folder names that are valid on every system and cannot be read as flags or shell syntax."""
    # Letters of any script, and the marks that belong to them.
    plain = all(c.isalnum() or c in "._-=+," or unicodedata.category(c).startswith("M") for c in text)
    if not text or text[0] in ".-" or not plain or len(text) > 120:
        raise argparse.ArgumentTypeError(
            f"expected a plain folder name of letters, digits and . _ - = + , (no slash, no space), got {text!r}"
        )
    if text.endswith(".") or text.partition(".")[0].lower() in _DEVICES:
        raise argparse.ArgumentTypeError(f"expected a folder name that Windows allows as well, got {text!r}")
    return text


def add_training_flags(parser: argparse.ArgumentParser, optimizers: Sequence[str]) -> argparse._ArgumentGroup:
    """Adds the flags of the optimization that all homeworks share; each homework fills in defaults of its own.

    Returns:
        The group, to which further flags can be added.
    """
    group = parser.add_argument_group("training")
    add_flag(group, "epochs", type=positive_int, help="number of passes over the training data")
    add_flag(group, "batch_size", type=positive_int, help="examples per step, over all processes")
    add_flag(group, "lr", "learning_rate", type=positive_float, help="learning rate")
    add_flag(group, "optimizer", choices=optimizers, help="optimizer")
    add_flag(group, "l2_decay", type=non_negative_float, help="weight decay")
    precision = (
        "number format of the computation; bf16 is about twice as fast for large batches and just as accurate; "
        "a CPU without instructions for it computes in fp32"
    )
    add_flag(group, "precision", choices=("fp32", "bf16"), help=precision)
    text = "minutes between two checkpoints within an epoch (default: 10); each epoch ends with one as well"
    add_output(group, "save_minutes", type=positive_float, default=10.0, help=text)
    return group


def add_schedule_flag(group: argparse._ActionsContainer) -> None:
    """Adds the flag --schedule; the homework fills in its default."""
    text = "constant, or cosine: the learning rate rises during the first twentieth of the steps, then falls to 0"
    add_flag(group, "schedule", choices=("constant", "cosine"), help=text)


def add_kernels_flag(group: argparse._ActionsContainer) -> None:
    """Adds --kernels: "plain" for the readable code in README's table, "fast" to compute the same numbers faster."""
    text = "plain trains with the code in README's table; fast (default) computes the same numbers faster"
    add_flag(group, "kernels", choices=("plain", "fast"), default="fast", help=text)


def add_run_flags(parser: argparse.ArgumentParser, threads: str = "as many as a training step can keep busy") -> None:
    """Adds the flags of a run that all homeworks share; `threads` describes the default number of threads."""
    group = parser.add_argument_group("run")
    add_flag(group, "seed", type=non_negative_int, default=42, help="seed of all random choices (default: 42)")
    add_machine_flags(group, threads)
    add_running(group, "name", type=run_name, help="name of the run folder; a taken name gets -2, -3, …")
    text = "resume this interrupted run with its own arguments; it ends with the same bits as without interruption"
    add_place(group, "resume", metavar="RUN", help=text)
    add_call(group, "overwrite", action="store_true", help="replace the run folder of that name")
    text = "also write TensorBoard events into the run folder"
    add_output(group, "tensorboard", action="store_true", help=text)
    text = "check data and model with one training step; nothing is written except downloads"
    add_call(group, "dry_run", action="store_true", help=text)


def add_machine_flags(group: argparse._ActionsContainer, threads: str) -> None:
    """Adds the flags for device, threads and folders; `threads` describes the default number of threads."""
    devices = ("auto", "cpu", "cuda")
    add_running(group, "device", choices=devices, default="auto", help="auto uses a GPU if there is one")
    add_running(group, "threads", type=positive_int, help=f"CPU threads per process (default: {threads})")
    data_dir, default = Path(os.environ.get("HW_DATA_DIR", "data")), "(default: $HW_DATA_DIR, else data)"
    text = f"folder of the data sets, to which missing ones are downloaded {default}"
    add_place(group, "data_dir", default=data_dir, help=text)
    add_results_dir_flag(group)


def add_results_dir_flag(group: argparse._ActionsContainer) -> None:
    """Adds the flag --results_dir."""
    text = "run folders go to RESULTS_DIR/<homework>/<name> (default: results)"
    add_place(group, "results_dir", default=Path("results"), help=text)


def add_finished_run_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of commands that use a finished run."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    add_place(parser, "data_dir", help="folder of the data sets (default: the folder that the training used)")
    add_flag(parser, "seed", type=non_negative_int, default=0, help="seed for choosing images at random (default: 0)")


def run_command(main: Callable[[], int | None], under_torchrun: bool = False) -> NoReturn:
    """Runs the `main` of a command; errors that a user can cause become one line and an exit status.

    `under_torchrun`: whether several processes can run the command together.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    environment.set_up()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # tests replace the streams
            stream.reconfigure(errors="backslashreplace")  # for file names that the encoding cannot express
    try:
        if launch.by_torchrun() and not under_torchrun and launch.read().world_size > 1:
            raise UserError("this command runs in a single process; start it with `python -m`, not with torchrun")
        status = main() or 0
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except (Exception, KeyboardInterrupt) as error:
        status, message = explain(error)
        # Under torchrun, the first process of a machine prints errors. Others can fail alone by running out of memory.
        if launch.is_first_here() or is_out_of_memory(error):
            with contextlib.suppress(OSError):  # standard error may be a file on a full disk
                print(" ".join(message.split()), file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(status)


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated
