exec(open('err.py').read().split("if __name__")[0])
import torch.nn.functional as F
X=[[] for _ in layers]
hs=[]
for i,l in enumerate(layers):
    def pre(m,inp,i=i): X[i].append(inp[0].flatten(0,-2).clone())
    hs.append(l.linear1.register_forward_pre_hook(pre))
with torch.no_grad():
    for x,t,v in pts: velocity(net,config.flow,x,t,y)
for h in hs: h.remove()
Q=lambda w:q(w,scale(w.abs().max().item()))
for i in range(10):
    l=layers[i]; x=torch.cat(X[i]); s2=scale(2*mx[i][2]); s3=scale(2*mx[i][3]); w1,w2,b1,b2=[p.detach() for p in (l.linear1.weight,l.linear2.weight,l.linear1.bias,l.linear2.bias)]
    z=x@w1.T+b1; h=F.relu(z); yy=h@w2.T+b2
    def err(y2):
        e=y2-yy; return '%.4f/%.4f'%(100*(e**2).sum().item()/(yy**2).sum().item(), 100*((e-e.mean(0))**2).sum().item()/(yy**2).sum().item())
    x8=q(x,s2)
    A=(z>0).float(); cond=(A.T@x)/A.sum(0).clamp(min=1)[:,None]; bc=((w1-Q(w1))*cond).sum(1)
    print(i,'active %.2f'%A.mean(), 'x8',err(F.relu(x8@w1.T+b1)@w2.T+b2),'w1',err(F.relu(x@Q(w1).T+b1)@w2.T+b2),'w1 cond',err(F.relu(x@Q(w1).T+b1+bc)@w2.T+b2),'w1 mean',err(F.relu(x@Q(w1).T+b1+(w1-Q(w1))@x.mean(0))@w2.T+b2),'w2',err(h@Q(w2).T+b2),'all',err(q(F.relu(x8@Q(w1).T+b1),s3)@Q(w2).T+b2),'all cond',err(q(F.relu(x8@Q(w1).T+b1+bc),s3)@Q(w2).T+b2), flush=True)
