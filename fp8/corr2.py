src=open('corr.py').read().split("for name,c,sh")[0]
exec(src)
def setup3(corr, shift=()):
    net.load_state_dict(orig); hs=[]
    for i,l in enumerate(layers):
        for j,m in enumerate(mods(l)):
            w=wt(l,j); w0=w.detach().clone(); w8=q(w0,scale(w0.abs().max().item())); w.data.copy_(w8); s=scale(2*mx[i][j])
            mu=mean[i][j]/cnt[i][j]
            if j in corr: bias(l,j).data.add_((w0-w8)@mu)
            sh=mu if j in shift else 0
            hs.append(m.register_forward_pre_hook(lambda m,inp,s=s,sh=sh: (q(inp[0]-sh,s)+sh,)))
    return hs
for name,c,sh in (('plain',(),()),('corrected 3',(3,),()),('corrected 0 1 3',(0,1,3),()),('and shifted 2',(0,1,3),(2,)), ('and shifted 0 2',(0,1,3),(0,2))):
    hs=setup3(c,sh); x8=sample(); d=(x8-base)
    print(name,'psnr', 10*math.log10(4/(d**2).mean().item()), 'bias', d.mean().item(), 'mean image err %.2e'%(d.mean(0)**2).mean().item(), 'of %.2e'%(d**2).mean().item(), 'verr', verr(), flush=True)
    for h in hs: h.remove()
