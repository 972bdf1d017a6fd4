import csv, statistics as st
S='results/h200/fmnist_seeds'
rows={(r['extractor'],r['variant']):r for r in csv.DictReader(open(f'{S}/training_seeds.csv'))}
size={}
for r in csv.DictReader(open(f'{S}/results.csv')):
    if r['metric'] in('bytes','counted_bytes','effective_bits'): size.setdefault(r['variant'],{}).setdefault(r['metric'],{})[r['training_seed']]=float(r['value'])
def val(v,what):
    d=size[v].get(what) or size[v]['counted_bytes']; return st.mean(d.values())
names=[('priced-4/6bit','`priced-4`'),('compensated/4bit','`compensated`, 4 bits'),('priced-3/6bit','`priced-3`'),('priced-2/5bit','`priced-2`'),('refined-3/3bit','`refined-3`'),('refined, 2 bits','`refined-2-levels`; seed 2: `refined-2-small`'),('refined-1/1bit','`refined-1`'),('ot/8bit','`ot`, 8 bits'),('uniform/8bit','`uniform`, 8 bits'),('ot/4bit','`ot`, 4 bits'),('uniform/4bit','`uniform`, 4 bits'),('ot/2bit','`ot`, 2 bits'),('uniform/2bit','`uniform`, 2 bits'),
('sdnq-svd/4bit','SDNQ, rank 32, 4 bits'),('sdnq/4bit','SDNQ, 4 bits'),('hqq/4bit','HQQ, 4 bits'),('torchao/4bit','torchao, 4 bits'),('quanto/4bit','quanto, 4 bits'),('sdnq-svd/3bit','SDNQ, rank 32, 3 bits'),('sdnq/3bit','SDNQ, 3 bits'),('hqq/3bit','HQQ, 3 bits'),('torchao/3bit','torchao, 3 bits'),('sdnq-svd/2bit','SDNQ, rank 32, 2 bits'),('sdnq/2bit','SDNQ, 2 bits'),('hqq/2bit','HQQ, 2 bits'),('torchao/2bit','torchao, 2 bits'),('quanto/2bit','quanto, 2 bits')]
def num(x): x=float(x); return f'{x:.3f}' if x<2 else f'{x:.2f}' if x<10 else f'{x:.0f}'
def signed(x): x=float(x); return f'{x:+.2f}'.replace('-','−')
def cell(r): return ', '.join(num(r[f'ratio_{s}']) if r[f'ratio_{s}'] else '–' for s in range(3))
def diff(r): return f"{signed(r['difference'])} [{signed(r['low'])}, {signed(r['high'])}]" if r['low'] else ''
print('| | bits a weight | file bytes | ÷ full: seed 0, 1, 2 | difference [95 %] | EfficientNet’s ÷ full | difference [95 %] |')
print('|:--|--:|--:|:--|--:|:--|--:|')
for v,n in names:
    k='refined-2-levels/2bit' if v.startswith('refined,') else v
    c,e=rows['classifier',v],rows['efficientnet-lite0',v]
    print(f"| {n} | {val(k,'effective_bits'):.2f} | {val(k,'bytes'):,.0f} | {cell(c)} | {diff(c)} | {cell(e)} | {diff(e)} |".replace('’',"'"))
