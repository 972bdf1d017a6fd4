import torch, yaml, time
from flowquant.config.reading import check, merged, read_yaml
from pathlib import Path
from flowquant.config.method import MethodConfig
from flowquant.models.model import empty_network
from flowquant.quantization.apply import quantize_weights, selected, quantize_embedders
from flowquant.quantization.codebook import effective_bits, Codebook, stored_bits
import inspect
from flowquant.config.run import Run
run = Run.read({}, Path('/work/main'), (), None)
preset = run.presets['fmnist']
from flowquant.config.model import ModelConfig
import dataclasses
kw = {f.name: getattr(preset, f.name) for f in dataclasses.fields(ModelConfig)}
config = ModelConfig(**kw)
net = empty_network(config)
torch.manual_seed(0)
weights = {n: torch.randn(p.shape)*.05 for n, p in net.state_dict().items()}
print(sum(w.numel() for w in weights.values()))
for lv, bits in [('entropy:0.115',5),('entropy:0.14',5),('entropy:0.45',4),('entropy:0.64',4),('lloyd',2)]:
    m = MethodConfig(levels=lv, granularity='scaled', scope='matrices', levels_dtype='float16', float_dtype='float16', coding='ans', embedders=8)
    sel = sorted(selected(weights, config, m))
    t=time.time()
    c = quantize_weights(weights, m, dict.fromkeys(sel, bits))
    try: c = c | quantize_embedders(c, config, m)
    except Exception as e: print(e, inspect.signature(quantize_embedders))
    books = {n:b for n,b in c.items() if isinstance(b,Codebook)}
    print(lv, bits, 'eff %.4f'%effective_bits(c), 'index bits of sel %.4f'%(stored_bits({n:books[n] for n in sel})/sum(books[n].count for n in sel)), 's', round(time.time()-t), flush=True)
