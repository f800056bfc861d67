"""`python -m hw_cnn.explain`: what a finished run's network sees.

Feature maps and Grad-CAM (convnets-2024-a2, Tasks 3.3 and 3.4), and equivariance (ist-2021-22-hw2 Q2.1).
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hw_common.commands import cli
from hw_common.commands.cli import add_flag

if TYPE_CHECKING:
    from pathlib import Path

_DESCRIPTION = """\
Looks into the network of a finished run and writes figures (and numbers, as JSON) into its run folder.

  python -m hw_cnn.explain feature_maps RUN   the first channels after every convolution and pooling
  python -m hw_cnn.explain grad_cam RUN       which regions speak for the predicted class
  python -m hw_cnn.explain equivariance RUN   what a shift by one pixel does to the feature maps
"""


def parser() -> cli.Parser:
    """All subcommands and their flags."""
    flags = cli.Parser(
        "python -m hw_cnn.explain", _DESCRIPTION, usage="%(prog)s {feature_maps,grad_cam,equivariance} RUN"
    )
    commands = flags.add_subparsers(dest="what", required=True, metavar="WHAT", prog="python -m hw_cnn.explain")
    for name, description in (
        ("feature_maps", "The first channels of every feature map for a few test images (convnets-2024-a2 Task 3.3)."),
        ("grad_cam", "Grad-CAM of correctly and wrongly classified test images (convnets-2024-a2 Task 3.4)."),
        ("equivariance", "Feature maps before and after a shift by one pixel (ist-2021-22-hw2 Q2.1)."),
    ):
        command = commands.add_parser(name, description=description, usage="%(prog)s RUN [flags]", help=description)
        cli.add_finished_run_flags(command)
        if name == "feature_maps":
            add_flag(command, "images", type=cli.positive_int, default=3, help="how many images (default: 3)")
            add_flag(command, "channels", type=cli.positive_int, default=5, help="how many channels (default: 5)")
        if name == "grad_cam":
            add_flag(command, "each", type=cli.positive_int, default=10, help="images of either kind (default: 10)")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Draws what the command line asks for."""
    arguments = parser().parse_args(argv)
    from hw_cnn import explanations  # imports torch, hence after the arguments are checked
    from hw_cnn.finished import open_finished

    finished = open_finished(arguments.run)
    test = finished.load_images(arguments.data_dir).test
    draw: Callable[..., list[Path]] = getattr(explanations, arguments.what)
    options = {name: getattr(arguments, name) for name in ("images", "channels", "each") if name in arguments}
    for path in draw(finished, test, seed=arguments.seed, **options):
        print(path)


if __name__ == "__main__":
    cli.run_command(main)
