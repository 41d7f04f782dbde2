"Transformers' calls on the course's models: texts that people have, run as they are; the same numbers; training, writing, pipelines; torchvision"
import ast, os, subprocess, sys, textwrap
import numpy as np, pytest, torch
from ulmfit_course.core import CourseError, set_seed
from ulmfit_course.awd_lstm import language_model
from ulmfit_course.generator import text_generator
from ulmfit_course.loaders import TextToIds
from ulmfit_course.models import Checkpoint, classifier_of, load_pretrained, model_of, save_checkpoint
from ulmfit_course.readers import imdb
from ulmfit_course.subwords import SubwordTokenizer
from ulmfit_course.tokenization import CharTokenizer, WordTokenizer
pytest.importorskip('transformers')
from ulmfit_course import transformers_api as api

torch.set_num_threads(1)
reviews = list(imdb().text[:12])
words = 'xxunk xxpad xxbos xxeos xxfld xxrep xxwrep xxup xxmaj a good bad film the was . ! no bob went to paris'.split()
common = dict(format=2, arch=dict(emb_sz=8, n_hid=12, n_layers=2), tokenizer=WordTokenizer().config())

def small_lm(**config):
    set_seed(1)
    return Checkpoint(language_model(len(words), common['arch']).state_dict(), words, dict(common, stage='pretraining', direction='fwd') | config)

def small_classifier(direction='fwd', kind='classification', labels=('neg', 'pos'), **task):
    set_seed(2)
    task = dict(kind=kind, labels=list(labels), text_cols=['text'], label_col='label', **task)
    config = dict(common, stage='classifier', direction=direction, task=task, head=dict(lin_ftrs=6))
    return Checkpoint(classifier_of(len(words), config).state_dict(), words, config)

def in_new_process(code, **env):
    "What a program prints; its own temporary home"
    done = subprocess.run([sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, env=os.environ | dict(OMP_NUM_THREADS='1') | env)
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout.split()

# --- the two texts, statement by statement, with nothing changed but the import

by_hand = '''
import torch
from torch import nn
from torch.optim import AdamW
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from transformers import ULMFiTTokenizer, ULMFiTModel

tokenizer = ULMFiTTokenizer.from_pretrained('imdb-small')
model = ULMFiTModel.from_pretrained('imdb-small')
model.classifier = nn.Sequential(nn.Linear(model.config.hidden_size, 2), nn.LogSoftmax(-1))
optimizer = AdamW(model.parameters(), lr=5e-5)
criterion = nn.NLLLoss()
inputs = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors='pt')
model.train()
for epoch in range(2):
    optimizer.zero_grad()
    outputs = model(**inputs)
    loss = criterion(outputs.logits, labels)
    loss.backward()
    optimizer.step()
model.eval()
with torch.no_grad(): predictions = model(inputs['input_ids'], attention_mask=inputs['attention_mask'])[0].argmax(dim=1)
accuracy = accuracy_score(labels, predictions)
precision, recall, f1, _ = precision_recall_fscore_support(labels, predictions, average='weighted', zero_division=0)
'''

with_auto = '''
import torch
from transformers import AutoTokenizer, AutoModelForSequenceClassification, AutoModelForTokenClassification, pipeline

tokenizer = AutoTokenizer.from_pretrained('imdb-small')
model = AutoModelForSequenceClassification.from_pretrained('imdb-small', num_labels=3)
inputs = tokenizer(texts, padding=True, truncation=True, return_tensors='pt')
input_ids, attention_mask = inputs['input_ids'], inputs['attention_mask']
with torch.no_grad(): outputs = model(**inputs)
logits = outputs.logits
predicted = torch.argmax(logits, dim=-1)
classifier = pipeline('text-classification', model=model, tokenizer=tokenizer)
answers = classifier(texts[:2])

words = ['Anna', 'met', 'Bob', 'in', 'Paris', '.']
tags = [1, 0, 1, 0, 2, 0]
encoding = tokenizer(words, is_split_into_words=True, return_tensors='pt')
label_ids, previous = [], None
for word_id in encoding.word_ids(batch_index=0):
    label_ids.append(-100 if word_id is None or word_id == previous else tags[word_id])
    previous = word_id
tagger = AutoModelForTokenClassification.from_pretrained('wiki-small', num_labels=3)
loss = tagger(**encoding, labels=torch.tensor([label_ids])).loss
'''

def run(text, **names):
    for statement in ast.parse(text.replace('from transformers import', 'from ulmfit_course.transformers import')).body:
        exec(compile(ast.Module([statement], []), '<text>', 'exec'), names)
    return names

def test_a_head_of_ones_own_on_the_encoder():
    names = run(by_hand, texts=reviews[:6], labels=torch.tensor([0, 1]*3))
    assert names['model'].config.hidden_size == 256 and names['outputs'].logits.shape == (6, 2)
    assert torch.allclose(names['outputs'].logits.exp().sum(1), torch.ones(6), atol=1e-5) and np.isfinite(float(names['loss']))
    assert 0 <= names['f1'] <= 1 and len(names['predictions']) == 6

def test_auto_classes_masks_words_and_a_pipeline():
    names = run(with_auto, texts=reviews[:4])
    assert names['logits'].shape == (4, 3) and names['predicted'].shape == (4,) and names['input_ids'].shape == names['attention_mask'].shape
    assert [a['label'][:6] for a in names['answers']] == ['LABEL_']*2
    told = dict(zip(names['encoding'].tokens(), names['label_ids']))
    assert {k: told[k] for k in ('xxbos', 'xxmaj', 'anna', 'met', 'paris')} == dict(xxbos=-100, xxmaj=-100, anna=1, met=0, paris=2)
    assert names['tagger'].config.direction == 'both' and np.isfinite(float(names['loss']))

# --- the same tokens, the same numbers

@pytest.mark.parametrize('kind', ['words', 'characters', 'bpe', 'wordpiece', 'unigram'])
def test_tokens_are_those_of_the_course(kind, tmp_path):
    texts = [*reviews, '', 'Sooooo GOOD, no no no way!!!!<br />Zoë can\'t... 🎈']
    if kind == 'words': ck = load_pretrained('imdb-small')
    else:
        cut = CharTokenizer() if kind == 'characters' else SubwordTokenizer.train(reviews, kind, vocab_size=400)
        vocab = [*words[:9], *sorted({t for o in cut(texts) for t in o} - {*words[:9]})] if kind == 'characters' else cut.vocab
        ck = small_lm(tokenizer=cut.config())
        ck = Checkpoint(ck.weights, vocab, ck.config)
    tok, own = api.ULMFiTTokenizer.from_pretrained(ck), TextToIds(ck.vocab, ck.tokenizer).ids(texts)
    tok.save_pretrained(tmp_path)
    back = api.ULMFiTTokenizer.from_pretrained(tmp_path)
    for t in (tok, back):
        found = t(texts, padding=True)
        assert [np.array(r)[np.array(m) == 1].tolist() for r,m in zip(found['input_ids'], found['attention_mask'])] == [o.tolist() for o in own]
    places = [(t, e.tokens[i], t[s:f]) for t,e in zip(texts, tok(texts).encodings) for i,(s, f) in enumerate(e.offsets) if f > s]
    plain = lambda piece: piece.removeprefix('##').replace('▁', ' ').strip()
    right = [shown.lower() == plain(piece).lower() for _, piece, shown in places if plain(piece)]
    assert len(right) > 1000 and np.mean(right) > .99
    one = tok(reviews[0])
    first = one.word_to_tokens(0)
    assert one.token_to_word(first.start) == 0 and one.char_to_token(one.token_to_chars(first.start).start) == first.start

@pytest.mark.parametrize('name', ['imdb-small', 'wiki-small-backwards'])
def test_states_of_the_catalogue_are_the_courses(name):
    ck = load_pretrained(name)
    model, tok, net = api.AutoModel.from_pretrained(name), api.AutoTokenizer.from_pretrained(name), model_of(ck)[0].eval()
    for side in ('left', 'right'):
        batch = tok(reviews[:4], padding=True, truncation=True, max_length=120, return_tensors='pt', padding_side=side)
        with torch.no_grad(): states = model(**batch).last_hidden_state
        for row, ids, mask in zip(states, batch['input_ids'], batch['attention_mask'].bool()):
            net.reset()
            turn = (lambda x: x.flip(0)) if ck.backwards else (lambda x: x)
            with torch.no_grad(): assert torch.allclose(row[mask], turn(net(turn(ids[mask])[None])[0]), atol=1e-5)
            assert not row[~mask].any()

@pytest.mark.parametrize('kind,labels,task', [('binary', 'no yes', {}), ('multilabel', 'a b c', {}), ('regression', 'stars', dict(mean=[3.], spread=[2.]))])
def test_other_questions(kind, labels, task):
    from ulmfit_course.predictors import TextClassifier
    ck, texts = small_classifier(kind=kind, labels=labels.split(), **task), ['a good film', 'no', 'the film was bad !']
    ours = TextClassifier(ck, precision='float32').probabilities(texts)
    answer = api.pipeline('text-classification', model=ck, top_k=None)
    for row, said in zip(ours, answer(texts)):
        said = {o['label']: o['score'] for o in said}
        assert np.allclose([said[l] for l in labels.split()], row, atol=1e-5)

# --- writing

def test_it_writes_what_the_course_writes():
    prompt, gen = 'The film was', text_generator('imdb-small')
    model, tok = api.AutoModelForCausalLM.from_pretrained('imdb-small'), api.AutoTokenizer.from_pretrained('imdb-small')
    batch = tok(prompt, return_tensors='pt')
    logits, own = gen.read([batch['input_ids'][0].tolist()]), []
    for _ in range(20):
        own.append(int(logits.argmax()))
        logits = gen.step(torch.tensor([[own[-1]]]))
    wrote = model.generate(**batch, max_new_tokens=20, do_sample=False)[0][batch['input_ids'].shape[1]:].tolist()
    assert wrote == own[:len(wrote)] and len(wrote) > 3
    write = api.pipeline('text-generation', model='imdb-small')
    text = write(prompt, max_new_tokens=20, do_sample=False)[0]['generated_text']
    assert text.startswith(prompt + ' ') and text == prompt + tok.decode(wrote, skip_special_tokens=True)
    set_seed(3)
    assert len(write(prompt, max_new_tokens=5, do_sample=True, num_return_sequences=3)) == 3

def test_beams_agree_with_reading_all_of_it():
    model, tok = api.ULMFiTForCausalLM.from_pretrained(small_lm()), api.ULMFiTTokenizer.from_pretrained(small_lm())
    model.generation_config.eos_token_id = None
    out = model.generate(**tok('the film', return_tensors='pt'), num_beams=3, max_new_tokens=3, do_sample=False, return_dict_in_generate=True, output_scores=True)
    with torch.no_grad(): logp = model(out.sequences).logits[0].log_softmax(1)
    n, ids = len(tok('the film')['input_ids']), out.sequences[0]
    assert float(out.sequences_scores[0]) == pytest.approx(float(sum(logp[i-1, ids[i]] for i in range(n, len(ids))))/3, abs=1e-4)
    assert not set(ids[n:].tolist()) & set(model.config.banned)

# --- training

def trained(model, tok, rows, tmp_path, **kw):
    args = api.TrainingArguments(str(tmp_path), max_steps=6, per_device_train_batch_size=4, learning_rate=2e-2, report_to='none', save_strategy='no',
                                 logging_strategy='no', use_cpu=True, disable_tqdm=True, seed=1)
    before = {k: v.clone() for k,v in model.state_dict().items()}
    trainer = api.Trainer(model, args, train_dataset=rows, eval_dataset=rows, processing_class=tok, **kw)
    first = trainer.evaluate()['eval_loss']
    trainer.train()
    assert any(not torch.equal(v, before[k]) for k,v in model.state_dict().items())
    return first, trainer.evaluate()['eval_loss']

def test_a_trainer_for_every_head(tmp_path):
    texts, labels = ['a good film .', 'the bad film was no good', 'good !', 'bad . bad .']*2, [1, 0]*4
    tok, named = api.ULMFiTTokenizer.from_pretrained(small_lm()), dict(id2label={0: 'neg', 1: 'pos'}, label2id=dict(neg=0, pos=1))
    rows = [dict(tok(t), label=l) for t,l in zip(texts, labels)]
    model = api.ULMFiTForSequenceClassification.from_pretrained(small_lm(), num_labels=2, direction=None, **named)
    first, last = trained(model, tok, rows, tmp_path/'a')
    assert last < first
    model.save_pretrained(tmp_path/'clas'); tok.save_pretrained(tmp_path/'clas')
    said = api.pipeline('text-classification', model=str(tmp_path/'clas'))(texts[:2])
    assert {o['label'] for o in said} <= {'neg', 'pos'}
    model = api.ULMFiTForCausalLM.from_pretrained(small_lm())
    first, last = trained(model, tok, [tok(t) for t in texts], tmp_path/'b', data_collator=api.DataCollatorForLanguageModeling(tok, mlm=False))
    assert last < first and model.lm_head.weight is model.ulmfit.networks[0].encoder.weight

def test_names_are_learned_and_found(tmp_path):
    sentences, tok = ['bob went to paris .', 'the film was good .', 'paris was bad !', 'no bob !'], api.ULMFiTTokenizer.from_pretrained(small_lm())
    tags = {'bob': 1, 'paris': 2}
    def row(text):
        split = text.split()
        enc = tok(split, is_split_into_words=True)
        return dict(enc, labels=[-100 if w is None else tags.get(split[w], 0) for w in enc.word_ids()])
    names = dict(enumerate(('O', 'B-PER', 'B-LOC')))
    model = api.ULMFiTForTokenClassification.from_pretrained(small_lm(), id2label=names, label2id={v: k for k,v in names.items()})
    first, last = trained(model, tok, [row(s) for s in sentences]*3, tmp_path, data_collator=api.DataCollatorForTokenClassification(tok))
    assert last < first
    model.save_pretrained(tmp_path/'tags'); tok.save_pretrained(tmp_path/'tags')
    find = api.pipeline('token-classification', model=str(tmp_path/'tags'), aggregation_strategy='simple', ignore_labels=[])
    text = 'Bob WENT to Paris.'
    found = find(text)
    assert [text[o['start']:o['end']] for o in found if o['end'] > o['start']] and max(o['end'] for o in found) == len(text)

# --- names, the Hub's cache, what cannot be

def test_a_hub_name_from_the_cache_alone(tmp_path):
    def put(name, write):
        folder = tmp_path/'hub'/f"models--{name.replace('/', '--')}"
        (folder/'refs').mkdir(parents=True)
        (folder/'refs'/'main').write_text('a'*40)
        write(folder/'snapshots'/('a'*40))
    def saved(folder):
        for o in (api.ULMFiTForSequenceClassification, api.ULMFiTTokenizer): o.from_pretrained(small_classifier()).save_pretrained(folder)
    put('anna/bundle', lambda f: (f.parent.mkdir(), save_checkpoint(f, small_classifier())))
    put('anna/saved', saved)
    told = in_new_process('''
        from ulmfit_course import transformers_api as api
        for name in ('anna/bundle', 'anna/saved'):
            tok, model = api.AutoTokenizer.from_pretrained(name), api.AutoModelForSequenceClassification.from_pretrained(name)
            print(round(float(model(**tok('a good film', return_tensors='pt')).logits[0, 0].detach()), 4))
        try: api.ULMFiTModel.from_pretrained('anna/nowhere')
        except api.CourseError as e: print('CourseError', len(str(e).splitlines()))''', HF_HOME=str(tmp_path), HF_HUB_OFFLINE='1')
    assert told[0] == told[1] and told[2:] == ['CourseError', '1']

@pytest.mark.parametrize('call,error', [
    (lambda: api.ULMFiTModel.from_pretrained('nowhere'), 'no pretrained model'),
    (lambda: api.ULMFiTModel.from_pretrained('imdb-small', direction='up'), 'reads fwd'),
    (lambda: api.ULMFiTForCausalLM.from_pretrained('wiki-small', direction='both'), 'take a forward model'),
    (lambda: api.ULMFiTForCausalLM.from_pretrained(small_classifier()), 'name a language model'),
    (lambda: api.AutoModelForSequenceClassification.from_pretrained(small_classifier(), num_labels=4), 'knows 2 labels and 4'),
    (lambda: api.AutoModel.from_pretrained(small_lm(), drop=1), "unknown setting 'drop'"),
    (lambda: api.ULMFiTTokenizer.from_pretrained(small_lm())('a', 'b'), 'read one text'),
    (lambda: api.ULMFiTTokenizer.from_pretrained(small_lm())([1.5]), 'must be a string'),
    (lambda: api.pipeline('summarization', model='imdb-small'), "does not do 'summarization'")])
def test_what_cannot_be_gets_one_line(call, error):
    with pytest.raises(CourseError, match=error) as e: call()
    assert '\n' not in str(e.value)

# --- torchvision, and Transformers itself

fake = {'__init__.py': "__version__ = '0.28.0'\n", 'transforms/__init__.py': '''from enum import Enum
class InterpolationMode(Enum): NEAREST, NEAREST_EXACT, BILINEAR, BICUBIC, BOX, HAMMING, LANCZOS = range(7)
''', 'transforms/functional.py': 'pil_to_tensor = None\n', 'transforms/v2/__init__.py': '', 'io/__init__.py': '', 'transforms/v2/functional.py': ''}

@pytest.mark.parametrize('state', ['whole', 'broken', 'absent'])
def test_torchvision(state, tmp_path):
    if state != 'absent':
        for name, text in fake.items():
            (tmp_path/'torchvision'/name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path/'torchvision'/name).write_text(text if state == 'whole' else "raise RuntimeError('operator torchvision::nms does not exist')\n")
    told = in_new_process(f'''
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        if {state!r} == 'absent': sys.modules['torchvision'] = None
        import transformers
        try: transformers.PreTrainedModel; print('ready')
        except Exception: print('stumbles')
        from ulmfit_course import transformers_api as api
        api.Trainer; api.pipeline
        print(api.is_torchvision_available())
        try: import torchvision; print('there')
        except RuntimeError: print('its-own-error')
        except ImportError: print('none')''')
    assert told == dict(whole=['ready', 'True', 'there'], broken=['stumbles', 'False', 'its-own-error'], absent=['ready', 'False', 'none'])[state]

def test_without_transformers_one_line_says_what_to_install():
    told = in_new_process('''
        import sys
        import ulmfit_course.cli
        print('transformers' in sys.modules)
        sys.modules['transformers'] = None
        try: import ulmfit_course.transformers_api
        except Exception as e: print(type(e).__name__, str(e).replace(' ', '_'))''')
    assert told == ['False', 'CourseError', 'Transformers_is_not_installed:_pip_install_"ulmfit_course[transformers]"']

def test_odd_texts_have_places_and_words():
    import random
    rng, tok = random.Random(0), api.ULMFiTTokenizer.from_pretrained(small_lm())
    bits = ['xxrep', 'xxwrep', '0', '3', '12345x', 'no', 'No no no', '!!!!', '<br />', '&eacute;', 'İ', 'ﬀ', '\n\n', '\u200b', '🎈', 'xxbos', 'xxmaj', "n't", '...', '…', ' ', '  ', '\x00', '▁', '##a']
    for _ in range(400):
        text = rng.choice(['', ' ']).join(rng.choices(bits, k=rng.randint(0, 9)))
        one = tok(text).encodings[0]
        assert all(0 <= s <= e <= len(text) for s,e in one.offsets) and [s for s,_ in one.offsets] == sorted(s for s,_ in one.offsets)
        assert len({len(getattr(one, k)) for k in ('tokens', 'ids', 'offsets', 'word_ids', 'special_tokens_mask', 'attention_mask')}) == 1
        words = text.split() or ['a']
        assert {w for w in tok(words, is_split_into_words=True).word_ids() if w is not None} == set(range(len(words)))
