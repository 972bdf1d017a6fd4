import sys, math, torch, functools
sys.path.insert(0,'workflow')
from pathlib import Path
from flowquant.quantization.variant import load_variant
from flowquant.models.path import initial_noise
from flowquant.models.transformer import EncoderLayer
torch.set_num_threads(2)
net, config = load_variant(Path('refined-3.safetensors')); net.eval()
for p in net.parameters(): p.requires_grad_(False)
E=torch.float8_e4m3fn; L=448.
def scale(m): return 2.0**math.ceil(math.log2(m/L)) if m>0 else 1.
def q(x,s): return (x/s).clamp(-L,L).to(E).to(x.dtype)*s
layers=[m for m in net.modules() if isinstance(m,EncoderLayer)]
parts={}
for i,l in enumerate(layers):
    parts[i]=[(l.self_attn,'in_proj_weight'),(l.self_attn.out_proj,'weight'),(l.linear1,'weight'),(l.linear2,'weight')]
N=32; noise=initial_noise(config.flow,0,range(N),(1,28,28)); y=torch.arange(N)%10
print(type(net), config.flow)
import inspect
from flowquant.sampling.sampler import Sampler
from flowquant.config.sampling import SolverConfig
from flowquant.models.path import velocity
N,S=16,10
noise=initial_noise(config.flow,0,range(N),(1,28,28)); y=torch.arange(N)%10
pts=[]; x=noise.clone()
mx=[[0.]*4 for _ in layers]
def mods(l): return [l.self_attn,l.self_attn.out_proj,l.linear1,l.linear2]
hs=[]
for i,l in enumerate(layers):
    for j,m in enumerate(mods(l)):
        def pre(m,inp,i=i,j=j): mx[i][j]=max(mx[i][j],inp[0].abs().max().item())
        hs.append(m.register_forward_pre_hook(pre))
with torch.no_grad():
    for s in range(S):
        t=torch.full((N,),s/S); v=velocity(net,config.flow,x,t,y); pts.append((x,t,v)); x=x+v/S
for h in hs: h.remove()
orig={k:v.clone() for k,v in net.state_dict().items()}
wname=[('self_attn.in_proj_weight'),('self_attn.out_proj.weight'),('linear1.weight'),('linear2.weight')]
def wt(l,j): return [l.self_attn.in_proj_weight,l.self_attn.out_proj.weight,l.linear1.weight,l.linear2.weight][j]
@torch.no_grad()
def run(which, weights=True, acts=True, qw=None, qx=None):
    hs=[]
    for i,l in enumerate(layers):
        for j,m in enumerate(mods(l)):
            if not which(i,j): continue
            if weights:
                w=wt(l,j); w.copy_((qw or (lambda w: q(w,scale(w.abs().max().item()))))(w))
            if acts:
                s=scale(2*mx[i][j])
                hs.append(m.register_forward_pre_hook(lambda m,inp,s=s: (q(inp[0],s),)))
    e=0;n=0
    for x,t,v in pts:
        u=velocity(net,config.flow,x,t,y); e+=((u-v)**2).sum().item(); n+=(v**2).sum().item()
    for h in hs: h.remove()
    net.load_state_dict(orig)
    return 100*e/n
if __name__=='__main__':
    print('all', run(lambda i,j:True), flush=True)
    print('weights', run(lambda i,j:True,acts=False), flush=True)
    print('acts', run(lambda i,j:True,weights=False), flush=True)
    for j in range(4): print('only part', j, run(lambda i,k:k==j), 'acts', run(lambda i,k:k==j,weights=False), flush=True)
    for i in range(10): print('only layer', i, run(lambda k,j:k==i), flush=True)
