import csv, glob, os, shutil, statistics as st, json
from scipy.stats import t as T
H='results/h200'; S=f'{H}/fmnist_seeds'
def load(p): return list(csv.DictReader(open(p)))
def seconds(root, out):
    rows=[]
    for f in sorted(glob.glob(f'{root}/results/frontier/benchmarks/**/*.tsv', recursive=True)):
        name=f.split('/benchmarks/')[1][:-4]
        rows.append((name, float(open(f).read().split('\n')[1].split('\t')[0])))
    with open(out,'w',newline='') as g:
        w=csv.writer(g); w.writerow(['job','seconds']); w.writerows((n,f'{s:.2f}') for n,s in rows)
def copy(src,dst):
    os.makedirs(os.path.dirname(dst),exist_ok=True); shutil.copyfile(src,dst)
# seed 0
o=f'{S}/seed0'
for f in ('comparisons.csv','comparisons.md','summary.csv','summary.md'): copy(f'/tmp/t/seed0/{f}',f'{o}/{f}')
copy('/tmp/t/seed0/plots/fid.png',f'{o}/plots/fmnist_fid.png')
q='/tmp/r/A0/results/frontier/'
copy(q+'models/fmnist_training.jsonl',f'{o}/training.jsonl')
copy(q+'quantized_models/fmnist/refined-1/1bit_refinement.jsonl',f'{o}/refined-1.jsonl')
copy(q+'quantized_models/fmnist/refined-2-levels/2bit_refinement.jsonl',f'{o}/refined-2-levels.jsonl')
seconds('/tmp/r/A0',f'{o}/seconds.csv')
# peers of seed 1
for f in ('comparisons.csv','comparisons.md','summary.csv','summary.md'): copy(f'/tmp/t/seed1/{f}',f'{S}/seed1/peers/{f}')
# results.csv
res=load(f'{S}/results.csv'); head=list(res[0])
res=[r for r in res if r['training_seed']!='0']
peers1=[r for r in load('/tmp/t/seed1/results.csv') if r['variant'] not in ('full','real')]
have={(r['variant'],r['training_seed']) for r in res}
res+= [r for r in peers1 if (r['variant'],r['training_seed']) not in have]
res+=[r for r in load('/tmp/t/seed0/results.csv') if r['variant']!='real']
# refined-3 of seed 0: another run of the same network
old=load(f'{H}/fmnist_retrained/results.csv'); 
print(old[0].keys()==res[0].keys(), {r['training_seed'] for r in old})
with open(f'{S}/results.csv','w',newline='') as g:
    w=csv.DictWriter(g,head); w.writeheader(); w.writerows(res)
r3=[r for r in old if r['variant']=='refined-3/3bit' and r['metric']=='fid']
# training seeds together
fid={}
for r in res+[dict(r,training_seed='0') for r in r3]:
    if r['metric']=='fid' and r['training_seed']!='': fid.setdefault((r['extractor'],r['variant'],int(r['training_seed'])),{})[r['sampling_seed']]=float(r['value'])
out=[]
for x in ('classifier','efficientnet-lite0'):
    variants=sorted({v for e,v,_ in fid if e==x and v!='full'})
    for v in variants+['refined, 2 bits']:
        names={0:'refined-2-levels/2bit',1:'refined-2-levels/2bit',2:'refined-2-small/2bit'} if v=='refined, 2 bits' else dict.fromkeys(range(3),v)
        row={'extractor':x,'variant':v}; d=[];ra=[]
        for s in range(3):
            a=fid.get((x,names[s],s)); f=fid[x,'full',s]
            if not a: row[f'fid_{s}']=row[f'ratio_{s}']=''; continue
            m,b=st.mean(a.values()),st.mean(f[k] for k in a)
            row[f'fid_{s}']=m; row[f'ratio_{s}']=m/b; d.append(m-b); ra.append(m/b)
        row['training_seeds']=len(d)
        row['difference']=st.mean(d)
        if len(d)>2:
            h=T.ppf(.975,len(d)-1)*st.stdev(d)/len(d)**.5; row['low'],row['high']=row['difference']-h,row['difference']+h
        row['ratio']=st.mean(ra); out.append(row)
cols=['extractor','variant','training_seeds']+[f'{a}_{s}' for a in('fid','ratio') for s in range(3)]+['ratio','difference','low','high']
with open(f'{S}/training_seeds.csv','w',newline='') as g:
    w=csv.DictWriter(g,cols); w.writeheader()
    for r in out: w.writerow({k:(f'{v:.4f}' if isinstance(v,float) else v) for k,v in r.items()})
for r in out: print(r['extractor'][:5],r['variant'],[r.get(f'ratio_{s}') and round(r[f'ratio_{s}'],3) for s in range(3)],'mean %.3f'%r['ratio'],'diff %.2f'%r['difference'],*(['[%.2f, %.2f]'%(r['low'],r['high'])] if 'low' in r else []))
# MNIST
o=f'{H}/mnist_frontier'
for f in ('comparisons.csv','comparisons.md','summary.csv','summary.md','results.csv'): copy(f'/tmp/t/mnist/{f}',f'{o}/{f}')
copy('/tmp/t/mnist/plots/fid.png',f'{o}/plots/mnist_fid.png'); copy('/tmp/t/mnist/plots/fid_bits.png',f'{o}/plots/mnist_fid_bits.png')
q='/tmp/r/A3/results/frontier/'
copy(q+'models/mnist_training.jsonl',f'{o}/training.jsonl'); copy(q+'quantized_models/mnist/refined-1/1bit_refinement.jsonl',f'{o}/refined-1.jsonl'); copy(q+'quantized_models/mnist/refined-2-levels/2bit_refinement.jsonl',f'{o}/refined-2-levels.jsonl'); seconds('/tmp/r/A3',f'{o}/seconds.csv')
