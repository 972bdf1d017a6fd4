import sys, time, math
sys.path.insert(0, 'frontier'); sys.path.insert(0, '.')
import torch
torch.set_num_threads(1)
from measure import *
from flowquant.training import matching
from flowquant.training.refinement import Refinement
from flowquant.config.refinement import RefineConfig
from flowquant.quantization.codebook import chosen_levels
from tqdm import tqdm
import pickle, os
BITS, STEPS, BATCH = int(sys.argv[1]), int(sys.argv[2]), 128
m = method('lloyd', 'scaled', 'ans')
sel = sorted(selected(weights, config, m))
P = f'one_{BITS}.pkl'
if not os.path.exists(P):
    c0 = compensate_weights('digits', weights, config, m, dict.fromkeys(sel, BITS), CompensationConfig(), hs)
    pickle.dump(c0, open(P, 'wb'))
cont = pickle.load(open(P, 'rb'))
print('start', round(err(cont), 4), flush=True)
def fresh():
    return {n: t.clone() for n, t in weights.items()}
def job_of(lr, vlr, cls=Refinement, **kw):
    c = RefineConfig(steps=STEPS, batch=BATCH, assignments='trained', learning_rate=lr, value_learning_rate=vlr, **kw)
    return cls(fresh(), cont, config, c, train, torch.device('cpu'), 0.0, from_levels=True)
def finish(job):
    t = time.time(); job.run(tqdm(disable=True), lambda: None)
    return round(err(job.result()), 4), round(time.time() - t)
class PV(Refinement):
    """Values stand on their levels; each step the share tau with the largest Adam updates moves."""
    tau = .01; boost = 1.0
    def _update(self):
        T = self.trainable
        with torch.no_grad():
            w = T.expand(); now = [t.clone() for t in T._taken]
            for v, n in zip(T.values, now): v.copy_(n)
        found, target = self._compare()
        loss = (found - target).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._total += loss.detach()
        self.optimizer.step()
        with torch.no_grad():
            for v, n in zip(T.values, now):
                d = (v - n) * self.boost
                k = max(1, int(self.tau * d.numel()))
                cut = d.abs().flatten().kthvalue(d.numel() - k).values
                v.copy_(torch.where(d.abs() > cut, n + d, n))
class LowRank(Refinement):
    rank, phases = 32, 4
    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        self.pairs = {}
        q = expand_all(cont)
        for members in self.trainable.members:
            for mem in members:
                w = weights[mem.name].flatten(1); r = min(self.rank, min(w.shape))
                U, S, V = torch.linalg.svd(w - q[mem.name].flatten(1), full_matrices=False)
                s = S[:r].sqrt()
                self.pairs[mem.name] = [(U[:, :r] * s).requires_grad_(), (V[:r] * s[:, None]).requires_grad_()]
        self.opt2 = torch.optim.Adam([t for p in self.pairs.values() for t in p], lr=1e-3)
        self.phase = -1
    def gamma(self):
        whole = STEPS * .75 / self.phases; p = int(self.steps_done / whole)
        return p, .5 * (1 + math.cos(math.pi * (self.steps_done / whole - p)))
    def _student(self):
        from torch.func import functional_call
        held = self.trainable.expand() | self.floats
        p, g = self.gamma()
        if p != self.phase and p < self.phases:
            self.phase = p
            with torch.no_grad():
                for n, (a, b) in self.pairs.items():
                    U, S, V = torch.linalg.svd(a @ b, full_matrices=False); r = a.shape[1]; s = S[:r].sqrt()
                    a.copy_(U[:, :r] * s); b.copy_(V[:r] * s[:, None])
        if p < self.phases:
            for n, (a, b) in self.pairs.items():
                r = a.shape[1] >> p; low = 0 if p == self.phases - 1 else r // 2
                keep = torch.ones(a.shape[1]); keep[low:r] = g; keep[r:] = 0
                held[n] = held[n] + ((a * keep) @ b).view_as(held[n])
        def network(*i, **k): return functional_call(self.student, held, i, k)
        return network
    def _update(self):
        self.opt2.zero_grad()
        super()._update()
        if self.gamma()[0] < self.phases: self.opt2.step()
for arm in sys.argv[3:]:
    name, *args = arm.split(','); args = list(map(float, args))
    if name == 'ste': j = job_of(*args[:2], damping=args[2] if len(args) > 2 else .001)
    if name == 'pv':
        j = job_of(args[0], args[1], PV, damping=0.0); j.tau = args[2]; j.boost = args[3]
    if name == 'lr':
        j = job_of(args[0], args[1], LowRank)
    print(arm, finish(j), flush=True)
