"""Audio encoders through transformers: pretrained from a directory or the hub, or as random control."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from evaluator.backbones import Loader
from evaluator.backbones.support.keys import Between, Hertz, Seed
from tasks.support.errors import UserError

if TYPE_CHECKING:
    from evaluator.backbones.huggingface.encoder import Encoder

# Part of the key of every feature: raise it with any change that alters what this loader's models return.
VERSION = 1


def load(
    *,
    model: str | None = None,
    revision: str | None = None,
    sha256: str | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: Seed = 0,
    architecture: str | None = None,
    config: Mapping[str, Any] | None = None,
    do_normalize: bool | None = None,
    sample_rate: Hertz | None = None,
    max_seconds: Annotated[float, Between(0)] | None = None,
    trust_remote_code: bool = False,
    base: Path = Path(),
) -> "Encoder":
    """Load an audio encoder.

    Args:
        model: a directory made with ``save_pretrained`` (relative to the submission file), or a hub id.
        revision: the hub commit to use; pin it, so that the submission always loads the same model.
        sha256: checksum of the checkpoint's weights file, which pins a directory or a hub model.
        weights: "random" keeps the architecture and initialises its weights at random.
        seed: of the random weights.
        architecture: with random weights and no ``model``: a ``model_type`` of transformers, one of ``FAMILIES``.
        config: settings that replace the architecture's defaults; only with ``architecture``.
        do_normalize: overrides the preprocessor of a checkpoint that takes waveforms; required if it has none.
        sample_rate: Hz; overrides the preprocessor likewise.
        max_seconds: longer clips are encoded in chunks of this length; 0 for never. The default is 60, unless
            the model sets a window.
        trust_remote_code: run Python code of the checkpoint. A model that needs it is refused otherwise.
        base: the directory of the submission file.

    Raises:
        UserError: the model cannot be found, takes no audio, or its weights do not fit it exactly.
    """
    from evaluator.backbones.huggingface import assembly
    from evaluator.backbones.huggingface.families import FAMILIES, Family
    from evaluator.backbones.huggingface.weights import check_sha256, load_strictly, quieten, read_extractor

    if (model is None) == (architecture is None):
        raise UserError("give either model (a directory or hub id) or, for random weights, architecture.")
    if architecture is not None:
        quieten(local=True)
        if weights != "random":
            raise UserError('architecture needs weights = "random"; for pretrained weights give model.')
        if revision is not None or sha256 is not None or trust_remote_code:
            raise UserError("revision, sha256 and trust_remote_code are for a model's files; architecture reads none.")
        source, settings = architecture, assembly.defaults(architecture, config or {})
        family: Family | None = FAMILIES[architecture]
        preprocessor = FAMILIES[architecture].preprocessor(settings)
    else:
        if config is not None:
            raise UserError("config goes with architecture; a checkpoint brings its own.")
        if weights == "random" and sha256 is not None:
            raise UserError('sha256 pins weights, which are not read with weights = "random".')
        source, settings = assembly.checkpoint(str(model), base, revision, sha256, trust_remote_code)
        family = FAMILIES.get(settings.model_type)
        preprocessor = read_extractor(source, revision, trust_remote_code)
    preprocessor = assembly.override(source, family, preprocessor, do_normalize, sample_rate)
    if weights == "random":
        whole = assembly.initialised(settings, family, seed, trust_remote_code)
    else:
        if sha256 is not None:
            check_sha256(source, revision, sha256)
        whole = load_strictly(
            source,
            revision,
            trust_remote_code,
            family.loads_with if family else "AutoModel",
            family.others if family else (),
        )
    return assembly.encoder(source, family, whole.eval(), preprocessor, max_seconds)


def _questions(keys: Mapping[str, object]) -> dict[str, str]:
    """Keys that a model without a saved feature extractor needs. A directory with a hub commit is refused."""
    model = keys.get("model")
    if model is None:
        return {"architecture": ""} if keys.get("weights") == "random" else {}
    if not Path(str(model)).is_dir():
        return {}

    from evaluator.backbones.huggingface.families import FAMILIES
    from evaluator.backbones.huggingface.weights import find_model, quieten, read_config, read_extractor

    revision = keys.get("revision")
    source, _ = find_model(str(model), None if revision is None else str(revision), Path())
    if {"do_normalize", "sample_rate"} <= keys.keys():
        return {}
    quieten(local=True)
    try:
        family = FAMILIES.get(read_config(source, None, trust_remote_code=False, base=Path()).model_type)
        if family is None or not family.waveforms or read_extractor(source, None, False) is not None:
            return {}
    except UserError:
        # `beans check` gives the reason when it loads the model.
        return {}
    lacks = f"{source} has no preprocessor_config.json, which would say how clips are scaled and at which rate"
    return dict.fromkeys(("do_normalize", "sample_rate"), lacks)


LOADER = Loader(
    name="huggingface",
    help="HuBERT, WavLM, wav2vec 2.0, data2vec, SEW, UniSpeech, AST, Whisper, CLAP, Wav2Vec2-BERT, other audio encoders"
    " of transformers",
    version=VERSION,
    load=load,
    template="""
model = "facebook/hubert-base-ls960"  # hub id of the model, or a directory made with save_pretrained
revision = "dba3bb02fda4248b6e082697eee756de8fe8aa8a"  # commit of the hub, so that it is the same model tomorrow
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of the weights file: pins a directory
weights = "random"  # the architecture before any training
seed = 0  # of the random weights
architecture = "hubert"  # for random weights without model: a model_type of transformers
config = { hidden_size = 768 }  # settings over the architecture's defaults, for random weights without model
do_normalize = true  # was the model trained on clips of zero mean and unit variance? (default: its preprocessor's)
sample_rate = 16000  # Hz that the model was trained at (default: its preprocessor's)
max_seconds = 60.0  # longer clips are encoded in chunks of this length; 0 for never
trust_remote_code = true  # runs code that comes with the model; the board shows it
""",
    pretrained=("model",),
    questions=_questions,
    files=("model",),
)
