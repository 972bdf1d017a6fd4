exec(open('err.py').read().split("if __name__")[0])
mean=[[0,0,0,0] for _ in layers]; cnt=[[0]*4 for _ in layers]; sq=[[0,0,0,0] for _ in layers]; mabs=[[0]*4 for _ in layers]
hs=[]
for i,l in enumerate(layers):
    for j,m in enumerate(mods(l)):
        def pre(m,inp,i=i,j=j):
            x=inp[0].flatten(0,-2); mean[i][j]=mean[i][j]+x.sum(0); sq[i][j]=sq[i][j]+(x**2).sum(0); cnt[i][j]+=len(x)
        hs.append(m.register_forward_pre_hook(pre))
with torch.no_grad():
    for x,t,v in pts: velocity(net,config.flow,x,t,y)
for h in hs: h.remove()
for i in range(10):
    for j in range(4):
        mean[i][j]=mean[i][j]/cnt[i][j]; s=sq[i][j]/cnt[i][j]
        var=s-mean[i][j]**2
        # weighted by column norms of weights
        wn=(wt(layers[i],j)**2).sum(0)
        if i in (0,1,5,9): print(i,j,'mean² share %.2f'%((mean[i][j]**2).sum()/s.sum()), 'weighted %.2f'%((wn*mean[i][j]**2).sum()/(wn*s).sum()), 'largest %.1f rms %.3f'%(mx[i][j], s.mean().sqrt()), 'channel max share %.2f'%(s.max()/s.sum()))
@torch.no_grad()
def shifted(parts, mant=None):
    hs=[]
    for i,l in enumerate(layers):
        for j,m in enumerate(mods(l)):
            s=scale(2*mx[i][j]); mu=mean[i][j] if j in parts else 0
            hs.append(m.register_forward_pre_hook(lambda m,inp,s=s,mu=mu: (q(inp[0]-mu,s)+mu,)))
    e=n=0
    for x,t,v in pts:
        u=velocity(net,config.flow,x,t,y); e+=((u-v)**2).sum().item(); n+=(v**2).sum().item()
    for h in hs: h.remove()
    return 100*e/n
print('acts', shifted(()), flush=True); print('shift 2', shifted((2,)), flush=True); print('shift 0 2', shifted((0,2)), flush=True); print('all', shifted((0,1,2,3)), flush=True)
