"""An ONNX file that scales and cuts images itself: 8-bit images of any size in, probabilities out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ednag.core.storage import PART
from ednag.data.preprocessing import Preprocessing
from ednag.export.formats import Exported
from ednag.export.onnx_file import metadata, needed, session, write_onnx

MOST = 0.05
"""Largest allowed difference of a probability: Pillow rounds after each direction, ONNX once."""

SIZES = ((1.5, 2.0), (3.0, 1.0), (0.6, 0.6))
"""Heights and widths, in multiples of the input's, of the random images that a file is checked on."""

FIT = """
<ir_version: {ir}, opset_import: ["": {opset}]>
fit (uint8[batch, {channels}, rows, columns] images) => (uint8[batch, {channels}, {height}, {width}] fitted)
<int64[2] scaled = {{{down}, {across}}}, int64[2] kept = {{{height}, {width}}}, float black = {{0}}, float white = {{255}}>
{{
    real = Cast<to=1>(images)
    resized = Resize<antialias=1, axes=[2, 3], keep_aspect_ratio_policy="{policy}", mode="linear">(real, , , scaled)
    whole = Round(resized)
    inside = Clip(whole, black, white)
    cut = CenterCropPad<axes=[2, 3]>(inside, kept)
    fitted = Cast<to=2>(cut)
}}
"""
"""Scales the shorter side with smoothing (both sides for ``squash``), and cuts the centre out; opset 18 and above."""


def write_any_size(
    network: nn.Module, architecture: dict[str, Any], output: Path, opset: int | None = None
) -> Exported:
    """Write ``network.any_size.onnx``: uint8 ``images`` ``(B, C, h, w)`` of any size, ``probabilities`` ``(B, K)``.

    Images are to be upright, RGB (or grey, if the network's are), and opaque.

    Args:
        network: from normalised images to logits.
        architecture: content of ``architecture.json``.
        output: existing folder.
        opset: version of ONNX's operators; the exporter's default if omitted.

    Raises:
        ValueError: for an opset that isn't offered, a network whose preprocessing isn't known, or a file that differs.
        ModuleNotFoundError: if a package is missing.
    """
    needed("onnxruntime", "onnxscript", "onnx")
    import onnx

    how = Preprocessing.of(architecture.get("preprocessing", {}))
    path = output / "network.any_size.onnx"
    with tempfile.TemporaryDirectory(dir=output, prefix=".any_size.", suffix=PART) as folder:
        plain = write_onnx(network, architecture, Path(folder), include_preprocessing=True, opset=opset)
        model = onnx.load(str(plain.path))
        merged = onnx.compose.merge_models(_fit(how, model), model, io_map=[("fitted", "pixels")])
        del merged.metadata_props[:]
        onnx.helper.set_model_props(merged, metadata(architecture))
        part = Path(folder) / "merged.onnx"
        onnx.save(merged, str(part))
        error = _difference(part, network, how)
        if not error <= MOST:
            raise ValueError(
                f"onnx_any_size: probabilities differ by {error:.2g}, more than {MOST:g}; nothing was kept"
            )
        part.chmod(0o644)
        part.replace(path)
    return Exported("onnx_any_size", path, error, images="probabilities of random images")


def _fit(how: Preprocessing, model: Any) -> Any:
    """The graph that comes before the network, of the same version of everything."""
    import onnx

    height, width = how.image_size
    text = FIT.format(
        ir=model.ir_version,
        opset=next(entry.version for entry in model.opset_import if entry.domain == ""),
        channels=how.channels,
        height=height,
        width=width,
        down=round(height / how.crop_pct),
        across=round(width / how.crop_pct),
        policy="stretch" if how.crop_mode == "squash" else "not_smaller",
    )
    fit = onnx.parser.parse_model(text)
    onnx.checker.check_model(fit)
    return fit


def _difference(path: Path, network: nn.Module, how: Preprocessing) -> float:
    """Largest difference of a probability to what Pillow and PyTorch give, on smooth random images of :data:`SIZES`."""
    opened, random, worst = session(path), np.random.default_rng(0), 0.0
    for across, down in SIZES:
        size = round(down * how.image_size[0]), round(across * how.image_size[1])
        coarse = torch.from_numpy(random.uniform(0, 255, (1, how.channels, 9, 9)).astype(np.float32))
        image = nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 255).round().to(torch.uint8)
        with torch.inference_mode():
            expected = network(how.normalise(how.fit_pixels(image[0])[None])).softmax(-1)
        found = opened.run(None, {"images": image.numpy()})[0]
        worst = max(worst, float(np.abs(found - expected.numpy()).max()))
    return worst
