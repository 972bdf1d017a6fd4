import sys, time, os, pickle
sys.path.insert(0,'frontier'); sys.path.insert(0,'.')
import torch; torch.set_num_threads(1)
from measure import *
from flowquant.training.refinement import Refinement
from flowquant.config.refinement import RefineConfig
from tqdm import tqdm
STEPS=int(sys.argv[1])
K=('patch_proj.weight','out_proj.weight')
for spec in sys.argv[2:]:
    lv,b,gran,lr,vlr,price=spec.split(','); b=float(b); b=int(b) if b==int(b) else b
    m=method(lv,gran,'ans', K)
    p=f'arm_{lv.replace(":","")}_{b}_{gran}.pkl'
    sel=sorted(selected(weights,config,m))
    c=compensate_weights('digits',weights,config,m,dict.fromkeys(sel,b),CompensationConfig(),hs)
    def bits(c):
        q={n:x for n,x in c.items() if isinstance(x,Codebook)}
        return round(stored_bits(q)/sum(x.count for x in q.values()),4)
    cfg=RefineConfig(steps=STEPS,batch=128,assignments='trained',learning_rate=float(lr),value_learning_rate=float(vlr),price=float(price))
    e0=err(c); b0=bits(c); t=time.process_time()
    job=Refinement({n:t.clone() for n,t in weights.items()},c,config,cfg,train,torch.device('cpu'),0.0,from_levels=True)
    job.run(tqdm(disable=True),lambda:None); q=job.result()
    print(spec,'start',round(e0,3),b0,'-> err',round(err(q),4),'matrix bits',bits(q),'s',round(time.process_time()-t),flush=True)
