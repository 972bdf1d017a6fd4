import importlib.metadata as m, re, sys
have=set(x.lower().replace('_','-') for x in """absl-py accelerate aiofiles anyio attrs certifi charset-normalizer click cloudpickle colorama contourpy cycler einops filelock fonttools fsspec h11 httpcore httpx huggingface-hub humanize idna imageio iniconfig jinja2 joblib kiwisolver lazy-loader lxml markdown markdown-it-py markupsafe matplotlib mdurl mpmath networkx numpy packaging pandas pillow pluggy portalocker psutil pyarrow pygments pyparsing python-dateutil pyyaml requests rich safetensors scikit-image scikit-learn scipy setuptools six sympy tabulate threadpoolctl tifffile timm torch torchdiffeq torchvision tqdm triton typing-extensions urllib3 wrapt zipp regex""".split())
need={}
todo=["snakemake","tyro","pot","pydantic","torch-fidelity","itables"]
while todo:
    n=todo.pop(); k=n.lower().replace('_','-')
    if k in need or k in have: continue
    try: d=m.distribution(n)
    except Exception as e: print("missing",n,file=sys.stderr); continue
    need[k]=d.version
    for r in d.requires or []:
        if 'extra ==' in r: continue
        mm=re.match(r"[A-Za-z0-9_.-]+",r)
        from packaging.requirements import Requirement
        q=Requirement(r)
        if q.marker and not q.marker.evaluate(): continue
        todo.append(q.name)
print(*(f"{k}=={v}" for k,v in need.items()))
