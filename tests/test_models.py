"What a model is: tokenizers that come back from their configuration, checkpoints of both formats, and what is refused before any work"
import json, subprocess, sys, threading
from concurrent.futures import ThreadPoolExecutor
import numpy as np, pandas as pd, pytest, torch
from fastai.callback.core import Callback
from safetensors.torch import load_file, save_file
from ulmfit_course import models
from ulmfit_course.awd_lstm import language_model
from ulmfit_course.batching import lm_dataloaders
from ulmfit_course.classifier import train_classifier
from ulmfit_course.core import CourseError, set_seed, text_hash
from ulmfit_course.documents import text_classifier
from ulmfit_course.generation import generate
from ulmfit_course.inference import load_bundle, save_bundle
from ulmfit_course.learners import language_model_learner, text_classifier_learner
from ulmfit_course.lm_finetuning import finetune_lm
from ulmfit_course.loaders import classifier_dataloaders
from ulmfit_course.models import (Checkpoint, catalogue, directions_of, in_direction, list_models, load_checkpoint, load_config, load_pretrained, match_vocab, model_of,
    reverse_direction, save_checkpoint, tokenizer_name, tokenizer_of, words_en)
from ulmfit_course.pretraining import pretrain
from ulmfit_course.streams import TokenStream, own_vocab, tokenizer_for
from ulmfit_course.tokenization import WordTokenizer, lowercase, text_rules
from ulmfit_course.tokenizer_base import Tokenizer, known_rules, register_rule
from ulmfit_course.vocabulary import count_tokens, make_vocab

sizes = dict(emb_sz=10, n_hid=12, n_layers=2)
good, bad = 'great fun lovely superb touching'.split(), 'awful dull boring weak tedious'.split()

def reviews(n, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame([dict(text='The film was ' + ' and '.join(rng.choice(bad if i%2 else good, rng.integers(2, 6))) + '!', label='neg' if i%2 else 'pos') for i in range(n)])

def marked(t): return t.replace('!', ' xxmark ')

def own_rule(): return WordTokenizer(rules=[*text_rules, marked])

subwords = 'bpe', 'wordpiece', 'unigram'
kinds = 'words', 'characters', *subwords, 'words with a rule'

@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch): monkeypatch.setenv('ULMFIT_COURSE_HOME', str(tmp_path/'home'))

@pytest.fixture(autouse=True)
def own_rules():
    kept = dict(known_rules)
    yield
    known_rules.clear(); known_rules.update(kept)

@pytest.fixture(scope='module')
def toks(): return {k: own_rule() if k == 'words with a rule' else tokenizer_for(k, list(reviews(200).text), 60) for k in kinds}

def vocab_of(tok): return own_vocab(tok) or make_vocab(count_tokens(tok(reviews(60).text)), min_freq=1)

def checkpoint(tok, direction='fwd', stage='pretraining', **more):
    set_seed(0)
    vocab = vocab_of(tok)
    net = text_classifier(len(vocab), 2, sizes, **more['head']) if stage == 'classifier' else language_model(len(vocab), sizes)
    return Checkpoint(net.state_dict(), vocab, dict(format=2, stage=stage, arch=sizes, direction=direction, tokenizer=tok.config(), **more))

def refused(says, f, *args, **kw):
    "In one line"
    with pytest.raises(CourseError, match=says) as e: f(*args, **kw)
    assert '\n' not in str(e.value)

# Tokenizers

@pytest.mark.parametrize('kind', [*kinds, 'words de'])
def test_a_tokenizer_comes_back_from_its_configuration(toks, kind):
    tok = toks.get(kind) or WordTokenizer('de')
    again = Tokenizer.from_config(json.loads(json.dumps(tok.config())))
    texts = ['It "really" DIDN\'T work!!! No no no, GREAT <br /> films', '', *reviews(20, 1).text]
    assert type(again) is type(tok) and list(again(texts)) == list(tok(texts)) and again.name == tok.name
    assert tokenizer_name(again.config()) == tokenizer_name(tok.config()) and {**again.config(), 'model': 0} == {**tok.config(), 'model': 0}
    assert tok.config()['kind'] == kind.split()[0]
    assert [again.decode(t) for t in again(texts)] == [tok.decode(t) for t in tok(texts)]

def test_names_tell_models_apart_that_must_not_be_mixed(toks):
    names = {k: tokenizer_name(t.config()) for k,t in toks.items()} | {'words de': tokenizer_name(WordTokenizer('de').config())}
    assert names['words'] == 'words en' == names['words with a rule'] and names['characters'] == 'characters'
    assert len(set(names.values())) == len(names)-1
    other = tokenizer_for('bpe', list(reviews(200).text), 50)
    assert tokenizer_name(other.config()) != names['bpe']

def test_a_rule_of_ones_own_must_be_there_again(toks, tmp_path):
    folder = save_checkpoint(tmp_path/'m', checkpoint(toks['words with a rule']))
    assert load_checkpoint(folder).tokenizer.tokenize('Fun!') == ['xxbos', 'xxmaj', 'fun', 'xxmark']
    known_rules.pop('marked')
    refused(r"rule 'marked': define it and call register_rule\(marked\)", lambda: load_checkpoint(folder).tokenizer)
    refused('register_rule', generate, folder, 'Fun')
    register_rule(marked)
    assert load_checkpoint(folder).tokenizer.tokenize('Fun!') == toks['words with a rule'].tokenize('Fun!')

def test_in_a_new_process_the_rule_is_asked_for(toks, tmp_path):
    folder = save_checkpoint(tmp_path/'m', checkpoint(toks['words with a rule']))
    code = f'''
from ulmfit_course.core import CourseError
from ulmfit_course.models import load_checkpoint
from ulmfit_course.tokenizer_base import register_rule
try: load_checkpoint({str(folder)!r}).tokenizer
except CourseError as e: print(e)
@register_rule
def marked(t): return t.replace('!', ' xxmark ')
print(load_checkpoint({str(folder)!r}).tokenizer.tokenize('Fun!'))'''
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == 2 and 'call register_rule(marked) before you load the model' in said[0] and said[1] == "['xxbos', 'xxmaj', 'fun', 'xxmark']"

def test_a_rule_without_a_name_is_refused_before_the_text_is_read(tmp_path):
    seen = []
    refused('needs a name', TokenStream.build, (seen.append(t) or t for t in reviews(4).text), tmp_path/'s', WordTokenizer(rules=[lambda t: t]), n_procs=1)
    assert not seen and not list(tmp_path.iterdir())

def test_a_rule_may_not_take_the_name_of_one_of_the_courses():
    def lowercase(t): return t.upper()
    refused('lowercase is one of the course', register_rule, lowercase)
    refused('lowercase is one of the course', WordTokenizer(rules=[lowercase]).config)
    assert Tokenizer.from_config(words_en).rules is None

def test_unknown_kinds():
    refused("unknown tokenizer 'morse': choose one of words, characters, bpe, wordpiece, unigram", Tokenizer.from_config, dict(kind='morse'))
    refused("unknown tokenizer 'morse'", tokenizer_for, 'morse', ['a'], 100)
    refused('no subword tokenizer', Tokenizer.from_config, dict(kind='bpe', model='{}'))

@pytest.mark.parametrize('kind', kinds)
def test_a_stream_knows_what_cut_it(toks, tmp_path, kind):
    stream = TokenStream.build(reviews(40).text, tmp_path/'s', toks[kind], own_vocab(toks[kind]), min_freq=1, n_procs=1)
    again = TokenStream.load(tmp_path/'s')
    assert again.meta['tokenizer'] == toks[kind].config() and again.tokenizer.name == toks[kind].name == stream[:50].tokenizer.name
    assert again.tokenizer.tokenize('The film was fun!') == toks[kind].tokenize('The film was fun!')
    assert TokenStream(stream.ids, stream.vocab).tokenizer is None

def test_fastais_loaders_say_what_cut_their_texts():
    from fastai.text.all import BaseTokenizer, CategoryBlock, ColReader, DataBlock, TextBlock, TextDataLoaders
    kw = dict(text_col='text', label_col='label', valid_pct=0.2, bs=8, num_workers=0)
    assert tokenizer_of(TextDataLoaders.from_df(reviews(40), **kw)) == words_en
    block = DataBlock((TextBlock.from_df('text', rules=[lowercase, marked]), CategoryBlock), get_x=ColReader('text'), get_y=ColReader('label'))
    own = tokenizer_of(block.dataloaders(reviews(40), bs=8, num_workers=0))
    assert own == dict(words_en, rules=['lowercase', 'marked'])
    refused("cannot carry fastai's BaseTokenizer", tokenizer_of, TextDataLoaders.from_df(reviews(40), tok_tfm=BaseTokenizer(), **kw))

# Checkpoints

task = dict(kind='classification', labels=['neg', 'pos'], text_cols=['title', 'body'], label_col='verdict')
head = dict(lin_ftrs=8, bptt=20, max_len=60)

@pytest.mark.parametrize('direction', ['fwd', 'bwd'])
@pytest.mark.parametrize('kind', kinds)
def test_a_saved_model_keeps_tokenizer_direction_and_task(toks, tmp_path, kind, direction):
    ck = checkpoint(toks[kind], direction, 'classifier', task=task, head=head, card=dict(license='CC0'))
    again = load_checkpoint(save_checkpoint(tmp_path/'m', ck))
    assert (again.direction, again.backwards, again.task, again.vocab) == (direction, direction == 'bwd', task, ck.vocab)
    assert again.config == ck.config and again.config['format'] == 2
    assert all(torch.equal(again.weights[k], v) for k,v in ck.weights.items())
    assert list(again.tokenizer(reviews(9).text)) == list(toks[kind](reviews(9).text))
    assert (tmp_path/'m'/'tokenizer.json').exists() == (kind in subwords)
    written = json.loads((tmp_path/'m'/'config.json').read_text())
    assert 'model' not in written['tokenizer'] and written['direction'] == direction
    if kind in subwords: assert (tmp_path/'m'/'tokenizer.json').read_text() == toks[kind].model.to_str()

@pytest.mark.parametrize('kind', kinds)
def test_repr_is_one_line(toks, kind):
    lm, clas = checkpoint(toks[kind]), checkpoint(toks[kind], 'bwd', 'classifier', task=task, head=head)
    for ck in (lm, clas): assert '\n' not in repr(ck) and len(repr(ck)) < 200 and tokenizer_name(toks[kind].config()) in repr(ck)
    assert repr(lm).startswith('Checkpoint(pretraining, fwd, ') and '10/12 x 2' in repr(lm)
    assert repr(clas).startswith('Checkpoint(classifier, bwd, ') and repr(clas).endswith('classification of neg, pos)')

def test_but_and_matched_words_leave_the_rest(toks):
    ck = checkpoint(toks['bpe'], task=task)
    other = ck.but(stage='lm_finetuning')
    assert (ck.config['stage'], other.config['stage']) == ('pretraining', 'lm_finetuning') and other.tokenizer.name == ck.tokenizer.name and other.task == task
    assert match_vocab(ck, ck.vocab[::-1]).config == ck.config == reverse_direction(reverse_direction(ck)).config

def first_format(folder, ck, **config):
    "A folder as the course wrote it before models knew their tokenizer"
    save_checkpoint(folder, ck)
    kept = json.loads((folder/'config.json').read_text())
    (folder/'config.json').write_text(json.dumps(dict(config, vocab_hash=kept['vocab_hash'], tied=kept['tied'])))
    return folder

@pytest.mark.parametrize('backwards', [False, True])
def test_a_language_model_of_the_first_format_is_upgraded(toks, tmp_path, backwards):
    ck = checkpoint(toks['words'], 'bwd' if backwards else 'fwd')
    old = first_format(tmp_path/'old', ck, arch=sizes, stage='lm_finetuning', backwards=backwards, card=dict(corpus='reviews', licence='CC0', tokens_seen=7))
    new = load_checkpoint(old)
    card = dict(corpus='reviews', license='CC0', tokens_seen=7)
    assert new.config == dict(format=2, stage='lm_finetuning', arch=sizes, direction=ck.direction, tokenizer=words_en, card=card)
    assert all(torch.equal(new.weights[k], v) for k,v in ck.weights.items()) and new.tokenizer.name == WordTokenizer().name
    assert load_config(old)[0]['direction'] == ck.direction
    (tmp_path/'home').mkdir(); (tmp_path/'home'/'models').symlink_to(tmp_path)
    assert list_models()['old'] == dict(card, stage='lm_finetuning', direction=ck.direction, tokenizer='words en',
        words=sum(w != 'xxfake' for w in ck.vocab), bytes=sum(f.stat().st_size for f in old.iterdir()))
    assert load_checkpoint(save_checkpoint(tmp_path/'new', new)).config == new.config
    x = torch.arange(8)[None]
    with torch.no_grad(): assert torch.equal(model_of(load_pretrained('old')).eval()(x)[0], model_of(ck).eval()(x)[0])

def test_a_classifier_of_the_first_format_still_answers(toks, tmp_path):
    set_seed(1)
    vocab = vocab_of(toks['words'])
    model = text_classifier(len(vocab), 2, sizes, lin_ftrs=None, bptt=20, max_len=60).eval()
    head = dict(lin_ftrs=None, bptt=20, max_len=60)   # of the first format, beside the rest
    now = save_checkpoint(tmp_path/'now', Checkpoint(model.state_dict(), vocab, dict(format=2, stage='classifier', arch=sizes, direction='fwd', tokenizer=words_en, head=head,
        task=dict(kind='classification', labels=['neg', 'pos'], text_cols=['text'], label_col='label'), card=dict(license='CC0'))))
    old = first_format(tmp_path/'old', load_checkpoint(now), stage='classifier', arch=sizes, backwards=False, labels=['neg', 'pos'], **head, card=dict(licence='CC0'))
    assert load_checkpoint(old).config == load_checkpoint(now).config
    texts = list(reviews(12, 3).text)
    assert np.array_equal(load_bundle(old).probabilities(texts), load_bundle(now).probabilities(texts))
    first_format(old/'also', load_checkpoint(now), stage='classifier', arch=sizes, backwards=True, labels=['neg', 'pos'], **head, card=dict(licence='CC0'))
    assert [m.direction for m in load_bundle(old).members] == ['fwd', 'bwd']

def test_the_models_that_ship_know_what_they_are():
    for name in ('wiki-small', 'wiki-small-backwards', 'imdb-small', 'imdb-small-backwards'):
        card, ck = list_models()[name], load_pretrained(name)
        assert ck.config['format'] == 2 and ck.config['tokenizer'] == words_en and ck.task is None
        assert ck.direction == card['direction'] == ('bwd' if 'backwards' in name else 'fwd') and 'license' in card
        assert [c['epoch'] for c in card['curve']] == list(range(1, len(card['curve'])+1))

# What a folder may hold

@pytest.fixture
def whole(toks, tmp_path): return save_checkpoint(tmp_path/'m', checkpoint(toks['words'], stage='classifier', task=task, head=head, card=dict(license='CC0')))

def kept(folder): return json.loads((folder/'config.json').read_text())

arch = lambda **kw: dict(arch=sizes | kw)
tok = lambda **kw: dict(tokenizer=words_en | kw)
of_task = lambda **kw: dict(task=task | kw)

@pytest.mark.parametrize('changes,says', [
    (dict(direction='up'), 'direction is .up., not one of fwd, bwd'), (dict(direction=None), 'direction is None'), (dict(direction=['fwd']), 'direction is'), (dict(stage=3), 'stage is 3'),
    (arch(emb_sz='10'), "arch.emb_sz is '10', not a whole number from 1"), (arch(n_hid=0), 'arch.n_hid'), (arch(n_hid=12.), 'arch.n_hid'), (arch(n_layers=True), 'arch.n_layers is True'), (arch(n_layers=10**6), 'arch.n_layers'),
    (arch(weight_p=1.5), 'arch.weight_p is 1.5, not a number from 0 to 1'), (arch(weight_p=float('nan')), 'arch.weight_p is nan'), (arch(tie_weights=1), 'arch.tie_weights is 1, not true or false'), (arch(bidir='no'), 'arch.bidir'),
    (arch(pad_token=99), 'arch.pad_token'), (arch(n_hidden=3), "arch has 'n_hidden', which is not known"), (dict(arch=None), 'arch is None, not a dictionary'), (dict(arch=[[[]]]), 'arch is'),
    (tok(kind=3), 'tokenizer.kind'), (tok(language=None), 'tokenizer.language'), (tok(language='../../x'), "not a language's code"), (tok(rules='lowercase'), 'tokenizer.rules'), (tok(rules=[1]), 'tokenizer.rules'), (tok(model=3), 'tokenizer.model'), (dict(tokenizer='words'), 'tokenizer is'),
    (of_task(labels=['neg']), 'task.labels'), (of_task(labels=['neg', 'neg']), 'task.labels'), (of_task(labels='neg'), 'task.labels'), (of_task(labels=[None, 'pos']), 'task.labels'), (of_task(labels=[['a'], ['b']]), 'task.labels'), (of_task(labels=[1., float('nan')]), 'task.labels'),
    (of_task(text_cols='title'), 'task.text_cols'), (of_task(text_cols=[]), 'task.text_cols'), (of_task(label_col=1), 'task.label_col'), (dict(task=None), 'task is None'),
    (dict(head=head | dict(bptt=0)), 'head.bptt is 0'), (dict(head=head | dict(max_len=0)), 'head.max_len'), (dict(head=head | dict(lin_ftrs=0)), 'head.lin_ftrs'), (dict(head=head | dict(lin_ftrs=[8])), 'head.lin_ftrs'), (dict(head=head | dict(ps=.5)), "head has 'ps'"),
    (dict(card=[]), 'card is'), (dict(card=dict(tokens_seen='many')), 'card.tokens_seen'), (dict(tied=[]), 'tied is'), (dict(tied=dict(a=1)), 'tied is'), (dict(vocab_hash=None), 'not the vocabulary')])
def test_a_configuration_is_of_its_form(whole, changes, says):
    (whole/'config.json').write_text(json.dumps(kept(whole) | changes))
    for f in (load_config, load_checkpoint, load_bundle, load_pretrained): refused(says, f, whole)

def test_a_tokenizer_without_rules(toks, tmp_path):
    folder = save_checkpoint(tmp_path/'m', checkpoint(WordTokenizer(rules=[])))
    assert load_checkpoint(folder).tokenizer.tokenize('A film') == ['A', 'film']

@pytest.mark.parametrize('kind', ['words', *subwords])
def test_a_tokenizer_keeps_its_rules(toks, tmp_path, kind):
    folder = save_checkpoint(tmp_path/'m', checkpoint(toks[kind]))
    (folder/'config.json').write_text(json.dumps(kept(folder) | dict(tokenizer={k: v for k,v in kept(folder)['tokenizer'].items() if k != 'rules'})))
    refused("tokenizer has no 'rules'", load_checkpoint, folder)

@pytest.mark.parametrize('name', ['direction', 'stage', 'arch', 'tokenizer', 'task', 'head'])
def test_an_entry_that_is_missing_is_named(whole, name):
    (whole/'config.json').write_text(json.dumps({k: v for k,v in kept(whole).items() if k != name}))
    refused(f"config.json: it has no '{name}'; restore", load_bundle, whole)

@pytest.mark.parametrize('raw', [b'null', b'[]', b'3', b'"x"', b'', b'[' * 200_000, b'{"a": ' * 30 + b'1' + b'}' * 30, b'\xff\xfe{}', b'{"format": 2' + b' ' * 2**25 + b'}'])
def test_what_is_no_configuration(whole, raw):
    (whole/'config.json').write_bytes(raw)
    for f in (load_config, load_checkpoint, load_bundle): refused('config.json', f, whole)

@pytest.mark.parametrize('words', [None, {}, 'xxunk', [], ['xxunk'], ['a', 'b'], ['xxunk', 1], ['xxunk', ['a']], ['xxunk', 'a', 'a'], ['xxunk', None]])
def test_what_is_no_vocabulary(whole, words):
    "Even where its hash fits"
    (whole/'vocab.json').write_text(json.dumps(words))
    try: (whole/'config.json').write_text(json.dumps(kept(whole) | dict(vocab_hash=text_hash(words))))
    except TypeError: pass
    refused('vocab.json: it is .*, not a list of different words, xxunk among them; restore', load_config, whole)

@pytest.mark.parametrize('said', ['false', 'true', 0, 1, None, []])
def test_backwards_of_the_first_format_is_true_or_false(toks, tmp_path, said):
    ck = checkpoint(toks['words'])
    old = first_format(tmp_path/'old', ck, arch=sizes, stage='pretraining', backwards=said)
    for f in (load_config, load_checkpoint, load_pretrained): refused('backwards is .*, not true or false', f, old)
    refused('not true or false', Checkpoint, ck.weights, ck.vocab, dict(arch=sizes, stage='pretraining', backwards=said))

def rewritten(folder, **changes):
    "Its weights with some of them others; `None` leaves one out"
    weights = load_file(folder/'model.safetensors') | changes
    save_file({k: v for k,v in weights.items() if v is not None}, folder/'model.safetensors')

name = '0.module.rnns.0.weight_hh_l0_raw'

@pytest.mark.parametrize('other,says', [
    (lambda w: None, 'is nothing where 48 x 12 belongs'), (lambda w: w[1:], 'is 47 x 12 where 48 x 12 belongs'), (lambda w: w.mT.contiguous(), 'is 12 x 48 where'), (lambda w: w.flatten(), 'is 576 where'),
    (lambda w: w.to(torch.int8), '48 x 12, whole numbers where 48 x 12 belongs'), (lambda w: w > 0, 'whole numbers'), (lambda w: w.to(torch.complex64), 'whole numbers'),
    (lambda w: w/0, 'holds nan, inf'), (lambda w: w.index_fill(0, torch.tensor(3), float('inf')), 'holds nan, inf'), (lambda w: w - 1e30, 'beyond a million')])
def test_a_weight_that_does_not_fit_is_named(whole, other, says):
    rewritten(whole, **{name: other(load_file(whole/'model.safetensors')[name])})
    for f in (load_checkpoint, load_bundle): refused(f'model.safetensors: .*{name} .*{says}', f, whole)

def test_more_about_weights(whole):
    rewritten(whole, more=torch.zeros(3))
    refused('more is 3 where nothing belongs', load_bundle, whole)
    rewritten(whole, more=None, **{'1.layers.0.0.running_var': torch.full((30,), -1.)})
    refused('running_var is negative', load_bundle, whole)
    rewritten(whole, **{'1.layers.0.0.running_var': torch.ones(30), '1.layers.0.0.num_batches_tracked': torch.zeros(())})
    refused('num_batches_tracked is one number where one number, whole numbers belongs', load_bundle, whole)

@pytest.mark.parametrize('bits', [16, 8])
def test_half_and_quarter_weights_are_held_against_the_network_too(toks, tmp_path, bits):
    folder = save_checkpoint(tmp_path/'m', checkpoint(toks['words']), bits)
    scale = '0.rnns.0.weight_hh_l0_raw.scale'
    assert load_checkpoint(folder).config['arch'] == sizes
    for wrong in (torch.ones(3), torch.ones(48, 1), None) if bits == 8 else ():
        rewritten(folder, **{scale: wrong})
        refused('weight_hh_l0_raw', load_checkpoint, folder)
    rewritten(folder, **({scale: torch.full((48,), float('nan'))} if bits == 8 else {'1.decoder.bias': torch.full((len(load_config(folder)[1]),), float('nan'))}))
    refused('holds nan', load_checkpoint, folder)

def test_a_model_of_nothing_does_not_take_the_place_of_a_good_one(toks, tmp_path):
    ck = checkpoint(toks['words'])
    folder = save_checkpoint(tmp_path/'m', ck)
    for bits in (32, 16, 8): refused('training diverged; nothing was written', save_checkpoint, folder, Checkpoint(ck.weights | {'1.decoder.bias': ck.weights['1.decoder.bias']/0}, ck.vocab, ck.config), bits)
    assert torch.equal(load_checkpoint(folder).weights['1.decoder.bias'], ck.weights['1.decoder.bias'])

def bomb(raw_header, n=0):
    raw = json.dumps(raw_header).encode()
    return len(raw).to_bytes(8, 'little') + raw + bytes(n)

def test_a_small_file_takes_little_memory_and_time(whole):
    "In a process of its own, after a model that is whole: what the largest sizes ask for is found out before any of it is there"
    good, weights = kept(whole), (whole/'model.safetensors').read_bytes()
    place = lambda shape, end: dict(dtype='F32', shape=shape, data_offsets=[0, end])
    large = [10**5, 10**5]
    cases = [(good | c, weights) for c in (arch(emb_sz=10**6), arch(n_hid=20_000), arch(emb_sz=65_536, n_hid=65_536, n_layers=100), dict(head=dict(lin_ftrs=65_536)), of_task(labels=[*map(str, range(10**5))]), dict(tied={}))]
    cases += [(good, bomb({'0.module.encoder.weight': place(large, 4)}, 4)), (good, bomb({'0.module.encoder.weight': place(large, 4*10**10)}, 4)), (good, bomb({f'w{i}': place([0], 0) for i in range(20_000)})), (good, (10**15).to_bytes(8, 'little'))]
    (whole.parent/'cases.json').write_text(json.dumps([(json.dumps(c), w.hex()) for c,w in cases]))
    code = f"""import json, time, pathlib
from ulmfit_course.core import CourseError, peak_rss_mb
from ulmfit_course.inference import load_bundle
folder = pathlib.Path({str(whole)!r})
load_bundle(folder)
for config, weights in json.loads((folder.parent/'cases.json').read_text()):
    (folder/'config.json').write_text(config); (folder/'model.safetensors').write_bytes(bytes.fromhex(weights))
    before, start = peak_rss_mb(), time.perf_counter()
    try: load_bundle(folder); print('loaded')
    except CourseError as e: print(len(str(e).splitlines()), peak_rss_mb()-before < 50, time.perf_counter()-start < 10, e)"""
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == len(cases) and all(s.startswith('1 True True ') for s in said), said

def test_a_reader_beside_a_writer(toks, tmp_path):
    "Two models of other words and sizes take turns in one folder; what is read is always one of them, whole"
    big = dict(sizes, n_hid=16)
    one = checkpoint(toks['words'])
    vocab = [*one.vocab, 'more']
    two = Checkpoint(language_model(len(vocab), big).state_dict(), vocab, dict(one.config, arch=big))
    folder, stop, seen = save_checkpoint(tmp_path/'m', one), threading.Event(), []
    def write():
        for i in range(10**6):
            if stop.is_set(): break
            save_checkpoint(folder, (one, two)[i%2])
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        for _ in range(60):
            try: ck = load_checkpoint(folder)
            except CourseError as e:
                assert 'while it was read' in str(e)
                continue
            assert ck.weights['0.rnns.0.weight_hh_l0_raw'].shape[1] == ck.config['arch']['n_hid'] and len(ck.vocab) == len(ck.weights['1.decoder.bias'])
            seen.append(len(ck.vocab))
        stop.set()
    writing.result()
    assert len(seen) > 30 and len(set(seen)) == 2

def test_a_folder_that_never_rests_is_said(whole, monkeypatch):
    calmly, n = models.load_config, []
    def written(path):
        n.append(1)
        (whole/f'{len(n)}.txt').touch()
        return calmly(path)
    monkeypatch.setattr(models, 'load_config', written)
    refused('written anew while it was read', load_checkpoint, whole)
    assert len(n) == 100

# By name

def test_one_broken_folder_is_in_nobodys_way(toks, tmp_path):
    home, ck = tmp_path/'home'/'models', checkpoint(toks['words'])
    save_checkpoint(home/'mine', ck)
    for name, raw in (('null', 'null'), ('half', '{"format": 2'), ('deep', '['*99_999), ('.mine.stray', (home/'mine'/'config.json').read_text())):
        (home/name).mkdir()
        (home/name/'config.json').write_text(raw)
        (home/name/'vocab.json').write_text('[]')
    save_checkpoint(home/'mine-backwards', ck.but(direction='bwd'))
    (home/'mine-backwards'/'model.safetensors').unlink()
    assert {'mine', 'wiki-small'} <= set(list_models()) == set(catalogue().index) and not {'null', 'half', 'deep', '.mine.stray', 'mine-backwards'} & set(list_models())
    assert load_pretrained('mine').vocab == ck.vocab and directions_of('mine') == ['fwd'] and in_direction('mine', 'fwd').direction == 'fwd'
    refused('choose one of .*mine', load_pretrained, 'none')
    for name in ('null', 'half', 'deep'): refused(f'{name}.*missing', load_pretrained, name)
    refused('mine-backwards.*missing', in_direction, 'mine-backwards', 'bwd')
    refused('null.*missing', directions_of, 'null')

def test_a_path_is_a_folder_and_a_name_is_of_the_catalogue(toks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ck = checkpoint(toks['words'])
    save_checkpoint(tmp_path/'imdb-small', ck)
    for name in ('./imdb-small', tmp_path/'imdb-small', str(tmp_path/'imdb-small'), 'imdb-small/', '../' + tmp_path.name + '/imdb-small'):
        assert load_pretrained(name).vocab == ck.vocab and directions_of(name) == ['fwd'] and in_direction(name, 'fwd').vocab == ck.vocab
    for name in ('imdb-small', models.Path('imdb-small')): assert len(load_pretrained(name).vocab) == 16_000
    assert load_pretrained(save_checkpoint('mine', ck)).vocab == load_pretrained('mine').vocab == ck.vocab   # what the catalogue does not have
    refused('no pretrained model', load_pretrained, './wiki-small')
    for f in (load_pretrained, load_bundle, load_checkpoint): refused('no pretrained model|is missing', f, 'x'*5000)

def test_a_direction_is_known_without_weights(monkeypatch):
    def none(*args, **kw): raise AssertionError('read')
    for f in ('safe_open', 'untar_data'): monkeypatch.setattr(models, f, none)
    assert directions_of('imdb-small') == directions_of('wikitext-103') == ['fwd', 'bwd']
    assert directions_of('imdb-small-backwards') == directions_of('wikitext-103-backwards') == ['bwd']

def test_what_is_no_checkpoint_is_said_in_one_line(toks, tmp_path):
    folder = save_checkpoint(tmp_path/'m', checkpoint(toks['bpe']))
    config, pieces = ((folder/f).read_text() for f in ('config.json', 'tokenizer.json'))
    def with_config(**changes): (folder/'config.json').write_text(json.dumps(json.loads(config) | changes))
    for form in (3, '2', None):
        with_config(format=form)
        refused(f"format {form!r}: this version of the course knows formats 1 and 2", load_checkpoint, folder)
        refused('update it', generate, folder, 'The')
    with_config()
    (folder/'tokenizer.json').unlink()
    for f in (load_checkpoint, load_config, load_pretrained): refused('tokenizer.json is missing', f, folder)
    (folder/'tokenizer.json').write_text('{"model": 3}')
    refused('no subword tokenizer', lambda: load_checkpoint(folder).tokenizer)
    (folder/'tokenizer.json').write_text(pieces)
    assert load_checkpoint(folder).tokenizer.name == toks['bpe'].name
    (folder/'config.json').write_text(config[:-20])
    refused('broken', load_checkpoint, folder)
    (folder/'config.json').write_text(config)
    (folder/'vocab.json').write_text(json.dumps(['xxunk', 'a']))
    refused('not the vocabulary', load_checkpoint, folder)

# Refused before any work

class Ran(Callback):
    "Did any fit begin?"
    def __init__(self, seen): self.seen = seen
    def before_fit(self): self.seen.append('fit')

@pytest.fixture
def streams(toks, tmp_path):
    def build(kind):
        tok = toks[kind]
        train = TokenStream.build(reviews(80).text, tmp_path/f'{kind}-train', tok, own_vocab(tok), min_freq=1, n_procs=1)
        return train, TokenStream.build(reviews(40, 1).text, tmp_path/f'{kind}-valid', tok, train.vocab, n_procs=1)
    return build

def untouched(tmp_path, seen): return not seen and not [p for p in tmp_path.iterdir() if p.name.startswith('out')]

@pytest.mark.parametrize('model,text', [('words', 'characters'), ('words', 'bpe'), ('characters', 'words'), ('bpe', 'unigram'), ('wordpiece', 'bpe')])
def test_another_tokenizer_is_refused(toks, streams, tmp_path, model, text):
    ck, (train, valid), seen = checkpoint(toks[model]), streams(text), []
    says = f"{tokenizer_name(toks[model].config())}.*{tokenizer_name(toks[text].config())}|{tokenizer_name(toks[text].config())}.*{tokenizer_name(toks[model].config())}"
    same_words = Checkpoint(language_model(len(train.vocab), sizes).state_dict(), train.vocab, ck.config)   # nothing but the tokenizer tells
    for start in (ck, same_words):
        refused(says, finetune_lm, start, train, valid, tmp_path/'out', bs=4, seq_len=16, bar=False, cbs=[Ran(seen)])
        refused(says, pretrain, train, valid, tmp_path/'out', start=start, bs=4, seq_len=16, bar=False, cbs=[Ran(seen)])
        refused(says, language_model_learner, lm_dataloaders(train, valid, 4, 16), start, cbs=[Ran(seen)])
        dls = classifier_dataloaders(reviews(20), reviews(8, 1), train.vocab, tok=toks[text], bs=4)
        refused(says, text_classifier_learner, dls, start, cbs=[Ran(seen)])
        refused(says, text_classifier_learner(dls, None, config=sizes).load_encoder, start)
    assert untouched(tmp_path, seen)

def test_another_direction_is_refused(toks, streams, tmp_path):
    (train, valid), seen = streams('words'), []
    ck = checkpoint(toks['words'], 'bwd')
    ck = Checkpoint(language_model(len(train.vocab), sizes).state_dict(), train.vocab, ck.config)
    refused('reads backwards and the text comes forwards', finetune_lm, ck, train, valid, tmp_path/'out', bs=4, seq_len=16, bar=False, cbs=[Ran(seen)])
    refused("direction='sideways': choose one of fwd, bwd", finetune_lm, ck, train, valid, tmp_path/'out', direction='sideways', cbs=[Ran(seen)])
    refused("direction='both'", pretrain, train, valid, tmp_path/'out', direction='both', cbs=[Ran(seen)])
    refused('reads backwards', language_model_learner, lm_dataloaders(train, valid, 4, 16), ck, cbs=[Ran(seen)])
    refused('loaders give the text forwards', language_model_learner, lm_dataloaders(train, valid, 4, 16), ck, backwards=True, cbs=[Ran(seen)])
    fit = lambda learn, recipe: seen.append('fit')
    refused('reads backwards', train_classifier, reviews(20), model=ck, fit=fit, at=seen.append)
    refused('reads backwards', train_classifier, reviews(20), model=ck, direction='both', fit=fit, at=seen.append)
    refused("direction='sideways': choose one of fwd, bwd, both", train_classifier, reviews(20), model=ck, direction='sideways', fit=fit)
    refused('backward model', generate, ck, 'The')
    assert untouched(tmp_path, seen)
    assert train_classifier(reviews(20), model=ck, direction='bwd', fit=fit, bs=8).backwards and seen == ['fit']

def test_another_vocabulary_is_refused(toks, tmp_path):
    seen, words = [], ' '.join(f'w{i} w{i}' for i in range(60))
    train = TokenStream.build([words]*20, tmp_path/'train', min_freq=1, n_procs=1)
    valid = TokenStream.build([words]*4, tmp_path/'valid', vocab=train.vocab, n_procs=1)
    greek = make_vocab(['α', 'β', 'γ'], [9, 9, 9])
    ck = checkpoint(toks['words'])
    ck = Checkpoint(language_model(len(greek), sizes).state_dict(), greek, ck.config)
    refused('the model knows', finetune_lm, ck, train, valid, tmp_path/'out', bs=4, seq_len=16, bar=False, cbs=[Ran(seen)])
    refused('vocab=start.vocab', pretrain, train, valid, tmp_path/'out', start=ck, bs=4, seq_len=16, bar=False, cbs=[Ran(seen)])
    refused('the model knows', language_model_learner, lm_dataloaders(train, valid, 4, 16), ck, verbose=False, cbs=[Ran(seen)])
    refused('the model knows', text_classifier_learner, classifier_dataloaders(reviews(20), reviews(8), train.vocab, bs=4), ck, verbose=False, cbs=[Ran(seen)])
    assert untouched(tmp_path, seen)

def test_other_rules_of_the_same_words_are_taken_and_kept(toks):
    "They cut the same language into words that the model mostly knows; what is saved is what was trained on"
    plain = checkpoint(toks['words'])
    dls = classifier_dataloaders(reviews(20), reviews(8), plain.vocab, tok=toks['words with a rule'], bs=4)
    learn = text_classifier_learner(dls, plain, verbose=False)
    assert learn.checkpoint().tokenizer.name == toks['words with a rule'].name

# The whole way

@pytest.mark.parametrize('kind', kinds)
def test_from_nothing_to_a_label_with_every_tokenizer(toks, streams, tmp_path, kind):
    train, valid = streams(kind)
    same = dict(epochs=1, bs=8, seq_len=32, bar=False)
    first = pretrain(train, valid, tmp_path/'first', config=sizes, **same)
    second = finetune_lm(tmp_path/'first', train, valid, tmp_path/'second', **same)
    assert first.tokenizer.name == second.tokenizer.name == toks[kind].name
    learn = train_classifier(reviews(40), reviews(20, 1), model=tmp_path/'second', epochs=(1, 0, 0, 1), lr=2e-2, bs=10, lin_ftrs=8)
    assert learn.dls.train_ds.tls[0].tfms.fs[0].tok.name == toks[kind].name
    bundle = load_bundle(save_bundle(learn, tmp_path/'bundle'))
    texts = list(reviews(30, 2).text)
    theirs = learn.get_preds(dl=learn.dls.test_dl(texts))[0].numpy()
    assert np.abs(bundle.probabilities(texts) - theirs).max() < 1e-5
    assert np.allclose(learn.predict(texts[0])[2].numpy(), theirs[0], atol=1e-5)
    for model in (second, tmp_path/'second'): assert generate(model, 'The film', 12, seed=1)[0].lower().startswith('the film')
    assert bundle.to_ids.tok.name == toks[kind].name
