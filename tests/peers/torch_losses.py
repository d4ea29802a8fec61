#!/usr/bin/env python3
"""Losses of a Llama that PyTorch trains in bf16 from the weights and on the windows that hetu-exec trains on.

    hetu-exec plan.yaml --from WEIGHTS --text TEXT --steps N --seed 0 --held-out 0 --evaluate-every 0 --json > ours.jsonl
    python3 torch_losses.py WEIGHTS TEXT N BATCH SEQUENCE [ours.jsonl]

WEIGHTS is a Hugging Face folder. An implementation of its own: the model of torch_train.py, autocast to bf16 over
parameters in f32, fused AdamW, and the recipe of the README (warm-up from 1/n, half a cosine to a tenth, decay of
matrices and tables alone, one norm for all). Tokens are bytes. With ours.jsonl it prints the largest difference.
"""
import json, math, pathlib, sys
import torch, torch.nn as nn, torch.nn.functional as F
from safetensors.torch import load_file

folder, text, steps, batch, sequence = pathlib.Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6])
lines = [json.loads(line) for line in open(sys.argv[6])] if len(sys.argv) > 6 else []
ours = [line for line in lines if line["kind"] == "step"]
RATE, WARMUP, DECAY, BETAS, EPSILON, NORM = 3e-4, 100, 0.1, (0.9, 0.95), 1e-8, 1.0
SEED = 0  # hetu-exec --seed 0
config = json.load(open(folder / "config.json"))
H, L, NH, KV, FF, V = (config[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads",
                                               "num_key_value_heads", "intermediate_size", "vocab_size"))
D = config.get("head_dim") or H // NH
THETA = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
MASK = (1 << 64) - 1


def mix(bits):
    """SplitMix64's finaliser (Steele and others 2014), of which hetu-exec makes all random numbers."""
    bits = ((bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94d049bb133111eb) & MASK
    return bits ^ (bits >> 31)


def derive(seed, key):
    return mix(seed ^ mix((key + 0x9e3779b97f4a7c15) & MASK))


def window(seed, count, sample):
    """Which window is a sample: a Feistel network over two halves, walked until it is inside."""
    half = ((count - 1).bit_length() + 1) // 2
    mask, key, place = (1 << half) - 1, derive(seed, sample // count), sample % count
    while True:
        left, right = place >> half, place & mask
        for turn in range(12):
            noise = mix((derive(key, turn) + right * 0x9e3779b97f4a7c15) & MASK)
            left, right = right, left ^ (noise & mask)
        place = (left << half) | right
        if place < count:
            return place


ORDER = SEED
for letter in b"order of the text":
    ORDER = derive(ORDER, letter)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda a, b: nn.Linear(a, b, bias=False)
        self.n1, self.n2 = nn.Parameter(torch.ones(H)), nn.Parameter(torch.ones(H))
        self.q, self.k, self.v, self.o = linear(H, NH * D), linear(H, KV * D), linear(H, KV * D), linear(NH * D, H)
        self.gate, self.up, self.down = linear(H, FF), linear(H, FF), linear(FF, H)

    def forward(self, x, cos, sin):
        rows, length, _ = x.shape
        h = F.rms_norm(x, (H,), self.n1, config["rms_norm_eps"])
        q, k, v = (w(h).view(rows, length, -1, D).transpose(1, 2) for w in (self.q, self.k, self.v))
        turn = lambda a: torch.cat((a[..., :D // 2] * cos - a[..., D // 2:] * sin,
                                    a[..., D // 2:] * cos + a[..., :D // 2] * sin), -1).to(a.dtype)
        o = F.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True, enable_gqa=True)
        x = x + self.o(o.transpose(1, 2).reshape(rows, length, -1))
        h = F.rms_norm(x, (H,), self.n2, config["rms_norm_eps"])
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.blocks = nn.Embedding(V, H), nn.ModuleList(Block() for _ in range(L))
        self.norm, self.head = nn.Parameter(torch.ones(H)), nn.Linear(H, V, bias=False)

    def forward(self, tokens, targets, cos, sin):
        x = self.table(tokens)
        for block in self.blocks:
            x = block(x, cos, sin)
        logits = self.head(F.rms_norm(x, (H,), self.norm, config["rms_norm_eps"]))
        return F.cross_entropy(logits.float().view(-1, V), targets.reshape(-1))


def load(model):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(file))
    names = {"q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
             "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
    with torch.no_grad():
        model.table.weight.copy_(tensors["model.embed_tokens.weight"])
        model.head.weight.copy_(tensors["lm_head.weight"])
        model.norm.copy_(tensors["model.norm.weight"])
        for index, block in enumerate(model.blocks):
            part = lambda name: tensors[f"model.layers.{index}.{name}.weight"]
            block.n1.copy_(part("input_layernorm"))
            block.n2.copy_(part("post_attention_layernorm"))
            for own, name in names.items():
                getattr(block, own).weight.copy_(part(name))


def rate(step):
    warmup = WARMUP
    if step < warmup:
        return RATE * (step + 1) / warmup
    return RATE * (0.1 + 0.9 * (1 + math.cos(math.pi * min((step - warmup) / max(steps - warmup - 1, 1), 1))) / 2)


torch.set_float32_matmul_precision("high")
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
with device:
    model = Model()
load(model)
for block in model.blocks:
    block.compile()
tokens = torch.tensor(list(open(text, "rb").read()), dtype=torch.int64, device=device)
count = (len(tokens) - 1) // sequence
fractions = torch.arange(0, D, 2, device=device).float() / D
angles = torch.outer(torch.arange(sequence, device=device).float(), THETA ** -fractions)
cos, sin = angles.cos(), angles.sin()
parameters = list(model.parameters())
groups = [dict(params=[p for p in parameters if p.dim() > 1], weight_decay=DECAY),
          dict(params=[p for p in parameters if p.dim() == 1], weight_decay=0.0)]
optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPSILON, fused=True)
worst = (0.0, 0)
for step in range(steps):
    rows = [window(ORDER, count, step * batch + row) * sequence for row in range(batch)]
    rows = torch.stack([tokens[first:first + sequence + 1] for first in rows])
    with torch.autocast(device.type, torch.bfloat16):
        loss = model(rows[:, :-1], rows[:, 1:], cos, sin)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(parameters, NORM)
    for group in optimizer.param_groups:
        group["lr"] = rate(step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    line = dict(step=step + 1, loss=loss.item(), gradient_norm=norm.item())
    if step < len(ours):
        line.update(ours=ours[step]["loss"], difference=ours[step]["loss"] / line["loss"] - 1)
        worst = max(worst, (abs(line["difference"]), step + 1))
    print(json.dumps(line), flush=True)
if ours:
    print(f"largest difference {worst[0]:.2e}, in step {worst[1]}")
