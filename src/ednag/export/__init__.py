"""Trained networks written for other programs: ONNX, torch.export, safetensors, 8-bit integers, and a model card."""
