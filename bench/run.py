"""Side by side with fastai: `python bench/run.py [ROW ...] [--quick] [--json] [--processor NAME]`

A row is a module of this folder. `fastai(**case)`, `ours(**case)` (what a user gets who asks for nothing) and whatever
begins with `ours_` each prepare some work and give it with the number of units that it does; `limit(machine, **case)`
says how many units a second this machine could do at best; `same()` fails where the two sides do not compute the same.
Each measurement is a process of its own, the sides in turn, and the table holds medians. A row whose cases cannot be
measured one by one has `together(side)`, which gives the measurements of all of them and what else is worth keeping.
Full runs are kept in `bench/results/`, those of a second processor in a folder of its own there."""
import argparse, importlib, json, math, os, statistics, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

here = Path(__file__).parent
kept = 'rate', 'seconds', 'peak_mb', 'added_mb', 'accuracy'   # of each measurement
rows = 'tokenization', 'batches', 'train_step', 'frozen', 'batch_inference', 'one_review', 'generation', 'few_labels', 'estimator', 'start'
gpu_rows = 'gpu_step',
opt_in_rows = 'minilm',   # of packages that the course does not need: run if they are named

def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start

def measure(
    row,  # name of the row
    side, # `fastai`, `ours`, ...
    case, # what to do, as the side takes it
):
    "Units a second and memory of one side, in this process"
    from ulmfit_course.core import peak_rss_mb
    module = importlib.import_module(row)
    work, units = getattr(module, side)(**case)
    before = peak_rss_mb()
    if getattr(module, 'warm_up', True): work()
    took, peak, more = seconds(work), peak_rss_mb(), getattr(module, 'measured', {})
    return dict(rate=units/took, seconds=took, peak_mb=peak, added_mb=peak-before) | (more() if callable(more) else more)

def measure_each(row, side, cases): return [measure(row, side, case) for case in cases]

def in_torch(kind, rows, times):
    "Operations a second: `rows` vectors of 512 numbers times a matrix as of an LSTM of `wiki-small`, in a type of torch"
    import torch
    x, w = torch.randn(rows, 512).to(kind), torch.randn(2048, 512).to(kind)
    return 2*x.numel()*2048*times/least(lambda: [x @ w.t() for _ in range(times)])

def in_int8(rows, times):
    "The same in whole numbers, by ONNX Runtime"
    import numpy as np, onnxruntime, torch
    from onnx import TensorProto as T
    from ulmfit_course.onnx_graph import OnnxGraph
    rng, graph, options = np.random.default_rng(0), OnnxGraph(), onnxruntime.SessionOptions()
    x, w = rng.integers(0, 255, (rows, 512), dtype=np.uint8), graph.const(rng.integers(-127, 128, (512, 2048), dtype=np.int8))
    outs = {f'out{k}': (graph('MatMulInteger', 'x', w), T.INT32, (rows, 2048)) for k in range(times)}
    options.intra_op_num_threads = torch.get_num_threads()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL   # else it multiplies once
    session = onnxruntime.InferenceSession(graph.model([('x', T.UINT8, x.shape)], outs).SerializeToString(), options, providers=['CPUExecutionProvider'])
    return 2*x.size*2048*times/least(lambda: session.run(None, dict(x=x)))

def least(work, n=7): return min(seconds(work) for _ in range(n))

def machine():
    "What this machine can do: the best of several runs, on as many threads as torch takes; what it has no instructions for is left out"
    import numpy as np, torch
    from ulmfit_course.core import processor
    from ulmfit_course.training import bf16_available
    kinds = dict(float32=torch.float32) | (dict(bf16=torch.bfloat16) if bf16_available('cpu') else {})
    can = {name: lambda *size, kind=kind: in_torch(kind, *size) for name,kind in kinds.items()} | dict(int8=in_int8)
    big, chunks = np.zeros(2**28, dtype=np.uint8), [f'word{i % 5000}' for i in range(500_000)]
    known = {c: 1 for c in chunks}
    return {'processor': processor(), 'threads': torch.get_num_threads(), **{f'{name}, operations/s': of(8192, 1) for name,of in can.items()},
            **{f'{name}, one vector, operations/s': of(1, 64) for name,of in can.items()}, 'memory, bytes/s': 2*big.nbytes/least(lambda: big.copy()),
            'dictionary lookups/s': len(chunks)/least(lambda: [known[c] for c in chunks]), 'python starts/s': 1/least(lambda: subprocess.run([sys.executable, '-c', 'pass']), 5)}

def in_process(what, **args):
    "`what` of this file in a fresh process"
    done = subprocess.run([sys.executable, __file__, '--child', json.dumps([what, args])], capture_output=True, text=True)
    if done.returncode: raise SystemExit(f"{what} {args} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])

def call(row, function, kw): return getattr(importlib.import_module(row), function)(**kw)

def middle(values): return dict(median=statistics.median(values), least=min(values), most=max(values))

def compare(name, module, case, rounds, can):
    "One case of a row: fastai and ours in turn, so many times, and the other ways of ours once"
    one = lambda side: in_process('measure', row=name, side=side, case=case)
    runs = [{side: one(side) for side in ('fastai', 'ours')} for _ in range(rounds)]
    runs[0] |= {side: one(side) for side,f in vars(module).items() if side.startswith('ours_') and getattr(f, 'there', lambda: True)()}
    return compared(runs, module.limit(can, **case))

def compared(runs, limit):
    "The measurements of a case, of each run by side, in one table"
    of = lambda side, key: [r[side][key] for r in runs if side in r]
    found = {side: {key: middle(of(side, key)) for key in kept if key in runs[0][side]} for side in runs[0]}
    for side in found: found[side]['times fastai'] = middle([r[side]['rate']/r['fastai']['rate'] for r in runs if side in r])
    return dict(sides=found, memory=middle([r['ours']['added_mb']/max(r['fastai']['added_mb'], 1) for r in runs]), limit=limit)

def slope(sizes, values):
    "Exponent of growth: 0 constant, 1 in proportion"
    x, y = [math.log(s) for s in sizes], [math.log(max(v, 1e-9)) for v in values]
    mx, my = statistics.mean(x), statistics.mean(y)
    return sum((a-mx)*(b-my) for a,b in zip(x, y))/sum((a-mx)**2 for a in x)

def grow(name, curve):
    "A measure of each side over the sizes of a curve; memory is measured in fresh processes"
    key, cases = curve['measures'].removesuffix('_each'), [curve['case'](s) for s in curve['sizes']]
    groups = [cases] if key == 'seconds' else [[c] for c in cases]
    values = {side: [m[key] for g in groups for m in in_process('measure_each', row=name, side=side, cases=g)] for side in ('fastai', 'ours')}
    return dict(of=curve['of'], measures=curve['measures'], sizes=list(curve['sizes']), values=values, slope={k: slope(curve['sizes'], v) for k,v in values.items()})

def bench(name, quick, can):
    "All of one row"
    module = importlib.import_module(name)
    start, cases, more = time.perf_counter(), module.quick if quick else module.cases, {}
    if cases and hasattr(module, 'together'):
        found, more['extra'] = module.together(lambda side, **kw: in_process('call', row=name, function=side, kw=kw))
        cases = {k: compared([found[k]], module.limit(can, **case)) for k,case in cases.items()}
    else: cases = {k: compare(name, module, case, 1 if quick else getattr(module, 'rounds', 2), can) for k,case in cases.items()}
    metrics = dict(title=module.__doc__, unit=module.unit, target=module.target, machine=can, cases=cases, **more)
    if not quick and hasattr(module, 'curve'): metrics['curve'] = grow(name, module.curve)
    if not quick and hasattr(module, 'extra'): metrics['extra'] = in_process('call', row=name, function='extra', kw={})
    return dict(config=dict(row=name, quick=quick, command=f"ulmfit-course bench {name}{' --quick' if quick else ''}"), metrics=metrics, seconds=time.perf_counter()-start)

def right(r, theirs): return f"  right: {theirs['accuracy']['median']:.1%}, {r['accuracy']['median']:.1%}" if 'accuracy' in r else ''

def lines(name, metrics):
    "The row as lines of a table"
    for case,found in metrics['cases'].items():
        for side,r in found['sides'].items():
            if side == 'fastai': continue
            theirs, times = found['sides']['fastai'], r['times fastai']
            goal = f"{metrics['target']} x" if metrics['target'] and side == 'ours' else ''
            yield f"{name:16}{case[:30]:31}{side:24}{theirs['rate']['median']:12,.1f}{r['rate']['median']:12,.1f} {metrics['unit']:10}{times['median']:7.2f} x {goal:6}{r['rate']['median']/found['limit']:6.0%}{found['memory']['median']:8.2f}{right(r, theirs)}"

def main():
    parser = argparse.ArgumentParser(prog='ulmfit-course bench', description='fastai and ours, side by side')
    parser.add_argument('rows', nargs='*', metavar='ROW', help=f"{', '.join(rows + gpu_rows + opt_in_rows)}; all but the last if not given")
    parser.add_argument('--quick', action='store_true', help='smaller, each once, nothing kept')
    parser.add_argument('--json', action='store_true', help='print JSON only')
    parser.add_argument('--processor', metavar='NAME', default='', help='keep the records in bench/results/NAME: those of another processor')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        what, kw = json.loads(args.child)
        return print(json.dumps(globals()[what](**kw)))
    if unknown := set(args.rows) - set(rows + gpu_rows + opt_in_rows): raise SystemExit(f"unknown row {min(unknown)!r}: choose from {', '.join(rows + gpu_rows + opt_in_rows)}")
    from ulmfit_course.core import save_run
    can, say = in_process('machine'), (lambda *o: None) if args.json else (lambda *o: print(*o, flush=True))
    say(f"{'row':16}{'case':31}{'side':24}{'fastai':>12}{'ours':>12} {'':10}{'ratio':>7}   {'goal':6}{'limit':>6}{'memory':>8}")
    names, runs = args.rows or [r for r in available() if not args.quick or importlib.import_module(r).quick], []
    with ThreadPoolExecutor(2) as pool: list(pool.map(lambda name: in_process('call', row=name, function='same', kw={}), names))
    for name in names:
        runs.append(bench(name, args.quick, can))
        for line in lines(name, runs[-1]['metrics']): say(line)
        if not args.quick: save_run(here/'results'/args.processor/f'{name}.json', seed=None, **runs[-1])
    if args.json: print(json.dumps(runs[0] if len(runs) == 1 else runs))

def available():
    "The rows that this machine can run"
    import torch
    return rows + gpu_rows if torch.cuda.is_available() else rows

sys.path.insert(0, str(here))
os.environ.setdefault('ULMFIT_COURSE_PROFILE', 'cpu')
if __name__ == '__main__': main()
