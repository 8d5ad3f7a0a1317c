"""What supervised models start from: tokenizers, and weights of timm and Hugging Face or from a file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from gl_ris.clip.loading import ASSETS, SWIN
from gl_ris.errors import UserError, in_short
from gl_ris.hashes import check_shipped
from gl_ris.hub import reaching_hub
from gl_ris.no_code import refuse_code
from gl_ris.supervised.segmenter import Tokenize
from gl_ris.weights import check_names_and_shapes, read_weights, state_dict_in

# What a classifier has on top; and what a Swin computes from its measures, whatever a file says.
_TOP = ("head.", "norm.")
_COMPUTED = ("attn_mask", "relative_position_index")


def load_tokenizer(source: str) -> Tokenize:
    """Load the tokenizer of a shipped CLIP, or of a Hugging Face name or folder.

    `UserError` if it cannot be loaded, or pads with another id than 0.
    """
    from gl_ris.clip.loading import SHIPPED

    if source in SHIPPED:
        return clip_tokenizer(source)
    from transformers import AutoTokenizer

    refuse_code(source, f"The tokenizer '{source}'")
    try:
        with reaching_hub(not Path(source).is_dir()):
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # tokenizers raises nothing more special
        raise UserError(
            f"The tokenizer '{source}' cannot be loaded ({in_short(error, 160)}). Give a folder that holds "
            "its files (tokenizer.json and tokenizer_config.json), or run once with a connection."
        ) from error
    if tokenizer.pad_token_id != 0:
        raise UserError(f"The tokenizer '{source}' pads with id {tokenizer.pad_token_id}; it must be 0.")
    return lambda texts: [list(row) for row in tokenizer(list(texts))["input_ids"]] if texts else []


def clip_tokenizer(name: str) -> Tokenize:
    """Return the tokenizer, without its padding, of an open_clip model named as for `gl_ris.load_clip`."""
    from gl_ris.clip import loading

    tokenizer = loading.load_tokenizer(name)

    def tokenize(expressions: Sequence[str]) -> list[list[int]]:
        if not expressions:
            return []
        rows = tokenizer(list(expressions)).tolist()
        # the end of text is the largest id; what follows is padding
        return [row[: row.index(max(row)) + 1] for row in rows]

    return tokenize


def load_classifier(network: nn.Module, source: str) -> None:
    """Load timm's weights (a name, or a file), or the shipped ones, into a network that lacks what is on top.

    `UserError` if they cannot be loaded, or are of other measures.
    """
    what = f"The classifier '{source}'"
    state = _state(source, what)
    own = {n: t for n, t in state.items() if not n.startswith(_TOP) and not n.endswith(_COMPUTED)}
    _fit(network, own, what, "swin")


def load_bert(network: nn.Module, source: str) -> None:
    """Load a BERT of a Hugging Face name or folder; errors are those of `load_classifier`."""
    from transformers import BertModel

    def load() -> Mapping[str, Tensor]:
        model = BertModel.from_pretrained(source, add_pooling_layer=False, trust_remote_code=False)
        return model.state_dict()

    what = f"BERT '{source}'"
    refuse_code(source, what)
    hub = not Path(source).is_dir()
    _fit(network, _or_advice(load, what, "a folder that save_pretrained wrote", hub), what, "bert")


def _state(source: str, what: str) -> Mapping[str, Tensor]:
    if source == SWIN:
        check_shipped(ASSETS / SWIN)
        source = str(ASSETS / SWIN / "swin.safetensors")
    if Path(source).suffix in (".pt", ".pth", ".safetensors", ".bin"):
        return state_dict_in(read_weights(source, what), what)
    import timm

    return _or_advice(
        lambda: timm.create_model(source, pretrained=True).state_dict(),
        f"timm's '{source}'",
        "a file of its weights (.pth or .safetensors)",
    )


def _or_advice(
    load: Callable[[], Mapping[str, Tensor]], what: str, instead: str, hub: bool = True
) -> Mapping[str, Tensor]:
    try:
        with reaching_hub(hub):
            return load()
    except Exception as error:  # hubs raise errors of many libraries
        raise UserError(
            f"The weights of {what} cannot be loaded ({in_short(error, 160, typed=True)}). Run once with "
            f"a connection, give {instead} in its place, or null to start from random weights."
        ) from error


def _fit(network: nn.Module, state: Mapping[str, Tensor], what: str, option: str) -> None:
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_COMPUTED)}
    try:
        check_names_and_shapes(state, wanted, what)
    except UserError as error:
        other = (
            f"For a network of these measures give other weights, or baseline.{option}=null for random ones."
        )
        raise UserError(f"{error} {other}") from error
    network.load_state_dict(state, strict=False)
