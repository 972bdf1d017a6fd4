import sys, time, itertools
sys.path.insert(0,'.')
import torch
torch.set_num_threads(1)
from measure import *
from flowquant.training import optimization, matching
from flowquant.training.refinement import Refinement
from flowquant.config.refinement import RefineConfig
from flowquant.runtime import random
m = method()
sel = sorted(selected(weights, config, m))
torch.manual_seed(2)
BITS=int(sys.argv[1]); STEPS=int(sys.argv[2])
cont = compensate_weights('digits', weights, config, m, dict.fromkeys(sel, BITS), CompensationConfig(), hs)
print('start', round(err(cont),4), flush=True)
def go(lr, vlr, rise=.3, b2=.999, batch=128, damp=.001, steps=STEPS):
    def cyc(peak, step, n):
        import math
        r=max(1.0, rise*n)
        if step<r: return peak*(1/25+(1-1/25)*.5*(1-math.cos(math.pi*step/r)))
        return peak*.5*(1+math.cos(math.pi*(step-r)/max(1.0,n-r)))
    matching.one_cycle = cyc
    c = RefineConfig(steps=steps, batch=batch, assignments='trained', learning_rate=lr, value_learning_rate=vlr, damping=damp)
    job = Refinement({n:t.clone() for n,t in weights.items()}, cont, config, c, train, torch.device('cpu'), 0.0, from_levels=True)
    for g in job.optimizer.param_groups: g['betas']=(.9,b2)
    from tqdm import tqdm
    t=time.time(); job.run(tqdm(disable=True), lambda: None)
    return round(err(job.result()),4), round(time.time()-t,1)
for kw in eval(sys.argv[3]):
    print(kw, go(**kw), flush=True)
