"""Caption towers of a few thousand parameters, and the settings of a model around one."""

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import BertConfig, BertTokenizer, RobertaConfig, RobertaTokenizer

from flamlib.models.flam import FLAM

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["a", "the", "dog", "bark", "##s", "bell", "ring", "rain", "fall", "tone", "é", "犬"]

YAMNET = {"tower": "yamnet"}
HTSAT = {
    "tower": "htsat",
    "embed": 8,
    "depths": [1, 1, 1, 1],
    "heads": [1, 2, 2, 4],
    "drop_path": 0.0,
    "drop_hidden": 0.0,
    "drop_attention": 0.0,
}
MEAN = {"pooling": "mean"}
SETTINGS = {
    "audio": YAMNET,
    "caption": MEAN,
    "dim": 12,
    "dropout": 0.1,
    "scale_init": 10.0,
    "bias_init": -8.0,
    "temperature_init": 0.07,
}
MGA_CLAP = {
    "audio": YAMNET,
    "caption": {"pooling": "words"},
    "dim": 12,
    "dropout": 0.1,
    "temperature_init": 0.07,
    "n_codes": 20,
    "code_temperature": 0.3,
}


def write_bert(folder, *, width=16, max_tokens=12):
    """A folder such as artifacts/weights/minilm, without weights; a token is a word or `##s`."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {token: i for i, token in enumerate([*SPECIAL, *WORDS])}
    BertTokenizer(vocab=vocab, strip_accents=False).save_pretrained(folder)
    BertConfig(
        vocab_size=len(vocab),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=max_tokens,
    ).save_pretrained(folder)
    return folder


def write_roberta(folder, *, width=16, max_tokens=40):
    """The same of RoBERTa, its tokenizer trained on a few captions."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        ["a dog barks", "a bell rings"] * 9, 300, special_tokens=special, show_progress=False
    )
    trained.save_model(str(folder))
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    tokenizer = RobertaTokenizer(vocab=str(vocab), merges=str(merges))
    vocab.unlink()
    merges.unlink()
    tokenizer.save_pretrained(folder)
    RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=max_tokens + 2,
        type_vocab_size=1,
        pad_token_id=1,
    ).save_pretrained(folder)
    return folder


def learnt(run, parameters, *, seed=3):
    """The gradients of what `run` returns, and how many numbers it kept for them."""
    parameters, kept = list(parameters), []

    def pack(x):
        if not any(x is p or x.data_ptr() == p.data_ptr() for p in parameters):
            kept.append(x.numel())
        return x

    torch.manual_seed(seed)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = run().square().mean()
    torch.manual_seed(seed + 1)  # what is computed again must not depend on what came in between
    return torch.autograd.grad(loss, parameters), sum(kept)


def sensitive_model(folder):
    """YAMNet and a tiny BERT, with weights that let the sound through to the last layer."""
    torch.manual_seed(0)
    net = FLAM(folder, **SETTINGS).eval()
    for layer in net.audio.layers:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    return net


def changing_noise(*shape, seed=0):
    """Louder and softer, so that no two frames are alike."""
    waveform = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return waveform * (1 + torch.sin(torch.arange(shape[-1]) / 5000))
