"""`python -m hw_cnn.explain`: draws what the network of a finished run has learned and computes.

Kernels and equivariance (ist-2021-22-hw2, Questions 2.3 and 2.1), feature maps and Grad-CAM (convnets-2024-a2, Tasks
3.3 and 3.4).
"""

from collections.abc import Sequence

from hw_common.commands import cli
from hw_common.commands.cli import add_flag

_DESCRIPTION = """\
Draws what the network of a finished run computes; figures (and numbers, as JSON) go into its run folder RUN.

  python -m hw_cnn.explain kernels RUN        the kernels of every convolution
  python -m hw_cnn.explain feature_maps RUN   the first feature maps of every convolution and pooling layer
  python -m hw_cnn.explain grad_cam RUN       the image regions that raise the score of the predicted class
  python -m hw_cnn.explain equivariance RUN   the change of the feature maps when images are shifted by one pixel
"""


def parser() -> cli.Parser:
    """Declares the subcommands and their flags."""
    flags = cli.Parser(
        "python -m hw_cnn.explain", _DESCRIPTION, usage="%(prog)s {kernels,feature_maps,grad_cam,equivariance} RUN"
    )
    commands = flags.add_subparsers(dest="what", required=True, metavar="WHAT", prog="python -m hw_cnn.explain")
    for name, description in (
        ("kernels", "The kernels of every convolution (ist-2021-22-hw2 Q2.3)."),
        ("feature_maps", "The first feature maps of every layer for a few test images (convnets-2024-a2 Task 3.3)."),
        ("grad_cam", "Grad-CAM of correctly and wrongly classified test images (convnets-2024-a2 Task 3.4)."),
        ("equivariance", "Feature maps before and after a shift by one pixel (ist-2021-22-hw2 Q2.1)."),
    ):
        command = commands.add_parser(name, description=description, usage="%(prog)s RUN [flags]", help=description)
        cli.add_finished_run_flags(command)
        if name == "feature_maps":
            add_flag(command, "images", type=cli.positive_int, default=3, help="number of images (default: 3)")
            add_flag(
                command, "channels", type=cli.positive_int, default=5, help="feature maps of each layer (default: 5)"
            )
        if name == "grad_cam":
            number = "draw at most this many right and this many wrong predictions (default: 10)"
            add_flag(command, "each", type=cli.positive_int, default=10, help=number)
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Draws one kind of figure and prints the paths of the files."""
    arguments = parser().parse_args(argv)
    # These modules import torch, which is slow, so the arguments are checked first.
    from hw_cnn.equivariance import draw_equivariance
    from hw_cnn.experiment import draw_kernels
    from hw_cnn.feature_maps import draw_feature_maps
    from hw_cnn.finished import open_finished
    from hw_cnn.grad_cam import draw_grad_cam
    from hw_cnn.models import convolutions

    finished = open_finished(arguments.run)
    if arguments.what == "kernels":
        draw_kernels(finished.title, finished.model, finished.run.folder, convolutions(finished.model))
        print(finished.run.folder)
        return
    test = finished.load_images(arguments.data_dir).test
    seed = arguments.seed
    if arguments.what == "feature_maps":
        paths = draw_feature_maps(finished, test, seed=seed, images=arguments.images, channels=arguments.channels)
    elif arguments.what == "grad_cam":
        paths = draw_grad_cam(finished, test, seed=seed, each=arguments.each)
    else:
        paths = draw_equivariance(finished, test, seed=seed)
    for path in paths:
        print(path)


if __name__ == "__main__":
    cli.run_command(main)
