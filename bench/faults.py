"""What we promise, attacked: `python bench/faults.py [PART ...] [--quick] [--workers N]`

The attacks are those of `tests/faults`, in their full sizes; each gives a record whose `faults` are empty where the
promise was kept. A full run of all parts goes to `bench/results/faults.json`, from which the site's page is made; a full
run of some takes the place of these parts there."""
import argparse, json, os, sys, time
from pathlib import Path
from tempfile import TemporaryDirectory

here = Path(__file__).resolve().parent
for place in ('tests/faults', 'tests'): sys.path.insert(0, str(here.parent/place))

full = dict(kills=50, stops=12, at_once=6, streams=10, reading=20, disks=20, files=8, texts=5000, words=1_000_000, predictions=10_000,
            threads=8, texts_in_threads=200, visitors=10, damaged=2000)
quick = dict(kills=10, stops=3, at_once=2, streams=2, reading=3, disks=3, files=2, texts=200, words=50_000, predictions=1000,
             threads=8, texts_in_threads=40, visitors=2, damaged=100)

def parts(home, size, workers):
    "Name -> what makes the record of a part"
    import disasters as d, services as s, texts as t
    from commands import stages
    each = lambda attack: lambda: {stage: attack(stage) for stage in stages}
    found = dict(
        kills=each(lambda stage: d.kills(home, stage, size['kills'], workers)),
        stops=each(lambda stage: d.stops(home, stage, size['stops'], workers)),
        at_once=each(lambda stage: d.twice_at_once(home, stage, size['at_once'])),
        places=lambda: d.refusals(home, workers),
        links=each(lambda stage: d.good_link(home, stage)),
        full_files=each(lambda stage: d.files_that_cannot_grow(home, stage, size['files'], workers)),
        streams=lambda: d.one_stream(home, size['streams']),
        readers=lambda: d.readers_beside_writers(home, size['reading']),
        texts=lambda: t.every_way(home, size['texts']),
        long_text=lambda: s.long_texts(home, size['words']),
        many_texts=lambda: s.many_texts(home, size['predictions']),
        threads=lambda: s.many_threads(home, size['threads'], size['texts_in_threads']),
        damaged=lambda: s.damaged_folders(home, size['damaged']))
    if d.can_mount(): found['full_disks'] = each(lambda stage: d.full_disks(home, stage, size['disks'], workers))
    if s.can_serve: found['visitors'] = lambda: s.visitors(home, size['visitors'])
    return found

def records(found):
    "The records of all parts; those of a part with several stages one by one"
    for part in found.values():
        some = [part] if 'faults' in part else part.values()
        yield from some

def summary(found):
    "What all parts have in common"
    every, add = [*records(found)], lambda key: sum(r.get(key, 0) for r in every)
    faults = [f for r in every for f in r['faults']]
    return dict(tried=add('tried'), survived=add('survived'), killed=add('killed'), asked=add('asked'), nan=add('nan'), bytes_lost=add('bytes_lost'),
                faults=len(faults), tracebacks=sum('traceback' in f for f in faults))

def say(name, found, seconds):
    for stage, r in ({'': found} if 'faults' in found else found).items():
        what = ', '.join(f'{k} {v}' for k,v in r.items() if k != 'faults')
        print(f"{name:11}{stage:13}{seconds:5.0f} s   {len(r['faults'])} faults   {what}", flush=True)
        for f in r['faults'][:5]: print(f'    {f[:300]}', flush=True)

def main():
    parser = argparse.ArgumentParser(prog='python bench/faults.py', description='attack what the course promises')
    parser.add_argument('parts', nargs='*', metavar='PART', help='all if not given')
    parser.add_argument('--quick', action='store_true', help='few of each, nothing kept')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='attacks at the same time')
    args, found, seconds = parser.parse_args(), {}, {}
    from commands import Running, make_home, server
    size = quick if args.quick else full
    server()
    with TemporaryDirectory() as tmp:
        every = parts(make_home(Path(tmp).resolve()), size, args.workers)
        if unknown := set(args.parts) - set(every): raise SystemExit(f"unknown part {min(unknown)!r}: choose from {', '.join(every)}")
        for name in args.parts or every:
            start = time.perf_counter()
            found[name] = every[name]()
            seconds[name] = round(time.perf_counter()-start, 1)
            say(name, found[name], seconds[name])
    from ulmfit_course.core import peak_rss_mb, save_run
    record = here/'results'/'faults.json'
    before = json.loads(record.read_text('utf8'))['metrics'] if args.parts and record.exists() else dict(total={}, seconds={})
    peak, seconds = before.pop('total').get('peak_mb', 0), before.pop('seconds') | seconds
    found = before | found   # what was tried anew takes the place of what was found before
    total = dict(summary(found), peak_mb=round(max(Running.most_mb, peak_rss_mb(), peak)))
    print(json.dumps(total))
    if not args.quick and set(found) == set(every):
        save_run(record, dict(size, command='python bench/faults.py'), dict(total=total, seconds=seconds, **found), sum(seconds.values()))
    return min(total['faults'], 1)

if __name__ == '__main__': sys.exit(main())
