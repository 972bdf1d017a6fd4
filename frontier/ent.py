import sys; sys.path.insert(0,'frontier')
from measure import *
for spec in sys.argv[1:]:
    lv,b,comp=spec.split(','); b=int(b)
    try:
        _, r = run(method(lv,'scaled','ans'), b, comp=comp=='1'); print(r, flush=True)
    except Exception as e: print(spec,type(e),e,flush=True)
