"""A model card, as the Hugging Face hub reads it: what the network is, how good, how costly, and on what data."""

from __future__ import annotations

import json
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ednag.__about__ import __version__
from ednag.core.reading import read_json
from ednag.export.formats import Exported
from ednag.export.onnx_file import session

FOLDERS = re.compile(r"(?:[A-Za-z]:)?[/\\](?:[^/\\:;(]+[/\\])+")
"""What a path has before its last part: where images lie on this machine is nobody else's business."""

LIKELY = 1.959964
"""Standard normal quantile of a two-sided 95 % interval."""


def model_card(folder: Path, architecture: Mapping[str, Any], exported: Sequence[Exported]) -> str:
    """Write the card of a network, in Markdown with a front matter of YAML.

    Args:
        folder: of the network, ``RUN/001``; its ``metrics.json`` and ``../data.json`` are used if they are there.
        architecture: content of ``architecture.json``.
        exported: files that were written.
    """
    import yaml

    metrics, data = _read(folder / "metrics.json"), _read(folder.parent / "data.json")
    if data:
        data["origin"] = FOLDERS.sub("", data["origin"])
    test = metrics.get("test", {})
    tested = data.get("splits", {}).get("test", {}).get("images", 0)
    name = f"{_short(architecture)}-{folder.name}"
    origin = _inherited(folder, architecture)
    front = yaml.safe_dump(_front(name, origin, test, data), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{front}---",
        f"# {name}",
        f"An image classifier for {architecture['num_classes']} classes, generated and trained with EDNAG {__version__}.",
        _accuracy(test, tested),
        _costs(metrics, exported),
        _use(exported),
        _inputs(architecture),
        _data(data),
        f"## Architecture\n\n`{architecture.get('architecture', '')}`\n\nSpace {_short(architecture)}, "
        f"network options `{json.dumps(architecture['network'])}`.",
        _weights(origin),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share that was seen in so many cases (Wilson 1927); all in 0..1."""
    z = LIKELY
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _front(name: str, origin: Mapping[str, str], test: Mapping[str, float], data: Mapping[str, Any]) -> Any:
    """Front matter: what the hub indexes."""
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": data.get("origin") or data.get("class", "images"), "type": data.get("class", "images")},
        "metrics": [{"type": "accuracy", "name": "test top-1 %", "value": round(test["top1"], 4)}] if test else [],
    }
    licence = origin.get("licence")
    return {
        **({"license": licence.lower()} if licence else {}),
        "library_name": "ednag",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "neural-architecture-search", "onnx", "pytorch"],
        "metrics": ["accuracy"],
        "model-index": [{"name": name, "results": [result] if test else []}],
    }


def _accuracy(test: Mapping[str, float], tested: int) -> str:
    """Test accuracy with its confidence interval, and calibration."""
    if not test:
        return ""
    lines = ["## Accuracy", "", "| on the test images | |", "|---|---|"]
    top1 = f"{test['top1']:.2f} %"
    if tested:
        low, high = interval(test["top1"] / 100, tested)
        top1 += f" (95 % interval {100 * low:.2f} to {100 * high:.2f}, {tested:,} images)"
    lines.append(f"| top-1 | {top1} |")
    for key, title, form in (
        ("top5", "top-5", "{:.2f} %"),
        ("calibration_error", "expected calibration error", "{:.4f}"),
        ("nll", "negative log-likelihood", "{:.4f} nats"),
    ):
        if key in test:
            lines.append(f"| {title} | {form.format(test[key])} |")
    return "\n".join(lines)


def _costs(metrics: Mapping[str, Any], exported: Sequence[Exported]) -> str:
    """Parameters, multiply-accumulates, and the latency of ONNX files on this machine."""
    lines = ["## Costs", "", "| | |", "|---|---|"]
    for key, title in (("params", "parameters"), ("macs", "multiply-accumulates an image")):
        if key in metrics:
            lines.append(f"| {title} | {metrics[key]:,} |")
    kinds = ("onnx", "onnx_int8")  # onnx_any_size would be timed with the scaling of an image of some size
    files = {item.format: item.path for item in exported if item.format in kinds}
    if files:
        lines += [f"| {kind}, one image, one thread | {ms:.2f} ms |" for kind, ms in measured(files).items()]
    for item in exported:
        if "int8 test top-1 %" in item.told:
            plain, small = (item.told[f"{kind} test top-1 %"] for kind in ("float32", "int8"))
            lines.append(f"| 8-bit integers, test top-1 | {small:.2f} % (float32 {plain:.2f} %) |")
    where = f"Latency: median on {machine()}, onnxruntime, with whatever else ran there at the time."
    return "\n".join(lines) + (f"\n\n{where}" if files else "")


def measured(files: Mapping[str, Path]) -> dict[str, float]:
    """Median milliseconds for one random image of each file."""
    import numpy as np

    from ednag.export.latency import latencies

    entry = session(next(iter(files.values()))).get_inputs()[0]
    shape = (1, *entry.shape[1:])
    random = np.random.default_rng(0)
    integers = entry.type == "tensor(uint8)"
    images = random.integers(0, 256, shape, np.uint8) if integers else random.normal(size=shape).astype(np.float32)
    return latencies(dict(files), entry.name, images)


def machine() -> str:
    """Name this machine's processor."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model} ({os.cpu_count()} cores)"


def _use(exported: Sequence[Exported]) -> str:
    """How to classify an image."""
    files = {item.format for item in exported}
    text = ""
    if "onnx" in files:
        text += "Without EDNAG (needs onnxruntime, numpy and Pillow):\n\n```console\n$ python use_onnx.py photo.jpg\n```\n\n"
    if "safetensors" in files:
        text += (
            'With EDNAG, in this folder:\n\n```python\nimport ednag\n\nclassifier = ednag.load(".")\n'
            'probabilities = classifier.predict(["photo.jpg"])\n```\n\n'
        )
    if "onnx_any_size" in files:
        text += "`network.any_size.onnx` takes upright 8-bit images `(batch, channels, height, width)` of any size, and returns probabilities.\n\n"
    if "torch_export" in files:
        text += 'With PyTorch:\n\n```python\nnetwork = torch.export.load("network.pt2").module()\n```\n\n'
    return f"## Use\n\n{text.rstrip()}" if text else ""


def _inputs(architecture: Mapping[str, Any]) -> str:
    """How an image becomes an input, and the classes."""
    names = architecture.get("class_names") or []
    how = json.dumps(architecture.get("preprocessing", {}), indent=2)
    classes = f"\n\nClasses, in the order of the outputs: {', '.join(names)}." if names else ""
    return f"## Inputs and outputs\n\n```json\n{how}\n```{classes}"


def _data(data: Mapping[str, Any]) -> str:
    """Images of each split, and their digests."""
    if not data:
        return ""
    lines = ["## Data", "", f"{data['class']}{': ' if data['origin'] else ''}{data['origin']}", ""]
    lines += ["| split | images | sha256 | of |", "|---|---|---|---|"]
    for name, split in data["splits"].items():
        lines.append(f"| {name} | {split['images']:,} | `{split['sha256'][:16]}...` | {split['of']} |")
    return "\n".join(lines)


def _weights(origin: Mapping[str, str]) -> str:
    """Where inherited weights come from, and their licence."""
    if not origin:
        return "## Licence\n\nThe weights were trained from random ones; their licence is their maker's to choose."
    licence = f" ({origin['licence']})" if "licence" in origin else ""
    return f"## Licence\n\nThe weights began as those of {origin['name']}{licence}, from {origin['source']}."


def _inherited(folder: Path, architecture: Mapping[str, Any]) -> dict[str, str]:
    """Name, licence and source of the weights that training began with; nothing if they were random."""
    from ednag.generation.report import Report
    from ednag.spaces.inheritance import InheritingSpace

    job = _read(folder.parent / "job.json")
    if supernets := job.get("supernets"):
        name = Path(supernets[0]["path"]).name
        return {"name": f"a supernet, {name}", "source": f"a file with sha256 {supernets[0]['sha256'][:16]}..."}
    if not job.get("recipe", {}).get("fine_tuning"):
        return {}
    space = Report(architecture["space"], fitness="", candidates=[]).load_space()
    return dict(space.inherited) if isinstance(space, InheritingSpace) else {}


def _short(architecture: Mapping[str, Any]) -> str:
    return str(architecture["space"]["class_path"]).rpartition(".")[2]


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON file of the run; empty if there is none.

    Raises:
        ValueError: if it is damaged.
    """
    if not path.exists():
        return {}
    return read_json(path, "a result of a retraining", "resume the run, which writes it again", dict)
