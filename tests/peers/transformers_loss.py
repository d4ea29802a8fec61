#!/usr/bin/env python3
"""Losses of tiny random models by Hugging Face transformers, to hold those of hetu-exec against.

    pip install torch transformers
    transformers_loss.py make FOLDER    a folder of each kind: config.json, model.safetensors, losses.json; text.txt
    transformers_loss.py loss MODEL FOLDER/text.txt    the loss of a folder that anybody wrote

The text has as many windows as the batch, so each step trains on all of it, in whatever order. The recipe is that of
the README: AdamW, decay of matrices and tables alone, warm-up from 1/n, half a cosine to a tenth, one norm for all.
"""
import json
import math
import pathlib
import sys

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

SEQUENCE, BATCH, STEPS = 16, 4, 20
TRAINING = dict(learning_rate=1e-2, warmup_steps=3, weight_decay=0.1, betas=[0.9, 0.95], epsilon=1e-8,
                gradient_norm_max=1.0)
TEXT = "It is a truth universally acknowledged, that a single man in poss"
SIZES = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=256, max_position_embeddings=64, rms_norm_eps=1e-5, dtype="float32", bos_token_id=None,
             eos_token_id=None)
STRETCHED = dict(rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                 original_max_position_embeddings=64)
KINDS = {
    "tiny-llama": ("llama", dict(SIZES, rope_parameters=dict(rope_type="default", rope_theta=50000.0))),
    "tiny-llama3": ("llama", dict(SIZES, head_dim=8, tie_word_embeddings=True, rope_parameters=STRETCHED)),
    # The window is as long as the sequence, so that it makes no difference.
    "tiny-mistral": ("mistral", dict(SIZES, head_dim=8, sliding_window=SEQUENCE)),
    "tiny-qwen2": ("qwen2", dict(SIZES, rms_norm_eps=1e-6)),
    "tiny-qwen3": ("qwen3", dict(SIZES, head_dim=8, rms_norm_eps=1e-6)),
    "tiny-phi3": ("phi3", dict(SIZES, pad_token_id=0)),
    "tiny-gpt2": ("gpt2", dict(n_embd=16, n_layer=2, n_head=4, n_positions=24, vocab_size=256, dtype="float32",
                               bos_token_id=None, eos_token_id=None, attn_pdrop=0.0, embd_pdrop=0.0,
                               resid_pdrop=0.0)),
}


def model_of(kind, sizes):
    """A model of random weights, all of them far from what they usually begin as."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes), attn_implementation="eager")
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        is_norm = name.endswith(("norm.weight", "layernorm.weight", "ln_1.weight", "ln_2.weight", "ln_f.weight"))
        drawn = torch.randn(parameter.shape, generator=generator) * 0.2
        parameter.data = drawn + (1.0 if is_norm else 0.0)
    return model.float().eval()


def windows(text):
    tokens = torch.tensor(list(text.encode()))
    rows = [tokens[first:first + SEQUENCE + 1] for first in range(0, len(tokens) - SEQUENCE, SEQUENCE)]
    rows = torch.stack(rows)
    return rows[:, :-1], rows[:, 1:]


def loss_of(model, text):
    inputs, targets = windows(text)
    logits = model(input_ids=inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def rate(step):
    largest, warmup = TRAINING["learning_rate"], TRAINING["warmup_steps"]
    if step < warmup:
        return largest * (step + 1) / warmup
    part = (step - warmup) / max(STEPS - warmup - 1, 1)
    return largest * (0.1 + 0.9 * (1 + math.cos(math.pi * min(part, 1))) / 2)


def train(model, text):
    """Losses before each update, and norms of gradients."""
    parameters = list(model.parameters())
    groups = [dict(params=[p for p in parameters if p.dim() >= 2], weight_decay=TRAINING["weight_decay"]),
              dict(params=[p for p in parameters if p.dim() < 2], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=tuple(TRAINING["betas"]), eps=TRAINING["epsilon"])
    losses, norms = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(model, text)
        loss.backward()
        norm = torch.sqrt(sum((p.grad.double() ** 2).sum() for p in parameters)).item()
        if norm > TRAINING["gradient_norm_max"]:
            for parameter in parameters:
                parameter.grad *= TRAINING["gradient_norm_max"] / norm
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm)
    return losses, norms


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text(TEXT)
    assert len(windows(TEXT)[0]) == BATCH, len(windows(TEXT)[0])
    for name, (kind, sizes) in KINDS.items():
        model = model_of(kind, sizes)
        model.save_pretrained(folder / name)
        (folder / name / "generation_config.json").unlink(missing_ok=True)
        losses, norms = train(model, TEXT)
        versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
        found = dict(source=f"tests/peers/transformers_loss.py make, {versions}, f32 on CPU", sequence=SEQUENCE,
                     batch=BATCH, steps=STEPS, training=TRAINING, losses=losses, gradient_norms=norms)
        (folder / name / "losses.json").write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {losses[0]:.7f} to {losses[-1]:.7f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    if sys.argv[1] == "make":
        make(pathlib.Path(sys.argv[2]))
    else:
        loaded, told = AutoModelForCausalLM.from_pretrained(
            sys.argv[2], dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
        print(f"{loss_of(loaded.eval(), pathlib.Path(sys.argv[3]).read_text()).item():.9f}",
              {key: value for key, value in told.items() if value})
