"""BioMamba: Mamba-2 blocks on the convolutions of wav2vec 2.0, pretrained or with random weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evaluator.backbones import Loader, Package
from evaluator.backbones.support.keys import Hertz, Seed
from tasks.support.errors import UserError

if TYPE_CHECKING:
    from evaluator.backbones.biomamba.encoder import BioMambaEncoder

# Part of the key of every feature: raise it with any change that alters what this loader's models return.
VERSION = 1
_KERNELS = ("BioMamba's kernels on a GPU", "`pip install 'beans-probe[mamba]'`")


def load(
    *,
    model: str | None = None,
    revision: str | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: Seed = 0,
    config: Mapping[str, Any] | None = None,
    kernels: Literal["auto", "transformers", "mamba_ssm"] = "auto",
    do_normalize: bool | None = None,
    sample_rate: Hertz | None = None,
    base: Path = Path(),
) -> "BioMambaEncoder":
    """Load a BioMamba encoder.

    Args:
        model: a directory made with ``save_pretrained`` (relative to the submission file), or a hub id.
        revision: the hub commit to use; pin it, so that the submission always loads the same model.
        weights: "random" keeps the architecture and initialises its weights at random.
        seed: of the random weights.
        config: with random weights and no ``model``: settings that replace the defaults (12 blocks of 768).
        kernels: "mamba_ssm" needs a CUDA device and mamba-ssm; "transformers" runs anywhere; "auto" uses
            mamba_ssm if it can run. The weights are the same and the outputs are equal up to rounding.
        do_normalize: zero mean and unit variance for every clip; the default is the model's configuration (false
            unless it was trained otherwise).
        sample_rate: Hz; the default is the model's configuration (16000 unless it was trained otherwise).
        base: the directory of the submission file.

    Raises:
        UserError: the model cannot be found, is no BioMamba, or its weights do not fit it exactly; or mamba_ssm is
            asked for and missing.
    """
    import torch

    from evaluator.backbones.biomamba.encoder import BioMambaEncoder
    from evaluator.backbones.biomamba.mixers import require_mamba_ssm
    from evaluator.backbones.biomamba.register import BioMambaModel
    from evaluator.backbones.huggingface.weights import load_strictly

    if kernels == "mamba_ssm":
        require_mamba_ssm()
    if model is None:
        if weights != "random":
            raise UserError('give model (a directory or hub id), or weights = "random" for the control.')
        if revision is not None:
            raise UserError("revision is for a model of the hub; random weights without model have none.")
        settings = _configure(config or {})
    else:
        if config is not None:
            raise UserError("config goes with random weights without model; a checkpoint brings its own.")
        model, settings = _find(model, revision, base)
    encoder: Any
    if model is not None and weights == "pretrained":
        encoder = load_strictly(model, revision, False, "AutoModel", ())
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = BioMambaModel(settings)
    return BioMambaEncoder(
        encoder,
        sample_rate=settings.sampling_rate if sample_rate is None else sample_rate,
        do_normalize=settings.do_normalize if do_normalize is None else do_normalize,
        kernels=kernels,
    )


def _configure(keys: Mapping[str, Any]) -> Any:
    from huggingface_hub.errors import StrictDataclassError

    from evaluator.backbones.biomamba.register import BioMambaConfig

    # transformers accepts a misspelt key and ignores it.
    unknown = sorted(set(keys) - set(BioMambaConfig.__annotations__))
    if unknown:
        known = ", ".join(BioMambaConfig.__annotations__)
        raise UserError(f"config has keys that BioMamba does not: {', '.join(unknown)}; it has {known}.")
    try:
        return BioMambaConfig(**keys)
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise UserError(f"config does not make a BioMamba: {_last_line(error)}.") from error


def _find(model: str, revision: str | None, base: Path) -> tuple[str, Any]:
    """Path or hub id of a checkpoint, and its configuration."""
    from huggingface_hub.errors import StrictDataclassError

    from evaluator.backbones.huggingface.weights import find_model, quieten, read_config, warn_unpinned

    source, local = find_model(model, revision, base)
    quieten(local=local)
    try:
        settings = read_config(source, revision, trust_remote_code=False, base=base)
    except StrictDataclassError as error:
        raise UserError(f"the configuration of model {source!r} does not make a model: {_last_line(error)}.") from error
    if settings.model_type != "biomamba":
        raise UserError(f"{source} is a {settings.model_type!r} model: this loader takes biomamba.")
    if not local:
        warn_unpinned(source, revision)
    return source, settings


def _last_line(error: Exception) -> str:
    """The last line of an error. huggingface_hub writes the cause there, below the location."""
    return str(error).strip().splitlines()[-1].strip().rstrip(".")


def _questions(keys: Mapping[str, object]) -> dict[str, str]:
    """Require no further keys. A directory with a hub commit is refused."""
    from evaluator.backbones.huggingface.weights import find_model

    if "revision" in keys and Path(str(keys.get("model"))).is_dir():
        find_model(str(keys["model"]), str(keys["revision"]), Path())
    return {}


LOADER = Loader(
    name="biomamba",
    help="Mamba-2 encoders",
    version=VERSION,
    load=load,
    template="""
model = "me/my-biomamba"  # hub id of the model, or a directory made with save_pretrained
revision = "dba3bb02fda4248b6e082697eee756de8fe8aa8a"  # commit of the hub, so that it is the same model tomorrow
weights = "random"  # the architecture before any training; without model, config may change its defaults
seed = 0  # of the random weights
config = { num_hidden_layers = 12, hidden_size = 768 }  # settings over the defaults, for random weights without model
kernels = "auto"  # or "transformers", which runs anywhere, or "mamba_ssm", which needs a GPU
do_normalize = true  # each clip to zero mean and unit variance; by default what the model's configuration says
sample_rate = 16000  # Hz; by default what the model's configuration says
""",
    pretrained=("model",),
    questions=_questions,
    files=("model",),
    packages=(Package("mamba-ssm", *_KERNELS), Package("causal-conv1d", *_KERNELS)),
)
