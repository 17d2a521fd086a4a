"""Ways to compute one frame."""

import copy
import importlib.util
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from nnunet_fganet.benchmark.limit import convolution_throughput
from nnunet_fganet.benchmark.measuring import measure
from nnunet_fganet.benchmark.network import call_wire, frame_and_label, trained_like_network
from nnunet_fganet.benchmark.rows import Row, make_row
from nnunet_fganet.gpu.availability import what_kernels_need
from nnunet_fganet.inference.prepared import optimize_for_inference
from nnunet_fganet.network.counting import count_operations
from nnunet_fganet.network.deform_conv import AUTO, BACKENDS
from nnunet_fganet.network.fganet import FGANet
from nnunet_fganet.network.sda import SDA
from nnunet_fganet.precision import cpu_has_bfloat16_units

Call = Callable[[], torch.Tensor]
_COMPILERS = ("g++", "clang++")


@dataclass(frozen=True)
class Candidate:
    """A way to compute logits; ``build`` takes a network and an image ``(1, 1, H, W)``, ready on the device."""

    name: str
    dtype: torch.dtype
    backend: str
    build: Callable[[FGANet, torch.Tensor], Call]


def inference_rows(sizes: list[int], runs: int, device: str, say: Callable[[str], None]) -> Iterator[Row]:
    """Measure all candidates on frames of all sizes, the reference first; ``say`` hears what is left out."""
    frames = {size: frame_and_label(size) for size in sizes}  # before the work: there may be no memory for them
    network = trained_like_network().to(device)
    chosen = list(candidates(device, say))
    throughput = {each.dtype: convolution_throughput(device, each.dtype) for each in chosen}
    for size in sizes:
        image, label = (each.to(device) for each in frames[size])
        call_wire(network, image, label)
        flops = count_operations(network, 1, (size, size)).flops
        reference = None
        for candidate in chosen:
            measured = measure(partial(candidate.build, network, image), runs, device)
            reference = reference or measured
            yield make_row(
                candidate.name,
                device,
                str(candidate.dtype).removeprefix("torch."),
                candidate.backend,
                size,
                measured,
                reference,
                flops / throughput[candidate.dtype] * 1e3,
                mask_agreement(measured.result, reference.result),
            )


def mask_agreement(logits: torch.Tensor, reference: torch.Tensor) -> float:
    """Pixels that both call wire, over those that either does; 1 where neither finds any."""
    wire, expected = logits.cpu() > 0, reference.cpu() > 0
    either = int((wire | expected).sum())
    return int((wire & expected).sum()) / either if either else 1.0


def candidates(device: str, say: Callable[[str], None]) -> Iterator[Candidate]:
    """Yield what can be measured on ``device``, the reference first; ``say`` hears what is left out, and why."""
    yield Candidate("reference", torch.float32, "torchvision", _eager("torchvision"))
    for backend, entry in BACKENDS.items():
        if backend != "torchvision" and entry.supports(device, torch.float32):
            yield Candidate(f"{backend}-float32", torch.float32, backend, _eager(backend))
    half = torch.float16 if device == "cuda" else torch.bfloat16
    for dtype in (torch.float32, half):
        name = str(dtype).removeprefix("torch.")
        yield Candidate(name, dtype, "prepared", _prepared(dtype, compiled=False))
        if dtype == torch.bfloat16 and not cpu_has_bfloat16_units():
            say("This processor has no units for bfloat16: those rows are slow, and not compiled.")
        elif device == "cpu" and not any(map(shutil.which, _COMPILERS)):
            say(f"No C++ compiler ({', '.join(_COMPILERS)}) is installed: nothing is compiled.")
        elif device == "cpu":
            yield Candidate(f"compiled-{name}", dtype, "compiled", _prepared(dtype, compiled=True))
    if device != "cpu":
        if lacking := what_kernels_need():
            say(f"No kernels of ours: they need {lacking}.")
        yield Candidate(
            f"torchvision-{name}", half, "torchvision", _prepared(half, compiled=False, backend="torchvision")
        )
        return
    for name, build in (("onnxruntime", _onnxruntime), ("openvino", _openvino)):
        if importlib.util.find_spec(name) is None:
            say(f"{name} is not installed: pip install 'nnunet_fganet[benchmark]'")
        else:
            yield Candidate(name, torch.float32, name, build)


def with_backend(network: FGANet, backend: str) -> FGANet:
    """A copy whose deformable convolutions compute with ``backend``."""
    copied = copy.deepcopy(network)
    for module in copied.modules():
        if isinstance(module, SDA):
            module.deform_conv.backend = backend
    return copied


def _eager(backend: str) -> Callable[[FGANet, torch.Tensor], Call]:
    def build(network: FGANet, image: torch.Tensor) -> Call:
        copied = with_backend(network, backend)

        @torch.no_grad()
        def call() -> torch.Tensor:
            return copied(image)

        return call

    return build


def _prepared(dtype: torch.dtype, compiled: bool, backend: str = AUTO) -> Callable[[FGANet, torch.Tensor], Call]:
    def build(network: FGANet, image: torch.Tensor) -> Call:
        prepared = optimize_for_inference(with_backend(network, backend), dtype, compiled)
        return lambda: prepared(image)

    return build


def _onnxruntime(network: FGANet, image: torch.Tensor) -> Call:
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            with_backend(network, "torchvision"), (image,), path, dynamo=True, opset_version=19, verbose=False
        )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: image.numpy()}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


def _openvino(network: FGANet, image: torch.Tensor) -> Call:
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the size is recorded as a number, which is what is wanted
        model = openvino.convert_model(with_backend(network, "torchvision"), example_input=image)
    compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    array = np.ascontiguousarray(image.numpy())
    return lambda: torch.from_numpy(compiled(array)[0])
