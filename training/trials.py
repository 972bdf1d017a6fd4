"""Kernels of the MNIST training step in variants: microseconds (graph), and how far from a reference in float32/64."""
import json, sys, time, traceback
import torch
import torch.nn.functional as F
from common import graph_us
from flowquant.models.kernels import activation, attention, feedforward, norm, sums
from flowquant.training import adamw_kernel

BEGUN, DEADLINE = time.monotonic(), float(sys.argv[2]) if len(sys.argv) > 2 else 58.0
dev, out = torch.device("cuda"), {}
B, N, D, H, FF, L = 128, 49, 384, 12, 2048, 10
M = B * N
torch.manual_seed(0)

def rand(*shape, scale=1.0):
    return (torch.randn(*shape, device=dev) * scale).bfloat16()

def far(found, wanted):
    found, wanted = found.detach().double(), wanted.detach().double()
    return float(f"{((found - wanted).norm() / wanted.norm()).item():.2g}")

def trial(name, make):
    """make() → (work, check or None)"""
    left = DEADLINE - (time.monotonic() - BEGUN)
    if left < 1.5:
        print(name, "skipped: out of time", flush=True)
        return
    try:
        work, check = make()
        work(); torch.cuda.synchronize()
        error = check() if check else None
        us, spread = graph_us(work, repeats=15, together=10)
        out[name] = {"us": round(us, 2), "spread": round(spread, 2), "error": error}
        print(f"{name}: {us:.2f} ± {spread:.2f} us, error {error}", flush=True)
    except Exception as e:
        out[name] = repr(e)[:400]
        print(name, "FAILED", repr(e)[:300], flush=True)
        print("   ", *[f"{x.filename[-40:]}:{x.lineno}" for x in traceback.extract_tb(e.__traceback__)[-3:]], flush=True)
    json.dump(out, open(sys.argv[1], "w"), indent=1)

seed = torch.tensor([1234], device=dev)

# --- weight gradients: a layer at a time, and together; and sums within products
for name, rows, columns in (("qkv", 3 * D, D), ("out", D, D), ("linear1", FF, D), ("linear2", D, FF)):
    try:
        grads, given = rand(L, M, rows), rand(L, M, columns)
        apart = torch.empty(L, rows * columns + 4096, device=dev, dtype=torch.bfloat16)
        to = apart.as_strided((L, rows, columns), (rows * columns + 4096, columns, 1))
        exact = grads[3].float().t() @ given[3].float()
    except Exception as e:
        print(name, repr(e)[:200], flush=True)
        continue
    def singly():
        def work():
            for i in range(L):
                torch.mm(grads[i].t(), given[i], out=to[i])
        return work, lambda: far(to[3], exact)
    def together(each):
        def make():
            to.zero_()
            def work():
                for i in range(0, L, each):
                    torch.bmm(grads[i:i + each].mT, given[i:i + each], out=to[i:i + each])
            return work, lambda: far(to[3], exact)
        return make
    trial(f"weight gradients of {name}, ten singly", singly)
    for each in (10, 5, 2):
        trial(f"weight gradients of {name}, ten by {each}", together(each))
for name, inner in (("linear1", FF), ("qkv", 3 * D)):
    def add(within):
        def make():
            a, w, c = rand(M, inner), rand(inner, D), rand(M, D)
            if within:
                return lambda: c.addmm_(a, w), None
            return lambda: c.add_(a @ w), None
        return make
    trial(f"gradient through {name}, added after", add(False))
    trial(f"gradient through {name}, added within", add(True))

# --- norm
total, grad, weight, kept = rand(B, N, D), rand(B, N, D), rand(D), (torch.rand(B, N, D, device=dev) > .1).to(torch.int8)
t64, w64 = total.double().requires_grad_(), weight.double().requires_grad_()
b64 = torch.zeros(D, device=dev, dtype=torch.float64, requires_grad=True)
F.layer_norm(t64, (D,), w64, b64).backward(grad.double())
branch = t64.grad * kept / .9

def norm_of(how):
    def make():
        norm.BACKWARD_NORM = how, norm.BACKWARD_NORM[1]
        of_y, own = torch.empty_like(total), torch.empty(norm.norm_sums(M, D), 3 * D, device=dev)
        found = []
        def work():
            found[:] = norm.add_norm_backward(total, grad, weight, 1e-5, .1, kept, of_y, own)
        def check():
            s = own.sum(0).split(D)
            return [far(found[0], t64.grad), far(of_y, branch), far(s[0], w64.grad), far(s[1], b64.grad), far(s[2], branch.sum((0, 1)))]
        return work, check
    return make

for how in [(1, 1056, 1, 1), (4, 528, 4, 1), (4, 528, 4, 2), (4, 528, 4, 3), (4, 396, 4, 3), (2, 528, 4, 2), (2, 660, 4, 1), (2, 528, 2, 2), (8, 264, 8, 2)]:
    trial(f"add_norm backward {how}", norm_of(how))

# --- attention
qkv, of_mixed = rand(B, N, 3 * D), rand(B, N, D)
q64 = qkv.double().requires_grad_()
q, k, v = q64.view(B, N, 3, H, -1).permute(2, 0, 3, 1, 4)
((q @ k.mT / (D // H) ** .5).softmax(-1) @ v).transpose(1, 2).reshape(B, N, D).backward(of_mixed.double())

def attention_of(warps, registers):
    def make():
        attention.ATTENTION_WARPS, attention.FEW_REGISTERS = (4, warps), registers
        to, own = torch.empty_like(qkv), torch.empty(B, 3 * D, device=dev)
        work = lambda: attention.attention_backward(qkv, of_mixed, H, .1, seed, to, own)
        def check():
            found, s = attention.attention_backward(qkv, of_mixed, H)
            return [far(found, q64.grad), far(s[:, 2 * D:], q64.grad.sum(1)[:, 2 * D:])]
        return work, check
    return make

for how in [(4, None), (4, 128), (4, 120), (8, None), (2, None)]:
    trial(f"attention backward, warps and registers {how}", attention_of(*how))

# --- AdamW
count = 21_900_000
vectors = [torch.randn(count, device=dev) * .1 for _ in range(2)] + [torch.rand(count, device=dev)]
copy, flat = torch.empty(count, device=dev, dtype=torch.bfloat16), rand(count)
rate, step = torch.tensor(1e-4, device=dev), torch.ones((), device=dev)

def adamw_of(values, kind):
    def make():
        adamw_kernel.VALUES = values
        gradient = flat.to(kind)
        def work():
            adamw_kernel.adamw(*vectors[:1], gradient, *vectors[1:], copy, rate, step, (.9, .999), 1e-8, .01)
        return work, lambda: far(copy, vectors[0])
    return make

for values in [(1024, 4), (512, 4), (2048, 8), (1024, 8), (4096, 16)]:
    trial(f"AdamW from bfloat16 {values}", adamw_of(values, torch.bfloat16))
trial("AdamW from float32 (1024, 4)", adamw_of((1024, 4), torch.float32))

def adamw_before():
    p = vectors[0].clone().requires_grad_(); p.grad = torch.zeros_like(p)
    opt = torch.optim.AdamW([p], lr=torch.tensor(1e-4, device=dev), fused=True, capturable=True)
    def work():
        p.grad.copy_(flat); opt.step(); copy.copy_(p.detach())
    return work, None

trial("AdamW before: copy, step, copy", adamw_before)

# --- products and the passes beside them
x, w1, b1 = rand(M, D), rand(FF, D, scale=.05), rand(FF)
g, w2 = rand(M, D), rand(D, FF, scale=.05)
hidden = activation.activate(F.linear(x, w1, b1), False, .1, seed)
wide = torch.empty(M, FF, device=dev, dtype=torch.bfloat16)
exact_forward = (F.linear(x.float(), w1.float(), b1.float()).relu() * (activation.activate(torch.ones_like(wide), False, .1, seed) > 0) / .9)
exact_back = (g.float() @ w2.float()) * (hidden > 0) / .9
partial = torch.empty(256, FF, device=dev)

def two_forward():
    pre = torch.empty_like(wide)
    def work():
        torch.addmm(b1, x, w1.t(), out=pre)
        activation.activate(pre, False, .1, seed, out=wide)
    return work, lambda: far(wide, exact_forward)

def two_back():
    def work():
        torch.mm(g, w2, out=wide)
        activation.activate_backward(hidden, wide, False, .1, None, wide, partial[:activation.activation_sums(M)])
    return work, lambda: [far(wide, exact_back), far(partial[:activation.activation_sums(M)].sum(0), exact_back.sum(0))]

def one_forward(tile):
    def make():
        def work():
            feedforward.TILES = tile, feedforward.TILES[1]
            feedforward.linear_relu_dropout(x, w1, b1, .1, seed, wide)
        return work, lambda: far(wide, exact_forward)
    return make

def one_back(tile):
    def make():
        def work():
            feedforward.TILES = feedforward.TILES[0], tile
            feedforward.linear_relu_backward(g, w2, hidden, .1, wide, partial[:feedforward.relu_sums(M)])
        return work, lambda: [far(wide, exact_back), far(partial[:feedforward.relu_sums(M)].sum(0), exact_back.sum(0))]
    return make

trial("linear1 + ReLU + dropout: two kernels", two_forward)
trial("of linear2, ReLU, dropout: two kernels", two_back)
T = [(128, 128, 64, 8, 3, 128), (128, 128, 64, 8, 4, None), (128, 128, 64, 4, 3, None), (128, 64, 64, 4, 4, None), (128, 128, 128, 8, 2, 128), (64, 128, 64, 4, 4, None), (128, 256, 64, 8, 3, None)]
for tile in T:
    trial(f"forward in one {tile}", one_forward(tile))
for tile in [*T[:1], (128, 128, 64, 8, 3, None), *T[2:6], (128, 64, 64, 4, 3, 128)]:
    trial(f"backward in one {tile}", one_back(tile))

# --- sums of rows, of all layers
for how in [(256, 8, 4), (128, 16, 4), (64, 32, 4)]:
    for name, rows, columns, width in (("norm", 528, 3 * D, D), ("activation", 49, FF, FF), ("attention", B, 3 * D, 3 * D)):
        def make():
            sums.SUM_ROWS = how
            parts, to = torch.randn(L, rows, columns, device=dev)[:, :, :width], torch.empty(L, width, device=dev)
            return lambda: sums.sum_stacks(parts, to), lambda: far(to, parts.double().sum(1))
        trial(f"sums of {name} {how}", make)

print(round(time.monotonic() - BEGUN, 1), "s", flush=True)
