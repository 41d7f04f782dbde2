"""Texts labelled by one process, and by actors of Ray: `python bench/labelling.py [--quick] [--json]`

Each side is a process of its own that labels the same Parquet file, the sides in turn. `rows/s` is that of the whole
call; `steady rows/s` leaves out the start, up to the first part that is done. Of the process that hands the parts out
(with Ray the head's) it says the share of a core that it takes while the others work, its memory, and how many bytes
went to the actors and came back. A full run goes to `bench/results/labelling.json`."""
import argparse, json, os, pickle, statistics, subprocess, sys, tempfile, time
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here))
full, quick = dict(reviews=4000, rows=250, rounds=1), dict(reviews=200, rows=20, rounds=1)

def sides():
    "Name -> how `label_parquet` is called"
    cores = os.cpu_count()
    counts = sorted({1, 2, *(2**k for k in range(2, 8) if 2**k <= cores), cores})
    return {'one process': dict(threads=cores), 'one process, one core': dict(threads=1)} | {
        f"Ray, {n} actor{'s'*(n > 1)}": dict(engine='ray', workers=n, threads=1) for n in counts}

def prepared(folder, size):
    "A classifier of both directions, as the demo makes one, and the reviews as Parquet"
    from common import reviews
    from ulmfit_course.classifier import train_classifier
    from ulmfit_course.inference import save_bundle
    frame = reviews(size['reviews'])
    save_bundle(train_classifier(reviews(25_000)[-200:], None, 'imdb-small', direction='both', epochs=(0, 0, 0, 0), lin_ftrs=None), folder/'bundle')
    frame.rename(columns=dict(label='given')).to_parquet(folder/'reviews.parquet')

def measure(folder, name, rows):
    "One side, in this process"
    from ulmfit_course.core import peak_rss_mb
    from ulmfit_course.labelling import label_parquet, parts_of
    how, done, began = sides()[name], [], time.perf_counter()
    def note(o): done.append((time.perf_counter() - began, time.process_time(), o))
    with tempfile.TemporaryDirectory() as out:
        found = label_parquet(folder/'bundle', folder/'reviews.parquet', Path(out)/'out', rows=rows, say=note, **how)
    (first, before, one), (last, after, _) = done[0], done[-1]
    moved = sum(map(len, map(pickle.dumps, [*parts_of([folder/'reviews.parquet'], rows), *(o for *_,o in done)])))
    return {'rows/s': found['rows']/found['seconds'], 'steady rows/s': (found['rows'] - one['rows'])/(last - first), 'seconds': found['seconds'],
            'seconds to the first part': first, 'share of a core of the caller': (after - before)/(last - first), 'MB of the caller': peak_rss_mb(),
            'bytes to and fro': moved if 'engine' in how else 0}

def in_process(*words):
    done = subprocess.run([sys.executable, __file__, '--child', *map(str, words)], capture_output=True, text=True)
    if done.returncode: raise SystemExit(f'{words} failed:\n{done.stderr[-3000:]}')
    return json.loads(done.stdout.splitlines()[-1])

def middle(runs): return {k: statistics.median(r[k] for r in runs) for k in runs[0]}

def main():
    parser = argparse.ArgumentParser(prog='python bench/labelling.py', description='texts labelled by one process, and by actors of Ray')
    parser.add_argument('--quick', action='store_true', help='a few reviews, once, nothing kept')
    parser.add_argument('--json', action='store_true', help='print JSON only')
    parser.add_argument('--child', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        folder, name, rows = args.child
        return print(json.dumps(measure(Path(folder), name, int(rows))))
    from ulmfit_course.core import save_run
    size, began = quick if args.quick else full, time.perf_counter()
    with tempfile.TemporaryDirectory() as tmp:
        prepared(Path(tmp), size)
        runs = [{name: in_process(tmp, name, size['rows']) for name in sides()} for _ in range(size['rounds'])]
    found = {name: middle([r[name] for r in runs]) for name in runs[0]}
    alone = found['one process, one core']['steady rows/s']
    for o in found.values(): o['times one core'] = o['steady rows/s']/alone
    if args.json: print(json.dumps(found))
    else:
        for name, o in found.items(): print(f'{name:24}', ', '.join(f'{v:,.1f} {k}' for k,v in o.items()))
    if not args.quick: save_run(here/'results'/'labelling.json', dict(size, command='python bench/labelling.py'), found, time.perf_counter()-began)

if __name__ == '__main__': main()
