"The bundle: safe to open, the same answers however it is asked"
import csv, json, os, pickle, shutil, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from ulmfit_course import backends
from ulmfit_course.awd_lstm import AWD_LSTM
from ulmfit_course.backends import PooledEncoder, batches, fastest, machine_rates, precisions, read_and_pool
from ulmfit_course.core import CourseError, cache_dir
from ulmfit_course.documents import SentenceEncoder, concat_pool
from ulmfit_course.evaluation import predictions
from ulmfit_course.export import export_onnx
from ulmfit_course.inference import load_bundle, save_bundle
from ulmfit_course.learners import text_classifier_learner
from ulmfit_course.loaders import classifier_dataloaders
from ulmfit_course.models import save_checkpoint
from ulmfit_course.predictors import Ensemble, TextClassifier
from ulmfit_course.tokenization import CharTokenizer, WordTokenizer, text_rules
from test_classifier import checkpoint, frame, sizes, words

torch.set_num_threads(1)

@pytest.fixture(scope='module')
def learn():
    torch.manual_seed(0)
    learn = text_classifier_learner(classifier_dataloaders(frame(32), frame(16, 1), words, bs=8, device='cpu'), checkpoint(), verbose=False, max_len=100)
    learn.unfreeze()
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(10, 3e-2)   # until it tells them apart: at 50% rounding alone would choose the label
    return learn

@pytest.fixture(scope='module')
def bundle(learn, tmp_path_factory): return save_bundle(learn, tmp_path_factory.mktemp('b')/'bundle', data='made up')

@pytest.fixture(scope='module')
def clas(bundle): return load_bundle(bundle)

@pytest.fixture
def broken(bundle, tmp_path): return shutil.copytree(bundle, tmp_path/'broken')

def change(folder, **kw):
    path = folder/'config.json'
    config = json.loads(path.read_text())
    config = {**config, **{k: v for k,v in kw.items() if k != 'labels'}, 'task': {**config['task'], **({'labels': kw['labels']} if 'labels' in kw else {})}}
    kept = lambda o: {k: v for k,v in o.items() if v is not None}
    path.write_text(json.dumps(kept(config) | dict(task=kept(config['task']))))

def test_a_bundle_holds_one_classifier_or_two(learn, clas, tmp_path):
    torch.manual_seed(1)
    other, texts = text_classifier_learner(learn.dls, checkpoint(), verbose=False, max_len=100), ['the film was great fun', 'a bad plot']
    pair = load_bundle(save_bundle([learn, other], tmp_path/'b', data='made up'))
    alone = load_bundle(tmp_path/'b'/'members'/'2-fwd').probabilities(texts)
    assert np.array_equal(pair.probabilities(texts), (clas.probabilities(texts) + alone)/2) and not np.allclose(pair.probabilities(texts), alone)
    assert [m.config['card'] for m in pair.members] == [dict(data='made up')]*2 and len(pair.members) == 2
    with pytest.raises(AttributeError, match='one of their members'): _ = pair.to_ids
    assert load_bundle(save_bundle(learn, tmp_path/'b')).members[0].labels == clas.labels   # the second is gone with the folder
    assert len(load_bundle(tmp_path/'b').members) == 1

def test_same_as_the_learner(learn, clas):
    texts = list(frame(16, 1).text)
    probs = predictions(learn)[0]
    assert np.allclose(clas.probabilities(texts), probs, atol=1e-5) and (probs.max(1) > 0.8).all()
    label, index, probs = clas.predict(texts[0])
    l, i, p = learn.predict(texts[0])
    assert (label, int(index)) == (l, int(i)) and torch.allclose(probs, p, atol=1e-5) and probs.dtype == torch.float32

def test_settings_travel(clas, learn): assert clas.model[0].max_len == learn.model[0].max_len == 100 and clas.config['card'] == dict(data='made up')

def test_a_solved_head_travels(tmp_path):
    dls = classifier_dataloaders(frame(32), frame(16, 1), words, bs=8, device='cpu')
    learn = text_classifier_learner(dls, checkpoint(), lin_ftrs=None, verbose=False).solve_head()
    clas = load_bundle(save_bundle(learn, tmp_path/'bundle'))
    assert np.allclose(clas.probabilities(list(frame(16, 1).text)), predictions(learn)[0], atol=1e-5)

def test_order_batch_and_company_do_not_matter(clas):
    texts = list(frame(40, 3).text) + ['', 'film ' * 300]
    expected = np.stack([clas.predict(t)[2].numpy() for t in texts])
    for bs in (1, 3, 64): assert np.allclose(clas.probabilities(texts, bs), expected, atol=1e-5)
    assert np.allclose(clas.probabilities(texts[::-1])[::-1], expected, atol=1e-5)
    assert np.allclose(clas.probabilities(pd.Series(texts, index=range(9, 9+len(texts)))), expected, atol=1e-5)
    assert np.allclose(clas.probabilities(t for t in texts), expected, atol=1e-5)

def test_threads(clas):
    texts = list(frame(24, 4).text)
    expected = [clas.predict(t)[2] for t in texts]
    with ThreadPoolExecutor(8) as pool: got = list(pool.map(lambda t: clas.predict(t)[2], texts*4))
    assert all(torch.equal(a, b) for a,b in zip(got, expected*4))

def test_batches_against_their_promises():
    lens = np.random.default_rng(0).integers(1, 500, 300).tolist() + [5000]
    out = list(batches(lens, 16))
    assert sorted(i for b in out for i in b) == list(range(301)) and out[0][0] == 300
    assert all(len(b) <= 16 for b in out) and np.all(np.diff([lens[i] for b in out for i in b]) <= 0)

def test_nothing_and_no_text(clas):
    assert clas.probabilities([]).shape == (0, 2)
    assert list(clas.predict_frame([]).columns) == list(clas.predict_frame(pd.DataFrame(dict(text=[]))).columns) == ['text', 'label', 'probability', 'p_neg', 'p_pos', 'unknown']
    with pytest.raises(CourseError, match='text 1 is not a string but float'): clas.probabilities(['a', float('nan')])
    with pytest.raises(CourseError, match='one string'): clas.predict_frame('a film')
    with pytest.raises(CourseError, match='NoneType'): clas.predict(None)
    for wrong in (None, 3, b'a film', dict(text=['a film']), Path('a.csv')):
        with pytest.raises(CourseError, match=f'got {type(wrong).__name__}') as e: clas.predict_frame(wrong)
        assert '\n' not in str(e.value)

def test_texts_in_any_container(clas):
    texts = ['the film was great', 'a bad plot']
    want = clas.predict_frame(texts)
    class Elsewhere:   # a column, or a frame, of another library
        def __init__(self, o): self.o = o
        def __iter__(self): return iter(['text'])
        def to_pandas(self): return self.o
    for given in (tuple(texts), np.array(texts), pd.Series(texts, index=[5, 5]), iter(texts), dict.fromkeys(texts).keys(), pd.Index(texts), Elsewhere(pd.Series(texts)), Elsewhere(pd.DataFrame(dict(text=texts)))):
        assert clas.predict_frame(given).equals(want), type(given)
    assert clas.probabilities(Elsewhere(pd.Series(texts))).shape == (2, 2) and 'id' in clas.predict_frame(Elsewhere(pd.DataFrame(dict(id=[1, 2], text=texts))))

def test_half_an_emoji_is_a_text(clas, tmp_path):
    (tmp_path/'t.jsonl').write_text('{"text": "the film \\ud83d", "by\\ude00": "\\ud83d"}')
    assert list(clas.predict_frame(['the film \ud83d']).text) == list(clas.predict_file(tmp_path/'t.jsonl', tmp_path/'o.csv').text) == ['the film \ufffd']
    assert pd.read_csv(tmp_path/'o.csv')['by\ufffd'].tolist() == ['\ufffd']

@pytest.mark.parametrize('kind', ['csv', 'jsonl', 'txt'])
def test_files(clas, tmp_path, kind):
    texts = list(frame(6, 6).text)
    path, out = tmp_path/f'in.{kind}', tmp_path/'out.csv'
    if kind == 'csv': pd.DataFrame(dict(text=texts)).to_csv(path, index=False)
    else: path.write_text('\n'.join(json.dumps(dict(text=t)) if kind == 'jsonl' else t for t in texts))
    table = clas.predict_file(path, out)
    assert list(table.text) == texts and np.allclose(table[['p_neg', 'p_pos']], clas.probabilities(texts))
    assert np.allclose(table.probability, table[['p_neg', 'p_pos']].max(axis=1))
    pd.testing.assert_frame_equal(pd.read_csv(out), table, check_dtype=False)
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, 'out.csv'])

def test_a_file_keeps_its_rows_and_columns(clas, tmp_path):
    given = pd.DataFrame(dict(id=['A17', '007', 'B03'], text=['the film was great', 'a "bad"\r\nplot', 'dull\rdull'], label=['x', '', 'NA'], stars=['2', '5', '']))
    given.to_json(tmp_path/'t.jsonl', orient='records', lines=True)
    said = clas.predict_file(tmp_path/'t.jsonl', tmp_path/'o.csv')
    assert list(said) == ['text', 'label', 'probability', 'p_neg', 'p_pos', 'unknown', 'id', 'given_label', 'stars'] and said.attrs['found'].startswith('t.jsonl: 3 rows')
    assert said[['id', 'text', 'given_label', 'stars']].values.tolist() == given.values.tolist() and list(said.label) == list(clas.predict_frame(given.text).label)
    with open(tmp_path/'o.csv', encoding='utf8', newline='') as f: assert [[r['id'], r['text'], r['given_label'], r['stars']] for r in csv.DictReader(f)] == given.values.tolist()
    frame = clas.predict_frame(given.set_index(pd.Index([7, 7, 3])))
    assert frame.values.tolist() == said.values.tolist() and list(frame) == list(said) and list(frame.index) == [7, 7, 3]
    again = clas.predict_file(tmp_path/'o.csv')   # its own answers
    assert list(again.label) == list(said.label) == list(again.given_given_label) and again.given_label.tolist() == given.label.tolist()

def test_a_folder_says_which_file(clas, tmp_path):
    for name in ('b', 'a'): (tmp_path/f'{name}.txt').write_text('the film was great')
    assert clas.predict_file(tmp_path).file.tolist() == ['a.txt', 'b.txt']

def test_a_packed_table_is_packed(clas, tmp_path):
    (tmp_path/'t.txt').write_text('Olé\n')
    for ending in ('csv.gz', 'csv.xz', 'CSV.GZ'):
        clas.predict_file(tmp_path/'t.txt', tmp_path/f'o.{ending}')
        assert pd.read_csv(tmp_path/f'o.{ending}', compression='xz' if 'xz' in ending else 'gzip').text.tolist() == ['Olé']

def test_what_the_model_does_not_know(learn, clas, tmp_path):
    texts = ['the film was great', 'the zzyzx was qwfp', 'привет мир', '']
    assert clas.unknown(texts).tolist() == list(clas.predict_frame(texts).unknown) == [0, .5, 1, 0]
    assert clas.unknown([]).shape == (0,) and [o['unknown'] for o in clas.predict_stream(iter(texts), n=3)] == [0, .5, 1, 0]
    assert np.array_equal(clas.probabilities(texts), clas.predict_frame(texts)[['p_neg', 'p_pos']].values.astype('float32'))
    other = TextClassifier(learn.checkpoint())
    other.to_ids.places = {w: i for w,i in other.to_ids.places.items() if w != 'great'}
    both = Ensemble(clas, other)
    assert other.unknown(texts).tolist() == [.25, .5, 1, 0] and both.unknown(texts).tolist() == list(both.predict_frame(texts).unknown) == [.125, .5, 1, 0]
    assert np.allclose(both.predict_frame(texts)[['p_neg', 'p_pos']], both.probabilities(texts))
    (tmp_path/'t.txt').write_text('\n'.join(texts))
    assert len(clas.predict_file(tmp_path/'t.txt')) == len(clas.predict_file(tmp_path/'t.txt', max_unknown=.5)) == 3
    with pytest.raises(CourseError, match='noise'): clas.predict_file(tmp_path/'t.txt', tmp_path/'o.csv', max_unknown=.3)
    assert not (tmp_path/'o.csv').exists()

def test_bad_files_leave_nothing(clas, tmp_path):
    pd.DataFrame(dict(text=['good', None])).to_csv(tmp_path/'in.csv', index=False)
    for kw, message in [({}, 'row 2'), (dict(text_cols='review'), "no column 'review'")]:
        with pytest.raises(CourseError, match=message): clas.predict_file(tmp_path/'in.csv', tmp_path/'out.csv', **kw)
    assert os.listdir(tmp_path) == ['in.csv']

class Evil:
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.mkdir, (str(self.path),)

def test_a_pickle_is_refused_and_does_not_run(broken, tmp_path):
    for path in (broken/'model.safetensors', tmp_path/'model.pkl'): path.write_bytes(pickle.dumps(Evil(tmp_path/'ran')))
    for path in (broken, tmp_path/'model.pkl'):
        with pytest.raises(CourseError): load_bundle(path)
    assert not (tmp_path/'ran').exists()
    pickle.loads((tmp_path/'model.pkl').read_bytes())   # it is a working pickle
    assert (tmp_path/'ran').exists()

@pytest.mark.parametrize('share', [0, 0.01, 0.5, 0.999])
def test_truncated_weights(broken, share):
    whole = (broken/'model.safetensors').read_bytes()
    (broken/'model.safetensors').write_bytes(whole[:int(len(whole)*share)])
    with pytest.raises(CourseError, match='broken') as e: load_bundle(broken)
    assert '\n' not in str(e.value)

@pytest.mark.parametrize('kw, message', [
    (dict(labels=['a', 'b', 'c']), 'do not fit'), (dict(arch=dict(sizes, n_hid=8)), 'do not fit'), (dict(labels=None), "no 'labels'"),
    (dict(direction=None), "no 'direction'"), (dict(head=None), "no 'head'"), (dict(format=3), 'formats 1 and 2'), (dict(stage='lm_finetuning'), 'not a classifier'), (dict(vocab_hash='0'), 'not the vocabulary')])
def test_inconsistent_bundles(broken, kw, message):
    change(broken, **kw)
    with pytest.raises(CourseError, match=message) as e: load_bundle(broken)
    assert '\n' not in str(e.value)

def test_other_words_and_missing_files(broken, tmp_path):
    (broken/'vocab.json').write_text(json.dumps(words[::-1]))
    with pytest.raises(CourseError, match='not the vocabulary'): load_bundle(broken)
    (broken/'vocab.json').unlink()
    with pytest.raises(CourseError, match='vocab.json is missing'): load_bundle(broken)
    with pytest.raises(CourseError, match='not a classifier'): load_bundle(save_checkpoint(tmp_path/'lm', checkpoint()))

def loaders(tok, vocab=words): return classifier_dataloaders(frame(8), frame(8, 1), vocab, bs=4, tok=tok, device='cpu')

def test_a_tokenizer_that_cannot_be_kept():
    with pytest.raises(CourseError, match='write it with def'): text_classifier_learner(loaders(WordTokenizer(rules=[*text_rules, lambda t: t])), checkpoint(), verbose=False)

def test_a_tokenizer_that_is_not_the_models():
    with pytest.raises(CourseError, match='words en.*characters') as e: text_classifier_learner(loaders(CharTokenizer()), checkpoint(), verbose=False)
    assert '\n' not in str(e.value)

def test_characters_and_rules_travel(tmp_path):
    def no_dots(t): return t.replace('.', ' ')
    letters = ['xxunk', 'xxpad', 'xxbos', '▁', *'.abcdefghijklmnopqrstuvwxyz']
    for tok,vocab in ((CharTokenizer(), letters), (WordTokenizer(rules=[*text_rules, no_dots]), words)):
        dls = loaders(tok, vocab)
        learn = text_classifier_learner(dls, checkpoint(vocab).but(tokenizer=tok.config()), verbose=False)
        clas, texts = load_bundle(save_bundle(learn, tmp_path/'b')), list(frame(16, 1).text)
        assert clas.to_ids.tok.config() == tok.config()
        assert np.allclose(clas.probabilities(texts), predictions(learn, dls.test_dl(texts))[0], atol=1e-5)
    with pytest.raises(CourseError, match='register_rule'):
        change(tmp_path/'b', tokenizer=dict(kind='words', language='en', rules=['unheard_of']))
        load_bundle(tmp_path/'b')

def test_backward_bundle(tmp_path):
    dls = classifier_dataloaders(frame(16), frame(8, 1), words, bs=4, backwards=True, device='cpu')
    learn = text_classifier_learner(dls, checkpoint(backwards=True), backwards=True, verbose=False)
    learn.model.eval()
    clas = load_bundle(save_bundle(learn, tmp_path/'b'))
    text = 'the film was great . the film was dull'
    ids = torch.tensor([words.index(w) for w in ('xxbos ' + text).split()][::-1])
    with torch.no_grad(): expected = learn.model(ids[None])[0].softmax(1)[0]
    assert torch.allclose(clas.predict(text)[2], expected, atol=1e-5)

def test_bf16_is_close(bundle, clas):
    texts = list(frame(20, 7).text)
    assert np.allclose(load_bundle(bundle, precision='bf16').probabilities(texts), clas.probabilities(texts), atol=0.05)

@pytest.mark.parametrize('max_len, bptt', [(1000, 7), (20, 7), (20, 64), (1, 3)])
def test_pooling_on_the_way_is_concat_pool(learn, max_len, bptt):
    encoder = SentenceEncoder(bptt, learn.model[0].module, max_len=max_len).eval()
    lens = torch.tensor([90, 33, 33, 21, 7, 1])
    ids = torch.randint(2, len(words), (6, 90)).masked_fill(torch.arange(90) >= lens[:, None], 1)
    with torch.no_grad():
        expected = concat_pool(*encoder(ids))
        got = read_and_pool(encoder.module, ids, lens, bptt, max_len)
    assert torch.allclose(got, expected, atol=1e-6)

def test_int8_is_close(bundle, clas):
    texts = list(frame(20, 7).text)
    assert np.allclose(load_bundle(bundle, precision='int8').probabilities(texts), clas.probabilities(texts), atol=0.05)

# The precision that a machine chooses

@pytest.fixture(scope='module')
def large():
    "An encoder of `wiki-small`'s sizes, with weights that are spread about as trained ones are"
    torch.manual_seed(0)
    awd = AWD_LSTM(len(words), 256, 512, 3).eval()
    with torch.no_grad():
        for o in awd.parameters(): o.copy_(2*o.std()*torch.randn_like(o))
    return SentenceEncoder(72, awd)

def ids_of(n=12): return [np.random.default_rng(i).integers(2, len(words), 5 + 37*i % 90) for i in range(n)]

@pytest.fixture
def measured(monkeypatch, tmp_path):
    "A machine that was never measured; the precisions that it measures are noted"
    asked = []
    monkeypatch.setenv('ULMFIT_COURSE_HOME', str(tmp_path/'home'))
    monkeypatch.delenv('ULMFIT_COURSE_PRECISION', raising=False)
    monkeypatch.setattr(backends, 'measured_rate', lambda p: asked.append(p) or dict(one=dict(float32=1, bf16=2, int8=3)[p], many=10))
    machine_rates.cache_clear()
    yield asked
    machine_rates.cache_clear()

@pytest.mark.parametrize('rates, best', [
    (dict(float32=(5, 9), bf16=(4, 9), int8=(2, 20)), 'float32'), (dict(float32=(5, 9), int8=(9, 9)), 'int8'), (dict(float32=(5, 9), bf16=(9, 30), int8=(20, 10)), 'bf16')])
def test_the_default_is_what_was_fastest(large, monkeypatch, rates, best):
    monkeypatch.delenv('ULMFIT_COURSE_PRECISION', raising=False)
    monkeypatch.setattr(backends, 'machine_rates', lambda: {p: dict(one=one, many=many) for p,(one, many) in rates.items()})
    assert fastest(large.module) == PooledEncoder(large).precision == best
    assert fastest(large.module, 'cuda') == 'float32'

def test_a_small_encoder_is_not_worth_measuring(measured, bundle):
    assert load_bundle(bundle).precision == 'float32' and not measured

def test_the_environment_chooses(measured, large, bundle, monkeypatch):
    for p in precisions:
        monkeypatch.setenv('ULMFIT_COURSE_PRECISION', p)
        assert PooledEncoder(large).precision == load_bundle(bundle).precision == p and PooledEncoder(large, 'float32').precision == 'float32'
    monkeypatch.setenv('ULMFIT_COURSE_PRECISION', 'int4')
    with pytest.raises(CourseError, match='int4.*auto, float32, bf16, int8') as e: load_bundle(bundle)
    assert '\n' not in str(e.value)
    assert load_bundle(bundle, precision='float32').precision == 'float32' and not measured

def test_a_machine_is_measured_once(measured):
    first = machine_rates()
    assert measured == [p for p in precisions if p in first] and {'float32', 'int8'} <= set(first)
    machine_rates.cache_clear()
    assert machine_rates() == first and len(measured) == len(first) and os.listdir(cache_dir()) == ['backends.json']

@pytest.mark.parametrize('text', ['', '{', '[]', '3', 'null', '{"x": 3}', '{"x": {"float32": 3}}', '{"x": {"float32": {"one": 1}}}', '{"x": {"float32": {"one": "a", "many": null}}}', '\ud800'])
def test_a_broken_file_of_rates_is_measured_anew(measured, text):
    cache_dir().mkdir()
    (cache_dir()/'backends.json').write_bytes(text.encode('utf8', 'surrogatepass'))
    assert machine_rates()['int8'] == dict(one=3, many=10) and measured
    assert [*json.loads((cache_dir()/'backends.json').read_text()).values()][-1] == machine_rates()

def test_rates_of_another_machine_are_kept_and_not_believed(measured):
    cache_dir().mkdir()
    theirs = dict(elsewhere=dict(float32=dict(one=10**9, many=10**9)))
    (cache_dir()/'backends.json').write_text(json.dumps(theirs))
    assert machine_rates()['float32'] == dict(one=1, many=10)
    assert json.loads((cache_dir()/'backends.json').read_text()).items() > theirs.items()

def test_a_home_that_cannot_be_written(measured, large, tmp_path):
    (tmp_path/'home').write_text('a file where the folder should be')
    assert PooledEncoder(large).precision in machine_rates() and measured and (tmp_path/'home').is_file()

def test_int8_is_the_same_alone_and_in_company(large):
    encode, ids, near = PooledEncoder(large, 'int8'), ids_of(), PooledEncoder(large, 'float32')
    together, before = encode(ids), torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            for rows in ([*range(12)], [7, 3], [*range(11, -1, -1)]): assert torch.equal(encode([ids[i] for i in rows]), together[rows])
            for i,o in enumerate(ids): assert torch.equal(encode([o])[0], together[i])
    finally: torch.set_num_threads(before)
    assert torch.allclose(together, near(ids), atol=.05) and not torch.equal(together, near(ids))

def test_int8_from_many_threads(large):
    encode, ids = PooledEncoder(large, 'int8'), ids_of()
    together = encode(ids)
    with ThreadPoolExecutor(8) as pool: got = [*pool.map(lambda i: encode([ids[i % 12]])[0], range(48)), *pool.map(lambda _: encode(ids), range(4))]
    assert all(torch.equal(o, together[i % 12]) for i,o in enumerate(got[:48])) and all(torch.equal(o, together) for o in got[48:])

@pytest.mark.parametrize('precision', precisions)
def test_a_classifier_can_be_pickled(bundle, precision):
    clas, texts = load_bundle(bundle, precision=precision), list(frame(5, 2).text)
    expected = clas.probabilities(texts)   # int8 has its session open
    again = pickle.loads(pickle.dumps(clas))
    assert again.precision == precision and np.array_equal(again.probabilities(texts), expected)

@pytest.mark.slow
def test_the_choice_is_not_behind_float32(large, monkeypatch):
    monkeypatch.delenv('ULMFIT_COURSE_PRECISION', raising=False)
    chosen, ids = PooledEncoder(large), [np.arange(144) % (len(words)-2) + 2]*16
    def rate(encode, n):
        def once():
            start = time.perf_counter()
            encode(ids[:n])
            return time.perf_counter() - start
        return n/min(once() for _ in range(4))
    for n in (1, 16):
        rates = [[rate(o, n) for o in (chosen, PooledEncoder(large, 'float32'))] for _ in range(3)]   # in turn: the machine may be busy
        assert max(ours/theirs for ours, theirs in rates) >= 0.9, (n, chosen.precision, rates)

def test_onnx_takes_any_batch_and_length(bundle, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    clas = load_bundle(bundle)
    clas.model[0].max_len = 30
    session = onnxruntime.InferenceSession(export_onnx(clas, tmp_path/'c.onnx'))
    for bs, n in ((3, 20), (5, 90), (1, 4), (2, 1)):
        lens = torch.randint(1, n+1, (bs,)).index_fill_(0, torch.tensor(0), n)
        ids = torch.randint(2, len(words), (bs, n)).masked_fill(torch.arange(n) >= lens[:, None], 1)
        got = session.run(None, dict(ids=ids.numpy(), lens=lens.numpy()))[0]
        assert np.allclose(got, clas.run([row[:k].numpy() for row,k in zip(ids, lens)]), atol=1e-5)

@pytest.mark.parametrize('precision', precisions)
def test_onnx_does_not_ask_how_the_classifier_was_loaded(bundle, clas, tmp_path, precision):
    onnxruntime, ids = pytest.importorskip('onnxruntime'), clas.to_ids.ids(list(frame(8, 3).text))
    for int8 in (False, True):
        file = export_onnx(load_bundle(bundle, precision=precision), tmp_path/'c.onnx', int8=int8)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(file, options)
        got = np.concatenate([session.run(None, dict(ids=o[None], lens=np.array([len(o)])))[0] for o in ids])
        assert np.allclose(got, clas.run(ids), atol=.05 if int8 else 1e-5) and np.allclose(got, clas.run(ids), atol=1e-5) != int8
    assert os.listdir(tmp_path) == ['c.onnx']

def test_onnx_of_an_ensemble_is_a_file_for_each_member(learn, clas, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    torch.manual_seed(1)
    pair = load_bundle(save_bundle([learn, text_classifier_learner(learn.dls, checkpoint(), verbose=False)], tmp_path/'b'))
    files, ids = export_onnx(pair, tmp_path/'c.onnx'), clas.to_ids.ids(['the film was great fun'])
    assert [f.name for f in files] == ['c-1-fwd.onnx', 'c-2-fwd.onnx']
    got = [onnxruntime.InferenceSession(f).run(None, dict(ids=np.stack(ids), lens=np.array([len(ids[0])])))[0] for f in files]
    for probs, member in zip(got, pair.members): assert np.allclose(probs, member.run(ids), atol=1e-5)
    assert np.allclose(np.mean(got, 0), pair.probabilities(['the film was great fun']), atol=1e-5) and not np.allclose(got[0], got[1])

def test_members_must_fit(learn, clas):
    other = TextClassifier(learn.checkpoint().but(task=dict(learn.checkpoint().task, labels=['pos', 'neg'])))
    with pytest.raises(CourseError, match='other labels'): Ensemble(clas, other)
    two = TextClassifier(learn.checkpoint().but(task=dict(learn.checkpoint().task, text_cols=['title', 'text'])))
    with pytest.raises(CourseError, match='other columns'): Ensemble(clas, two)
    assert repr(Ensemble(clas, clas)) == 'Ensemble(TextClassifier(fwd, neg, pos), TextClassifier(fwd, neg, pos))'

def test_precisions(bundle):
    with pytest.raises(CourseError, match='auto, float32, bf16, int8'): load_bundle(bundle, precision='int4')
    with pytest.raises(CourseError, match='for a CPU'): load_bundle(bundle, device='cuda', precision='int8')

def memory_rise(bundle, read):
    "By how many MB a long text raises the memory of a fresh process that has read a shorter one; sampled, for a child inherits the peak of its parent"
    code = f"""import psutil, time, torch
from concurrent.futures import ThreadPoolExecutor
from ulmfit_course.inference import load_bundle
clas = load_bundle({str(bundle)!r})
memory = lambda: psutil.Process().memory_info().rss/2**20
ids = clas.to_ids.ids(['the film was great '*5000, 'the film was great '*25_000])
def keep_all_states(ids):
    clas.model[0].max_len = 10**9
    with torch.no_grad(): return clas.model(torch.from_numpy(ids[0])[None])
{read}(ids[:1])
seen = [memory()]
with ThreadPoolExecutor(1) as pool:
    answer = pool.submit({read}, ids[1:])
    while not answer.done(): seen.append(memory()); time.sleep(0.002)
answer.result()
print(max(seen) - seen[0])"""
    return float(subprocess.run([sys.executable, '-c', code], env={**os.environ, 'OMP_NUM_THREADS': '1'}, capture_output=True, text=True, check=True).stdout)

@pytest.mark.slow
def test_memory_does_not_grow_with_a_long_text(bundle):
    kept, everything = memory_rise(bundle, 'clas.run'), memory_rise(bundle, 'keep_all_states')
    assert kept < 100_000*sizes['emb_sz']*4/2**20 < everything, 'the states of all tokens'

def test_a_fresh_process_predicts(bundle):
    code = f"from ulmfit_course.inference import load_bundle; print(load_bundle({str(bundle)!r}).predict('the film was great fun')[0])"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() in ('pos', 'neg')
