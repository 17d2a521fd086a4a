"""``fganet benchmark``: what a frame, or a training step, costs on this machine."""

import argparse
from functools import partial
from pathlib import Path

import torch

from nnunet_fganet.benchmark.inference import inference_rows, with_backend
from nnunet_fganet.benchmark.network import frame_and_label, trained_like_network
from nnunet_fganet.benchmark.parts import time_by_kernel, time_by_part
from nnunet_fganet.benchmark.plot import plot_rows
from nnunet_fganet.benchmark.rows import HEADER, Row, table_line, write_json
from nnunet_fganet.benchmark.training import training_rows
from nnunet_fganet.cli.arguments import positive_integer
from nnunet_fganet.errors import InputError
from nnunet_fganet.files import check_new_files, written_beside
from nnunet_fganet.inference.prepared import optimize_for_inference
from nnunet_fganet.precision import compute_dtypes, describe_cpu

FRAME_SIZES = [256, 512, 1024]
PATCH_SIZES = [256]
SMALLEST_SIZE = 64
_KERNELS = 20  # that are printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fganet benchmark``."""
    parser.add_argument(
        "--size",
        type=positive_integer,
        nargs="+",
        metavar="PX",
        help="rows and columns of the frames (default: 256 512 1024; with --train 256)",
    )
    parser.add_argument("--runs", type=positive_integer, default=10, metavar="N", help="timed runs a row (default: 10)")
    parser.add_argument("--train", action="store_true", help="measure a training step and the loss instead of a frame")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (default: cpu)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a bar chart (.png, .svg or .pdf)")
    parser.add_argument("--force", action="store_true", help="replace FILE where it exists")


def run(arguments: argparse.Namespace) -> None:
    """Measure, printing each row when it is known, write the files, then print where a frame's time goes."""
    sizes = arguments.size or (PATCH_SIZES if arguments.train else FRAME_SIZES)
    _check(sizes, arguments)
    machine = machine_description(arguments.device)
    print(f"{machine}\n\n{HEADER}", flush=True)
    rows: list[Row] = []
    measured = (
        training_rows(sizes, arguments.runs, arguments.device)
        if arguments.train
        else inference_rows(sizes, arguments.runs, arguments.device, print)
    )
    for row in measured:
        print(table_line(row), flush=True)
        rows.append(row)
    if arguments.json is not None:
        with written_beside(arguments.json, overwrite=arguments.force) as partial:
            write_json(rows, partial)
    if arguments.plot is not None:
        with written_beside(arguments.plot, overwrite=arguments.force) as partial:
            plot_rows(rows, machine, partial, arguments.plot.suffix[1:])
    if not arguments.train and arguments.device == "cuda":
        _print_kernels(sizes[-1])
    elif not arguments.train:
        _print_parts(sizes[-1])


def machine_description(device: str) -> str:
    """The processor and what computes on it, in one line."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{describe_cpu()}; torch {torch.__version__}, {torch.get_num_threads()} threads"


def _check(sizes: list[int], arguments: argparse.Namespace) -> None:
    for size in sizes:
        if size < SMALLEST_SIZE:
            raise InputError(f"--size is {size}: give at least {SMALLEST_SIZE}.")
    try:
        compute_dtypes()
    except ValueError as error:
        raise InputError(f"{error}.") from None
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no GPU here; leave the option out to measure the CPU.")
    check_new_files({"--json": arguments.json, "--plot": arguments.plot}, arguments.force)
    if arguments.plot is not None and arguments.plot.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"{arguments.plot}: a chart is written as .png, .svg or .pdf.")


def _print_kernels(size: int) -> None:
    """Print where the time of one frame goes on a GPU, in the prepared network."""
    prepared = optimize_for_inference(trained_like_network().cuda())
    image = frame_and_label(size)[0].cuda()
    prepared(image)  # warm
    kernels = time_by_kernel(partial(prepared, image))
    total = sum(milliseconds for _, _, milliseconds in kernels)
    print(f"\n{f'ms by kernel, {size} x {size}, {total:.2f} in all':72}{'calls':>8}{'ms':>8}")
    for name, calls, milliseconds in kernels[:_KERNELS]:
        print(f"{name:72}{calls:>8.0f}{milliseconds:>8.3f}")


def _print_parts(size: int) -> None:
    """Print where the time of one frame goes on a CPU, in the reference and in the prepared network."""
    network = trained_like_network()
    image = frame_and_label(size)[0]
    reference, prepared = with_backend(network, "torchvision"), optimize_for_inference(network, None)
    columns = []
    for module in (reference, prepared):
        with torch.no_grad():
            module(image)  # warm
            columns.append(time_by_part(module, partial(module, image)))
    dtype = str(prepared.dtype).removeprefix("torch.")
    print(f"\n{f'ms by part, {size} x {size}':40}{'reference':>12}{dtype:>12}{'ratio':>8}")
    for part, milliseconds in sorted(columns[0].items(), key=lambda item: -item[1]):
        ours = columns[1].get(part, 0.0)
        ratio = f"{milliseconds / ours:.1f}x" if ours > 0.05 else ""
        print(f"{part:40}{milliseconds:>12.1f}{ours:>12.1f}{ratio:>8}")
