"The transformer beside ULMFiT, with a tiny random one in its place: every way learns, and the record keeps its rows apart"
import json, sys
from pathlib import Path
import numpy as np, pytest, torch
pytest.importorskip('transformers', reason='Transformers is not installed: pip install transformers')
sys.path.insert(0, str(Path(__file__).resolve().parent.parent/'experiments'))
import tasks_transformers as tasks
from test_classifier import bad, frame, good

torch.set_num_threads(1)

@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    "A BERT of two small layers that knows thirty words, as the package would hold it"
    import ulmfit_course.transformers_api  # noqa: F401 (which keeps a torchvision that does not fit out of the way)
    from transformers import BertConfig, BertModel, BertTokenizerFast
    folder = tmp_path_factory.mktemp('tiny')
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', 'the', 'film', 'was', *good, *bad]
    (folder/'vocab.txt').write_text('\n'.join(words))
    BertTokenizerFast(str(folder/'vocab.txt')).save_pretrained(folder)
    torch.manual_seed(0)
    shape = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=300)
    BertModel(BertConfig(vocab_size=len(words), **shape), add_pooling_layer=False).save_pretrained(folder)
    return folder

@pytest.fixture
def minilm(tiny, monkeypatch):
    monkeypatch.setattr(tasks, 'minilm_folder', lambda: tiny)
    return tasks.MiniLM

def test_a_text_is_embedded_alike_in_any_company(minilm):
    lm = minilm()
    lm.bf16 = False
    texts = list(frame(9).text)
    together, alone = lm.unit(texts), np.concatenate([lm.unit([t]) for t in texts])
    assert np.allclose(together, alone, atol=1e-5) and np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)

@pytest.mark.parametrize('way,more', [('embeddings', {}), ('contrastive', {}), ('fine_tuned', dict(lr=5e-3))])   # random weights want larger steps
def test_every_way_learns(minilm, way, more):
    torch.manual_seed(0)
    test = frame(40, 1)
    said = getattr(tasks, way)('films', frame(64), 0, **more)(list(test.text))
    assert (np.array(said) == test.label.values).mean() >= 0.9

def test_batches_hold_every_row_once():
    for n in (2, 15, 16, 33, 100):
        batches = tasks.shuffled(n, 2, 0)
        assert sorted(np.concatenate(batches[:len(batches)//2])) == [*range(n)] and min(map(len, batches)) >= 2

def test_rows_of_the_record_stay_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, 'record', tmp_path/'r.json')
    tasks.keep('one', dict(seconds=1)); tasks.keep('two', dict(seconds=2)); tasks.keep('one', dict(seconds=3))
    kept = json.loads((tmp_path/'r.json').read_text())
    assert {k: v['seconds'] for k,v in kept['metrics'].items()} == dict(one=3, two=2) and kept['seconds'] == 5
