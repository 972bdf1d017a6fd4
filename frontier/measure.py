"""digits: velocity error at 1,024 points on paths to test images, and bytes."""
import sys, time, json
from dataclasses import replace
from pathlib import Path
import torch
from flowquant.config.method import MethodConfig
from flowquant.config.compensation import CompensationConfig
from flowquant.models.model import read_model, load_network
from flowquant.models.path import velocity
from flowquant.models.family import matrices
from flowquant.models.model import empty_network
from flowquant.data.dataset import read_dataset
from flowquant.sampling.trajectories import image_points
from flowquant.quantization.hessians import observed
from flowquant.quantization.compensate import compensate_weights
from flowquant.quantization.apply import quantize_weights, selected
from flowquant.quantization.codebook import expand_all, effective_bits, stored_bits, Codebook
Q=Path('results')
weights, config = read_model(Q/'quickstart/models/digits_model.safetensors')
data = Q/'data/digits.safetensors'
train, test = read_dataset(data)
net = load_network({n:t.clone() for n,t in weights.items()}, config)
torch.manual_seed(0)
held = image_points(test.images, test.labels, config.flow.sigma, 1024)
torch.manual_seed(1)
pts = image_points(train.images, train.labels, config.flow.sigma, 2048)
@torch.no_grad()
def vel(w):
    n = load_network(w, config)
    return torch.cat([velocity(n, config.flow, p.x, p.t, p.condition) for p in held.split(512)])
target = vel({n:t.clone() for n,t in weights.items()})
def err(contents):
    v = vel(expand_all(contents))
    return float(((v-target).square().sum()/target.square().sum()))*100
def method(levels='lloyd', granularity='row', coding='none', keep=()):
    return MethodConfig(levels=levels, granularity=granularity, scope='matrices', levels_dtype='float16', float_dtype='float16', coding=coding, keep=keep)
base = method()
names = sorted(matrices(empty_network(config)))
hs = observed('digits', net, config.flow, (pts.x, pts.t, pts.condition), set(names))
def run(m, bits, sequential=True, comp=True, damping=.01):
    sel = sorted(selected(weights, config, m))
    t=time.time()
    if comp:
        c = compensate_weights('digits', weights, config, m, dict.fromkeys(sel, bits), CompensationConfig(sequential=sequential, damping=damping), hs)
    else:
        c = quantize_weights(weights, m, dict.fromkeys(sel, bits))
    q = {n:b for n,b in c.items() if isinstance(b, Codebook)}
    return c, dict(levels=m.levels, gran=m.granularity, coding=m.coding, bits=bits, comp=comp, seq=sequential, err=round(err(c),4), eff=round(effective_bits(c),4), matrix_bits=round(stored_bits(q)/sum(b.count for b in q.values()),4) if q else None, kb=round(stored_bits(c)/8000,2), nq=len(q), s=round(time.time()-t,1))
if __name__=='__main__':
    print({n: tuple(weights[n].shape) for n in names})
    for lv,g,b,co in [('lloyd','row',2,'none'),('lloyd','row',3,'none'),('lloyd','tensor',2,'none'),('lloyd','scaled',2,'none'),('lloyd','scaled',3,'none'),('lloyd','scaled',3,'ans'),('lloyd','scaled',4,'ans'),('vector:2','scaled',2,'none'),('vector:2','scaled',3,'none'),('vector:4','scaled',1,'none'),('vector:4','scaled',2,'none'),('lloyd','row',1,'none'),('lloyd','scaled',1,'none')]:
        for comp in (False, True):
            try:
                _, r = run(method(lv,g,co), b, comp=comp)
                print(r, flush=True)
            except Exception as e:
                print(lv,g,b,type(e),e, flush=True)
