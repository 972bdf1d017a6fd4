import sys; sys.path.insert(0,'.')
from measure import *
from flowquant.config.refinement import RefineConfig
from flowquant.training.refinement import Refinement
from tqdm import tqdm
import pickle, os
dev=torch.device('cpu')
def start(bits, levels='lloyd'):
    p=f'start_{levels.replace(":","")}_{bits}.pkl'
    if os.path.exists(p): return pickle.load(open(p,'rb'))
    m=method(levels,'scaled','ans', keep=('patch_proj.weight','out_proj.weight') if levels!='lloyd' else ())
    c,r=run(m,bits); print('start',r,flush=True)
    pickle.dump(c,open(p,'wb')); return c
for spec in sys.argv[1:]:
    levels,bits,price,steps=spec.split(','); bits=float(bits); price=float(price)
    bits=int(bits) if bits==int(bits) else bits
    c=start(bits,levels)
    cfg=RefineConfig(steps=int(steps),batch=64,learning_rate=1e-3,value_learning_rate=5e-4,assignments='trained',price=price)
    full={n:t.clone() for n,t in weights.items()}
    job=Refinement(full,{n:c[n] for n in c},config,cfg,train,dev,0.1,from_levels=True)
    t=time.time()
    job.run(tqdm(disable=True),lambda:None)
    q=job.result()
    books={n:b for n,b in q.items() if isinstance(b,Codebook)}
    print(dict(levels=levels,bits=bits,price=price,steps=steps,err=round(err(q),4),matrix_bits=round(stored_bits(books)/sum(b.count for b in books.values()),4),kb=round(stored_bits(q)/8000,2),nq=len(books),s=round(time.time()-t)),flush=True)
