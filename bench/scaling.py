"""Stage 1 with 1, 2 and 4 processes of this machine: `python bench/scaling.py [--quick]`

Each process has one thread, so that as many as there are cores are worth measuring; more than that show what sharing a
core costs. `rows of a process` keeps the work of each process the same, `rows in all` that of all together. A number is
the median of the steps after the first ones: tokens a second of all processes, efficiency against one process times
their number, seconds and bytes of a step by parameter, seconds from the command to the first step, and what a sum over
all processes takes by its size, from which a larger run can be reckoned. A full run goes to `bench/results/scaling.json`."""
import argparse, json, os, statistics, subprocess, sys, time
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here))
from common import small, stream_of

seq_len, counts = 70, (1, 2, 4)
full = dict(words=16_000, reviews=5000, steps=14, rounds=2, cfg=small, rows=32, num_sampled=2000)
quick = dict(words=2000, reviews=200, steps=6, rounds=1, cfg=dict(emb_sz=64, n_hid=96, n_layers=2), rows=8, num_sampled=200)
sizes = 2**10, 2**16, 2**20, 2**24   # bytes of a sum

def cases(size):
    "Name -> rows of each process, by the number of processes, and words of the softmax"
    rows, n = size['rows'], size['num_sampled']
    return {f'{rows} rows of a process, {n:,} words sampled': (lambda count: rows, n), f'{4*rows} rows in all, {n:,} words sampled': (lambda count: 4*rows//count, n),
            f'{rows} rows of a process, all words': (lambda count: rows, 0)}

def watch():
    "A callback that notes when each step ends, and of the last one the bytes"
    from fastai.callback.core import Callback
    from ulmfit_course.gradients import gradient_bytes
    class Watch(Callback):
        order = 70
        def before_fit(self): self.times, self.began = [], time.time()
        def before_step(self):
            if self.iter == self.n_iter-1: self.bytes = gradient_bytes(self.model)
        def after_batch(self):
            if self.training: self.times.append(time.perf_counter())
    return Watch()

def sums():
    "Seconds of a sum over all processes, by its bytes"
    import torch
    from torch import distributed
    def seconds(n):
        x = torch.zeros(n//4)
        distributed.barrier()
        start = time.perf_counter()
        for _ in range(5): distributed.all_reduce(x)
        return (time.perf_counter()-start)/5
    return {str(n): seconds(n) for n in sizes}

def child(size, rows, num_sampled, started):
    "The measurement in one of the processes; rank 0 prints it"
    from ulmfit_course.awd_lstm import language_model
    from ulmfit_course.core import peak_rss_mb, set_seed
    from ulmfit_course.ranks import n_ranks, rank, together
    from ulmfit_course.recipes import LMRecipe
    from ulmfit_course.training import lm_fit_learner, silent
    with together():
        set_seed()
        n, steps = n_ranks(), size['steps']
        stream = stream_of(size['reviews'], size['words'])[:rows*n*(seq_len*steps)+1]
        seen, recipe = watch(), LMRecipe(epochs=1, bs=rows, seq_len=seq_len, num_sampled=num_sampled)
        learn = lm_fit_learner(stream, stream[:20*seq_len], language_model(len(stream.vocab), size['cfg'], 0.), recipe, cbs=[seen])
        with silent(learn): learn.fit(1, 1e-3)
        gaps = [b-a for a,b in zip(seen.times, seen.times[1:])][2:]
        step, sent = statistics.median(gaps), getattr(learn, 'sent', None)
        found = dict(processes=n, rows=rows, step_seconds=step, tokens_per_second=rows*n*seq_len/step, start_seconds=seen.began-started,
                     gradient_bytes=sum(r['bytes'] for r in seen.bytes), touched_bytes=sum(r['touched'] for r in seen.bytes),
                     sent_bytes=round(sent.sent/len(seen.times)) if sent else 0, by_parameter=seen.bytes, peak_mb=peak_rss_mb(), sums=sums() if n > 1 else {})
        if rank() == 0: print(json.dumps(found), flush=True)

def measured(count, size, rows, num_sampled):
    "One run in processes of its own"
    words = [str(Path(__file__).resolve()), '--child', json.dumps([size, rows, num_sampled, time.time()])]
    command = [sys.executable, *([] if count == 1 else ['-m', 'torch.distributed.run', '--nproc_per_node', str(count)]), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | dict(OMP_NUM_THREADS='1'))
    if done.returncode: raise SystemExit(f'{count} processes failed:\n{done.stderr[-3000:]}')
    return json.loads(next(l for l in done.stdout.splitlines() if l.startswith('{')))

def quicker(runs): return max(runs, key=lambda r: r['tokens_per_second'])

def compared(size, rows, num_sampled, say):
    "One case with each number of processes; of some rounds, each through all numbers, the quickest run of each"
    rounds = [[measured(count, size, rows(count), num_sampled) for count in counts] for _ in range(size['rounds'])]
    found = [quicker(runs) for runs in zip(*rounds)]
    for r in found:
        r['efficiency'] = r['tokens_per_second']/(r['processes']*found[0]['tokens_per_second'])
        say(f"{r['processes']:3} processes {r['tokens_per_second']:10,.0f} tokens/s  efficiency {r['efficiency']:5.0%}  {r['step_seconds']:7.3f} s a step  "
            f"{r['sent_bytes']/2**20:6.2f} of {r['gradient_bytes']/2**20:.2f} MB sent  start {r['start_seconds']:5.1f} s")
    return found

def main():
    parser = argparse.ArgumentParser(description='Stage 1 with several processes')
    parser.add_argument('--quick', action='store_true', help='smaller, each once, nothing kept')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child: return child(*json.loads(a.child))
    from ulmfit_course.core import save_run
    size, start, found = quick if a.quick else full, time.perf_counter(), {}
    stream_of(size['reviews'], size['words'])   # made before anything is timed
    for name, case in cases(size).items():
        print(name, flush=True)
        found[name] = compared(size, *case, lambda line: print(line, flush=True))
    if not a.quick:
        config = dict(size, seq_len=seq_len, processes=list(counts), command='python bench/scaling.py')
        save_run(here/'results'/'scaling.json', config, dict(title=__doc__.splitlines()[0], cases=found), time.perf_counter()-start)

if __name__ == '__main__': main()
