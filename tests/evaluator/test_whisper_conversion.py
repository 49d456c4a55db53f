"""Whisper in CTranslate2's format becomes the same model in transformers, or the conversion fails."""

import importlib
import struct
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from transformers import WhisperConfig, WhisperForConditionalGeneration

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whisper() -> ModuleType:
    # The submissions are no package.
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "submissions"))
        return importlib.import_module("whisper")


@pytest.fixture(scope="module")
def model() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    sizes = {f"{side}_{key}": size for side in ("encoder", "decoder") for key, size in (("layers", 2), ("ffn_dim", 24))}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    model = WhisperForConditionalGeneration(WhisperConfig(d_model=64, **sizes, **heads)).eval()
    for parameter in model.parameters():
        # Biases and norms begin as 0 and 1, which would hide that two of them are exchanged.
        parameter.data = torch.randn(parameter.shape).half().float()
    return model


def spec(model: WhisperForConditionalGeneration) -> dict[str, Tensor]:
    """The variables that CTranslate2's converter makes of a model, written out for each kind."""
    variables: dict[str, Tensor] = {}

    def pair(name: str, module: torch.nn.Module, last: tuple[str, str] = ("weight", "bias")) -> None:
        variables[f"{name}/{last[0]}"], variables[f"{name}/{last[1]}"] = module.weight, module.bias

    def fused(name: str, *projections: torch.nn.Linear) -> None:
        biases = [torch.zeros(64) if one.bias is None else one.bias for one in projections]
        variables[f"{name}/weight"] = torch.cat([one.weight for one in projections])
        variables[f"{name}/bias"] = torch.cat(biases)

    norm = ("gamma", "beta")
    pair("encoder/conv1", model.model.encoder.conv1)
    pair("encoder/conv2", model.model.encoder.conv2)
    variables["decoder/embeddings/weight"] = model.model.decoder.embed_tokens.weight
    for side in ("encoder", "decoder"):
        stack = getattr(model.model, side)
        variables[f"{side}/position_encodings/encodings"] = stack.embed_positions.weight
        pair(f"{side}/layer_norm", stack.layer_norm, norm)
        for number, block in enumerate(stack.layers):
            at = f"{side}/layer_{number}"
            pair(f"{at}/self_attention/layer_norm", block.self_attn_layer_norm, norm)
            fused(f"{at}/self_attention/linear_0", *(getattr(block.self_attn, f"{one}_proj") for one in "qkv"))
            pair(f"{at}/self_attention/linear_1", block.self_attn.out_proj)
            if side == "decoder":
                pair(f"{at}/attention/layer_norm", block.encoder_attn_layer_norm, norm)
                pair(f"{at}/attention/linear_0", block.encoder_attn.q_proj)
                fused(f"{at}/attention/linear_1", block.encoder_attn.k_proj, block.encoder_attn.v_proj)
                pair(f"{at}/attention/linear_2", block.encoder_attn.out_proj)
            pair(f"{at}/ffn/layer_norm", block.final_layer_norm, norm)
            pair(f"{at}/ffn/linear_0", block.fc1)
            pair(f"{at}/ffn/linear_1", block.fc2)
    return variables


def write(variables: dict[str, Tensor]) -> bytes:
    """CTranslate2's binary format 6, with one setting, and every tensor in half precision."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    content = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(variables) + 1)
    content += text("encoder/num_heads") + struct.pack("<BBIh", 0, 2, 2, 1)
    for name, tensor in variables.items():
        values = tensor.detach().half().numpy().tobytes()
        content += text(name) + struct.pack(f"<B{tensor.ndim}I", tensor.ndim, *tensor.shape)
        content += struct.pack("<BI", 4, len(values)) + values
    return content + struct.pack("<I", 1) + text("decoder/projection/weight") + text("decoder/embeddings/weight")


def test_every_weight_is_where_it_was(whisper: ModuleType, model: WhisperForConditionalGeneration) -> None:
    found, expected = whisper.convert(write(spec(model))).state_dict(), model.state_dict()
    assert found.keys() == expected.keys()
    assert not [name for name, values in expected.items() if not torch.equal(found[name], values)]


def test_a_missing_tensor_is_no_model(whisper: ModuleType, model: WhisperForConditionalGeneration) -> None:
    variables = spec(model)
    del variables["encoder/layer_1/ffn/linear_1/bias"]
    with pytest.raises(RuntimeError, match=r"encoder\.layers\.1\.fc2\.bias"):
        whisper.convert(write(variables))


def test_a_bias_of_keys_is_not_lost(whisper: ModuleType, model: WhisperForConditionalGeneration) -> None:
    variables = spec(model)
    variables["encoder/layer_0/self_attention/linear_0/bias"] = torch.ones(192)
    with pytest.raises(ValueError, match="bias of keys"):
        whisper.convert(write(variables))


def test_another_file_of_the_same_package_is_refused(whisper: ModuleType) -> None:
    source = whisper.Source((("torch", "torch/version.py"),), "0" * 64)
    with pytest.raises(ValueError, match="sha256"):
        whisper.read_source(source)
