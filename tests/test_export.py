"Files for other runtimes: the words of a classifier go with it, and what reads them needs neither torch nor fastai"
import json, subprocess, sys
import numpy as np, pytest, torch
from ulmfit_course.core import CourseError
from ulmfit_course.documents import PairFields, text_classifier
from ulmfit_course.export import export_onnx, export_program
from ulmfit_course.inference import load_bundle, save_bundle
from ulmfit_course.learners import text_classifier_learner
from ulmfit_course.loaders import classifier_dataloaders
from ulmfit_course.models import Checkpoint
from ulmfit_course.predictors import Ensemble, TextClassifier
from ulmfit_course.subwords import SubwordTokenizer
from ulmfit_course.vocabulary import FLD, pad
from test_classifier import checkpoint, frame, words

torch.set_num_threads(1)
texts = ['The film was GREAT fun...', 'a bad, dull plot; boring!!!!', 'No.', 'the film was great '*60]

def learner(backwards=False):
    dls = classifier_dataloaders(frame(32), frame(16, 1), words, bs=8, device='cpu', backwards=backwards)
    learn = text_classifier_learner(dls, checkpoint(backwards=backwards), verbose=False, max_len=100, backwards=backwards)
    learn.unfreeze()
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(5, 3e-2)
    return learn

@pytest.fixture(scope='module')
def both(tmp_path_factory):
    return load_bundle(save_bundle([learner(), learner(backwards=True)], tmp_path_factory.mktemp('b')/'both'), precision='float32')

ten_lines = '''
import json, sys, numpy as np, onnxruntime
class Refused:
    def find_spec(name, path, target=None):
        if name.split('.')[0] in ('torch', 'fastai'): raise ImportError(f'{name} is refused')
sys.meta_path.insert(0, Refused)
from ulmfit_course import subwords, tokenization
from ulmfit_course.vocabulary import UNK, pad, word_ids

def answers(file, texts):
    session = onnxruntime.InferenceSession(file)
    told = json.loads(session.get_modelmeta().custom_metadata_map['ulmfit'])
    places, tok = word_ids(told['vocab']), tokenization.Tokenizer.from_config(told['tokenizer'])
    ids = [[places.get(t, places[UNK]) for t in toks or [UNK]] for toks in tok(texts)]
    ids = [row[::-1] if told['direction'] == 'bwd' else row for row in ids]
    return session.run(None, dict(ids=pad(ids), lens=np.array([*map(len, ids)])))[0]

texts, *files = json.load(sys.stdin)
print(json.dumps(np.mean([answers(f, texts) for f in files], 0).tolist()))
'''

def read_elsewhere(files, texts):
    "By ONNX Runtime in a process without torch and fastai"
    done = subprocess.run([sys.executable, '-c', ten_lines], input=json.dumps([texts, *map(str, files)]), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return np.array(json.loads(done.stdout))

@pytest.mark.parametrize('int8', [False, True])
def test_both_directions_without_torch(both, tmp_path, int8):
    pytest.importorskip('onnxruntime')
    files = export_onnx(both, tmp_path/'both.onnx', int8=int8)
    expected, found = both.probabilities(texts), read_elsewhere(files, texts)
    assert np.allclose(found, expected, atol=.05 if int8 else 1e-5) and np.allclose(found, expected, atol=1e-5) != int8
    alone = read_elsewhere(files[1:], texts)   # the second reads from the end
    assert np.allclose(alone, both.members[1].probabilities(texts), atol=.05 if int8 else 1e-5)

def test_pieces_of_words_without_torch(tmp_path):
    pytest.importorskip('onnxruntime')
    tok = SubwordTokenizer.train(list(frame(40).text), 'bpe', 60)
    sizes = dict(emb_sz=8, n_hid=12, n_layers=2)
    torch.manual_seed(0)
    config = dict(format=2, stage='classifier', arch=sizes, direction='fwd', tokenizer=tok.config(), head={},
                  task=dict(kind='classification', labels=['neg', 'pos'], text_cols=['text'], label_col='label'))
    clas = TextClassifier(Checkpoint(text_classifier(len(tok.vocab), 2, sizes).state_dict(), tok.vocab, config), precision='float32')
    assert np.allclose(read_elsewhere([export_onnx(clas, tmp_path/'c.onnx')], texts[:3]), clas.probabilities(texts[:3]), atol=1e-5)

def test_a_program_is_read_in_another_process(both, tmp_path):
    clas, ids = both.members[0], both.members[0].to_ids.ids(texts)
    torch.export.save(export_program(clas), tmp_path/'c.pt2')
    np.savez(tmp_path/'in.npz', ids=pad(ids), lens=np.array([*map(len, ids)]))
    code = f"""import numpy as np, sys, torch
read, given = torch.export.load({str(tmp_path/'c.pt2')!r}).module(), np.load({str(tmp_path/'in.npz')!r})
ids, lens = (torch.from_numpy(given[k]) for k in ('ids', 'lens'))
np.save({str(tmp_path/'out.npy')!r}, read(ids, lens)); np.save({str(tmp_path/'one.npy')!r}, read(ids[1:2, :lens[1]], lens[1:2]))
assert not any(m.split('.')[0] in ('fastai', 'ulmfit_course') for m in sys.modules)"""
    subprocess.run([sys.executable, '-c', code], check=True)
    expected = clas.probabilities(texts)
    assert np.allclose(np.load(tmp_path/'out.npy'), expected, atol=1e-5) and np.allclose(np.load(tmp_path/'one.npy'), expected[1:2], atol=1e-5)

def test_what_is_no_graph_is_refused(both, tmp_path):
    torch.manual_seed(0)
    sizes, task = dict(emb_sz=8, n_hid=12, n_layers=2), dict(kind='classification', labels=['no', 'yes'], pair=True, text_cols=['text1', 'text2'], label_col='label')
    weights = text_classifier(len(words), 2, sizes, fields=PairFields(words.index(FLD))).state_dict()
    config = dict(format=2, stage='classifier', arch=sizes, direction='fwd', tokenizer=both.members[0].config['tokenizer'], task=task, head={})
    pairs = TextClassifier(Checkpoint(weights, words, config))
    for f in (lambda: export_onnx(pairs, tmp_path/'p.onnx'), lambda: export_program(pairs)):
        with pytest.raises(CourseError, match='pairs'): f()
    with pytest.raises(CourseError, match='members'): export_program(both)
    assert not [*tmp_path.iterdir()] and isinstance(both, Ensemble)
