import sys; sys.path.insert(0,'.')
from measure import *
K=('patch_proj.weight','out_proj.weight')
for lv,g,b,comp in [('vector:2','scaled',2,True),('vector:4','scaled',1,True),('lloyd','scaled',1,True),('lloyd','row',1,True),('vector:8','scaled',0.5,True),('vector:4','scaled',1,False),('vector:8','scaled',0.5,False),('lloyd','scaled',2,True),('vector:2','scaled',1,True),('vector:2','scaled',3,True),('vector:4','scaled',2,True)]:
    try:
        _, r = run(method(lv,g,'none',K), b, comp=comp); print(r, flush=True)
    except Exception as e: print(lv,g,b,type(e),e,flush=True)
