"The tokenizer against fastai's own: real reviews, made-up traps, random mixtures; and whatever a notebook cell cannot show"
import html, multiprocessing as mp, os, pickle, random, signal, subprocess, sys, time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import psutil, pytest
from hypothesis import given, settings, strategies as st

from ulmfit_course import fast_tokens
from ulmfit_course.core import CourseError
from ulmfit_course.detokenization import detokenize
from ulmfit_course.fast_tokens import WordCache, tokenized
from ulmfit_course.subwords import SubwordTokenizer
from ulmfit_course.tokenization import CharTokenizer, WordTokenizer, apply_rules, fix_html, lowercase, replace_all_caps, replace_maj, text_rules
from ulmfit_course.tokenizer_base import Tokenizer, longest_signs, plain_text, spacy_words
from ulmfit_course.vocabulary import BOS, attention_mask, denumericalize, make_vocab, numericalize, pad, special_tokens, truncate, word_ids

traps = [
    '', ' ', '\n', '\t\n ', '.', 'a', 'A', 'I', '  two  spaces  ', 'a \n\n b', 'a\n b', 'a\n\n\nb', 'tab\tand\r\nreturn', 'a\xa0b \xa0 c', '\u2003wide\u2009thin\u3000',
    'a\x0bb\x0cc\x1cd\x85e\u2028f', 'zero\u200bwidth \u200d joiner\ufeff', 'soft\xadhyphen',
    'wow... really....', '......', 'a/b/c 10/10 #1 \\o/ C:\\new', '<br /><br />Then', 'x<br/>y', '&amp;&lt;3 &quot;q&quot; &nbsp; &#39;', '&amp;amp;', '#39; amp; #146; #36;5 quot;', '<unk> @.@ @-@ 3 @.@ 5',
    '!!! ??? --- ... *** ___', 'soooo goooood', 'AAAA aaaa 1111 4444 4', '4 4444', '4444 4444', '!!!go go go???', 'go go!!! go', 'ha ha ha', 'ha ha ha ha! ha', 'Ha HA ha', 'no\nno\nno', 'no no\n\nno', 'no  no no',
    'the the', 'a a a a', '4444  NO NO NO', 'xxrep', 'xxrep 3 !', 'xxrep xxrep !!!', 'XXREP XxMaj xxbos', 'xxunk xxpad xxfld 1', 'xxmaj xxmaj xxmaj',
    'Σ ΑΣ ΟΔΟΣ Σ. ΑΣ\u200b', 'ΑΣ\u0301Α', 'İstanbul ISTANBUL ß ǅ ŉ ﬃ', 'ÉCLAIR Éclair éclair', '日本語 映画 です', 'Привет МИР',
    '👍 👍👍👍 👨\u200d👩\u200d👧 :-) :) ;-) :D 8-) <3 </3', ': )', ':) )', '(:) :)', 'maybe:).', '( no no:) :)No.', "o '  !!! ) :)xxrep", "’’(¬_¬) :-/", ') :)8 0.0( :',
    '1000 1,000 1,000,000 3.14 10:30 5% $5 €5 5kg 10am 10a.m. 3pm 1980s', 'e.g. i.e. U.S.A. Mr. Dr. vs. a.m. etc.', "don't DON'T Don’t can't cannot won't I'm I’m it's its' o'clock 'tis y'all gonna wanna", "rock'n'roll ''quoted'' ``ticks`` “curly” ‘single’",
    'http://www.imdb.com/title/tt0094012/ www.x.com a@b.co @user', 'well-known sci-fi -- dash — em – en', 'McDonald iPhone IMDb CGI-heavy CGI\'s "CGI" (CGI) A-B', 'snake_case __init__ f(x)=y; [1] {2} ~~ ^^ ||', 'a' * 3000, 'word ' * 500]

@pytest.fixture(scope='module')
def fastai_tok():
    core = pytest.importorskip('fastai.text.core')
    return core.TokenizeWithRules(core.SpacyTokenizer())

@pytest.fixture(scope='module')
def tok(): return WordTokenizer()

@pytest.fixture(scope='module')
def reviews():
    from ulmfit_course.readers import imdb
    return imdb().text.tolist()

def different(texts, ours, theirs):
    "Where our tokens are not theirs; words that control how a text is read are taken apart for both"
    return [(t, o, list(r)) for t,o,r in zip(texts, ours(texts), theirs(map(plain_text, texts)), strict=True) if o != list(r)]

def test_only_control_words_are_taken_apart(reviews): assert [t for t in traps + reviews if plain_text(t) != t] == ['XXREP XxMaj xxbos', 'xxunk xxpad xxfld 1']

def test_traps(tok, fastai_tok): assert different(traps, tok, fastai_tok) == []

def slow():
    "A tokenizer as lesson 02 writes it, without the cache"
    plain = WordTokenizer()
    plain.cache = lambda t: spacy_words(plain.spacy, apply_rules(t))
    return plain

def test_traps_in_context(tok, fastai_tok):
    texts = [f'{a} {b}' for a in traps[-40:] for b in traps[::5]]
    assert different(texts, tok, fastai_tok) == []

@pytest.mark.parametrize('seed', [1, 2, 3])
def test_random_mixtures(tok, fastai_tok, seed):
    rng = random.Random(seed)
    pieces = [w for t in traps if len(t) < 1000 for w in t.split(' ')] + list(tok.spacy.rules) + list(''':)(-!?.'"/#4oO''')
    ends = [' ']*8 + ['', '', '\n', '  ', '\t', ' \n', '\n ', '\xa0', '\x1f', '\r\n']
    texts = [''.join(rng.choice(pieces) + rng.choice(ends) for _ in range(rng.randint(1, 25))) for _ in range(4000)]
    texts += [''.join(rng.choice(['go', '!!!', '4', '4444', 'NO', 'No', 'no', 'xxrep', ':)', ')', ':', '(', '-', '8', 'o', '.', 'a.m.', "'"])
                      + rng.choice([' ', ' ', '\n', '  ', '']) for _ in range(rng.randint(1, 14))) for _ in range(4000)]
    assert different(texts, tok, fastai_tok) == []

@pytest.mark.parametrize('lang', ['de', 'fr', 'es', 'it', 'ru'])
def test_other_languages(lang):
    core = pytest.importorskip('fastai.text.core')
    assert different(traps, WordTokenizer(lang), core.TokenizeWithRules(core.SpacyTokenizer(lang))) == []

def test_without_the_cache(fastai_tok, reviews):
    "What lesson 02 writes gives the tokens that the cache gives, and fastai's"
    assert different(traps + reviews[:100], slow(), fastai_tok) == []

def test_rules_equal_fastai(reviews):
    core = pytest.importorskip('fastai.text.core')
    assert [r.__name__ for r in text_rules] == [r.__name__ for r in core.defaults.text_proc_rules]
    for rule in text_rules:
        theirs = getattr(core, rule.__name__)
        assert [t for t in traps + reviews[:500] if rule(t) != theirs(t)] == []

def test_2000_reviews(tok, fastai_tok, reviews): assert different(reviews[::12][:2000], tok, fastai_tok) == []

def count_different(texts):
    from fastai.text.core import SpacyTokenizer, TokenizeWithRules
    return len(different(texts, WordTokenizer(), TokenizeWithRules(SpacyTokenizer())))

@pytest.mark.slow
def test_all_reviews(reviews):
    "All 25,000, fastai's tokens made afresh, in two processes"
    assert len(reviews) == 25_000
    with ProcessPoolExecutor(2, mp_context=mp.get_context('spawn')) as pool: assert list(pool.map(count_different, [reviews[::2], reviews[1::2]])) == [0, 0]

def test_same_when_memory_is_full(reviews, fastai_tok):
    small = WordTokenizer()
    small.cache = WordCache(small, room=40_000)
    assert different(reviews[:50], small, fastai_tok) == []
    assert 20 < len(small.cache.chunks) < 200 and 20 < len(small.cache.split.words) < 200

def test_custom_rules_equal_fastai(reviews):
    core = pytest.importorskip('fastai.text.core')
    ref = core.TokenizeWithRules(core.SpacyTokenizer(), rules=[core.replace_maj, core.lowercase])
    assert different(traps + reviews[:50], WordTokenizer(rules=[replace_maj, lowercase]), ref) == []

def test_worker_processes(tok, reviews):
    with mp.get_context('fork').Pool(2) as pool: assert pool.map(tok.tokenize, reviews[:20]) == list(tok(reviews[:20]))
    assert pickle.loads(pickle.dumps(tok)).tokenize(traps[-3]) == tok.tokenize(traps[-3])

def test_names_tell_settings_apart():
    def other(t): return t.lower()
    names = [WordTokenizer().name, WordTokenizer('de').name, WordTokenizer(rules=[lowercase]).name, WordTokenizer(rules=[other]).name, CharTokenizer().name]
    assert len(set(names)) == len(names)
    small = WordTokenizer()
    small.cache = WordCache(small, room=10)
    assert WordTokenizer().name == small.name
    assert CharTokenizer(None).name == CharTokenizer(text_rules).name != CharTokenizer([fix_html]).name == 'characters'

@pytest.mark.parametrize('bad', [None, 3, float('nan'), b'bytes', ['list']])
@pytest.mark.parametrize('t', [WordTokenizer(), CharTokenizer()])
def test_bad_text(t, bad):
    with pytest.raises(CourseError, match='must be a string') as e: list(t(['fine', bad]))
    assert '\n' not in str(e.value)

def test_bad_settings():
    with pytest.raises(CourseError, match='list of texts'): WordTokenizer()('one text')
    with pytest.raises(CourseError, match='no language'): WordTokenizer('xq')
    with pytest.raises(CourseError, match='without spaces'): WordTokenizer('zh')
    with pytest.raises(CourseError, match='no room'): make_vocab(['a'], [3], max_vocab=5)

def deep_size(memo): return sys.getsizeof(memo) + sum(sys.getsizeof(o) + sum(map(sys.getsizeof, o if isinstance(o, tuple) else ())) for kv in memo.items() for o in kv)

def test_memory_is_bounded_in_bytes():
    "Whatever comes, for however long: what is remembered has room, and spaCy's own words are forgotten"
    tok, rng = WordTokenizer(), random.Random(0)
    tok.cache = cache = WordCache(tok, room=500_000)
    cache.split.most = 2000
    strange = lambda: ''.join(rng.choices('ab1?!.\U0001f600é\u0416-:@', k=rng.choice((1, 5, 30, 300))))
    before = psutil.Process().memory_info().rss
    for _ in range(4000): tok.tokenize(f'{strange()} film {strange()}')
    for memo,room in ((cache.chunks, 500_000), (cache.split.words, 500_000), (cache.split.shapes, 62_500)):
        assert len(memo) > 10 and deep_size(memo) < room*1.2
    assert len(cache.split.spacy.vocab) < 2500 and cache.split.spacy is not tok.spacy
    assert psutil.Process().memory_info().rss - before < 60_000_000
    assert tok.tokenize("It's fine.") == WordTokenizer().tokenize("It's fine.")

signs = ['?!', ')(', '-=', '*-', '\U0001f600\U0001f602', '\u2603\u2602', "'s", '$€', '.,', ':)', '0.1.', 'ab', 'AB', 'A1', 'x@y.', 'http:', '&a', '#1', '$%', '(a', 'İ', '\u0301e', '__']
b64 = ''.join(random.Random(0).choices('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/', k=20_000))
junk = [s*(20_000//len(s)) for s in signs] + [b64, '\n'.join(b64[i:i+76] for i in range(0, 20_000, 76)), '.'.join(map(str, range(4000))), 'AB'*20_000 + 'x',
    'oow.jsp' + 'search.technology'*1000 + ':', 'a'*100_000, 'a b '*20_000, 'no '*20_000 + 'nox', 'a'*50_000 + ' ' + 'a'*50_000, ' \n'*20_000, '&'*20_000, 'amp;'*20_000, '<br />'*20_000, '&#' + '9'*20_000 + ';',
    ''.join(random.Random(0).choices('!?.,;:()-_*%$"', k=20_000)), 'xx'*20_000, 'xxbos'*5000]

@pytest.mark.parametrize('text', junk, ids=lambda t: ascii(t[:8]))
def test_time_grows_with_the_length(text):
    "A run without spaces costs no more than its length; the fast tokens are the slow ones"
    begin = time.process_time()
    toks = fast.tokenize(text)
    assert time.process_time() - begin < 4   # a second where nothing else runs
    assert toks == plain_words.tokenize(text)

@pytest.mark.parametrize('run', [s*300 for s in signs] + [b64.replace('/', '')[:600], 'ab1?'*5 + 'x'*300 + ':)'*99])
def test_fastais_tokens_up_to_the_cut(tok, fastai_tok, run):
    "The first token that differs reaches the cut, or in smileys the middle before it; behind the run the tokens are fastai's again"
    text = f"It's a {run} film, really :)"
    ours, theirs = tok.tokenize(text), list(list(fastai_tok([plain_text(text)]))[0])
    same = next((i for i,(a,b) in enumerate(zip(ours, theirs)) if a != b), None)
    assert same is None or len(''.join(theirs[:same+1])) > len("xxbosxxmajit'sa") + (longest_signs/2 if ':)' in run else longest_signs) - 8
    assert ours[-4:] == theirs[-4:] == ['film', ',', 'really', ':)']

@given(st.lists(st.one_of(st.sampled_from(traps[:60] + signs + [s*150 for s in signs] + list(special_tokens) + ['xxfake', 'XXBOS', '\ud83d', '\ude00', '&#120;xbos', 'xx&#1;pad']),
    st.text(max_size=20), st.text('?!.:)( aB1\n', max_size=400)), max_size=6), st.sampled_from(['', ' ', '\n']))
@settings(max_examples=300, deadline=None)
def test_fast_is_slow(pieces, between):
    text = between.join(pieces)
    assert fast.tokenize(text) == plain_words.tokenize(text)

fast, plain_words = WordTokenizer(), slow()

controls = ['xxunk', 'xxpad', 'xxbos', 'xxeos', 'xxfake']
typed = [*controls, *map(str.upper, controls), *map(str.title, controls), *(f'a{w}b' for w in controls), 'a xxbos. (xxpad) "xxeos" xxunk-like /xxfake/', 'x&#120;bos', '&#x78;&#X58;PAD', 'xx&#98;os', 'xxamp;#98;os',
    'xx#146;#98;os', 'xx&#1;bos', 'xxun\u212a', 'xxxbos', 'xxbbos', 'x xbos', 'xxbosxxpadxxeos', 'xx\\nbos', '&lt;xxbos&gt;', '[UNK] [PAD] [CLS] <pad> </s>', 'xxpad\ud83d', '_xxbos_', 'xx\u200bbos']

@pytest.mark.parametrize('text', typed)
def test_nobody_types_a_control_word(tok, everyone, text):
    "Only the first token begins a text, and none is padding, whoever cuts it; what a text says is still there"
    for t in (tok, plain_words, CharTokenizer(), *everyone):
        for said in (text, f'A film {text} indeed', f'{text}\n{text}'):
            toks = t.tokenize(said)
            allowed = {'xxunk'} if isinstance(t, SubwordTokenizer) else set()   # for a sign that it never saw
            assert toks[0] == BOS and not {*controls, '[UNK]'} - allowed & {*toks[1:]}
    assert not {1, 2} & {*numericalize(tok.tokenize(text), make_vocab(Counter(controls*9 + ['a'])))[1:]}

@pytest.fixture(scope='module')
def everyone(reviews): return [SubwordTokenizer.train(reviews[:100], kind, 1000) for kind in ('bpe', 'wordpiece', 'unigram')]

def test_marks_and_fields_may_be_typed(tok): assert tok.tokenize('xxmaj a xxrep 3 ! xxfld 1 xxup b') == [BOS, *'xxmaj a xxrep 3 ! xxfld 1 xxup b'.split()]

def test_rules_make_unknown_words_but_no_texts(tok): assert tok.tokenize('<unk>') == [BOS, 'xxunk'] and 'xxpad' not in word_ids(special_tokens)

def test_half_an_emoji(tok, everyone):
    for t in (tok, plain_words, CharTokenizer(), *everyone): assert t.tokenize('wow \ud83d') == t.tokenize('wow \ufffd') != t.tokenize('wow')
    assert tok.tokenize('\ud83d\ude00') == tok.tokenize('\U0001f600')

def test_capitals_as_fastai_at_any_length(reviews):
    core = pytest.importorskip('fastai.text.core')
    rng = random.Random(0)
    texts = [''.join(rng.choices('AB1.a \nÉ', k=rng.randint(0, 12))) for _ in range(5000)]
    assert [t for t in texts if replace_all_caps(t) != core.replace_all_caps(t)] == []

@pytest.mark.parametrize('made', [lambda: CharTokenizer([fix_html, shout]), lambda: CharTokenizer(None), lambda: CharTokenizer(), lambda: WordTokenizer(rules=[shout])])
def test_rules_go_with_the_configuration(made):
    t = made()
    again = Tokenizer.from_config(t.config())
    assert (again.rules, again.name, again.tokenize('A &lt;3 FILM')) == (t.rules, t.name, t.tokenize('A &lt;3 FILM'))

def shout(t): return t.upper()

def test_rules_of_pieces(reviews, tmp_path):
    t = SubwordTokenizer.train(reviews[:50], 'bpe', 300, rules=[shout])
    again = Tokenizer.from_config(t.config())
    assert again.rules == [shout] and again.tokenize('a film') == t.tokenize('a film') != SubwordTokenizer(t.model).tokenize('a film') and again.name == t.name
    with pytest.raises(CourseError, match='holds no rules'): t.save(tmp_path/'t.json')

def test_a_kind_of_ones_own_can_be_defined_anew_and_ours_stays():
    old = Tokenizer.kinds.copy()
    try:
        class First(Tokenizer): kind = 'test kind', 'words'
        class Second(Tokenizer): kind = 'test kind',
        class Heir(Second): pass
        assert Tokenizer.kinds['test kind'] is Second and Tokenizer.kinds['words'] is old['words']
    finally: Tokenizer.kinds.clear(); Tokenizer.kinds.update(old)

@pytest.mark.parametrize('config', [{}, dict(kind=None), dict(kind=['words']), dict(kind='words'), dict(kind='words', language='en'), dict(kind='words', language='en', rules=3), dict(kind='words', language='en', rules=[['a']]),
    dict(kind='characters'), dict(kind='bpe', rules=[]), dict(kind='bpe', model=3, rules=[]), dict(kind='bpe', model='{}', rules=[])])
def test_broken_configurations(config):
    with pytest.raises(CourseError) as e: Tokenizer.from_config(config)
    assert '\n' not in str(e.value)

# Worker processes

few = ['A film, number 1.']*300
many = [f"This is text {i} of {i % 7} kinds; it's GREAT!!!" for i in range(3000)]

def words_of(texts, tok, n): return [w for words,ids in tokenized(texts, tok, n) for w in map(words.__getitem__, ids.tolist())]

born_before = set()
@pytest.fixture(autouse=True)
def remember_processes():
    "A browser that an earlier file has opened is none of ours"
    born_before.clear()
    born_before.update(psutil.Process().children(recursive=True))

def children():
    "Processes that a test has left; the resource tracker stays"
    return [p for p in psutil.Process().children(recursive=True) if p not in born_before and 'resource_tracker' not in ' '.join(p.cmdline())]

def test_shared_is_the_same(tok):
    assert words_of(many, tok, 3) == words_of(many, tok, 1) == [w for t in many for w in tok.tokenize(t)]
    assert children() == []

def test_few_texts_need_no_processes(tok, monkeypatch):
    monkeypatch.setattr(fast_tokens, 'get_context', None)
    assert len(words_of(few, tok, 8)) == 7*len(few)

def test_started_anew_as_on_windows(tok, monkeypatch):
    monkeypatch.setattr(sys, 'platform', 'darwin')
    assert words_of(many, tok, 2) == [w for t in many for w in tok.tokenize(t)]
    assert words_of(many, WordTokenizer(rules=[lambda t: t.lower()]), 2) == words_of(many, WordTokenizer(rules=[str.lower]), 1)   # cannot be sent

def test_within_a_worker_there_are_no_more_workers():
    with mp.get_context('fork').Pool(1) as pool: assert pool.apply(count_words, (many,)) == count_words(many)

def count_words(texts): return len(words_of(texts, WordTokenizer(), 2))

def test_not_the_whole_corpus_ahead(tok):
    read = 0
    def corpus():
        nonlocal read
        for t in many*10:
            read += 1
            yield t
    shared = tokenized(corpus(), tok, 2)
    next(shared)
    assert read <= 500*(2*2+2)
    shared.close()
    assert children() == []

class Dies(WordTokenizer):
    def tokenize(self, text):
        if 'text 2100 ' in text: os.kill(os.getpid(), signal.SIGKILL)
        return super().tokenize(text)

@pytest.mark.skipif(sys.platform != 'linux', reason='forks')
def test_a_worker_that_dies():
    with pytest.raises(CourseError, match='has ended.*n_procs=1') as e: words_of(many, Dies(), 2)
    assert '\n' not in str(e.value) and children() == []

class Breaks(WordTokenizer):
    def tokenize(self, text): raise KeyError(text)

@pytest.mark.skipif(sys.platform != 'linux', reason='forks')
def test_an_error_in_a_worker_comes_out():
    with pytest.raises(KeyError): words_of(many, Breaks(), 2)
    assert children() == []

endless = """
import itertools, sys
from ulmfit_course.fast_tokens import WordTokenizer, tokenized
for words,ids in tokenized((f'text {i}, a film' for i in itertools.count()), WordTokenizer(), 2): print('went', flush=True)
"""

@pytest.mark.skipif(sys.platform != 'linux', reason='forks')
@pytest.mark.parametrize('how,group', [('SIGINT', True), ('SIGTERM', False), ('SIGKILL', False),
    *(pytest.param(*o, marks=pytest.mark.slow) for o in (('SIGINT', False), ('SIGTERM', True), ('SIGKILL', True), ('SIGHUP', False), ('SIGHUP', True)))])
def test_nothing_is_left_of_a_run_that_is_stopped(how, group):
    "Neither a process nor a line of a worker's, whether the run alone is told or, as a terminal does, the workers, too"
    run = subprocess.Popen([sys.executable, '-c', endless], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert run.stdout.readline() == 'went\n'
    workers = psutil.Process(run.pid).children()
    assert len(workers) == 2
    (os.killpg if group else os.kill)(run.pid, getattr(signal, how))
    errors = run.communicate(timeout=60)[1]
    assert psutil.wait_procs(workers, 30)[1] == []
    assert errors.count('Traceback') == (how == 'SIGINT') and ('KeyboardInterrupt' in errors) == (how == 'SIGINT')

def test_a_million_words(tok, reviews):
    "More than the million characters at which fastai gives up"
    rng, words = random.Random(0), ' '.join(reviews[:500]).split()
    text = ' '.join(rng.choices(words, k=1_000_000))
    start = time.perf_counter()
    assert len(tok.tokenize(text)) > 1_000_000
    assert tok.tokenize('word ' * 1_000_000) == [BOS, 'xxwrep', '1000000', 'word']
    assert time.perf_counter() - start < 60

def test_vocabulary_equals_fastai(tok, reviews):
    data = pytest.importorskip('fastai.text.data')
    counts = Counter(t for d in tok(reviews[:300]) for t in d)
    for min_freq,size in ((1, 60000), (3, 60000), (2, 100), (1, 1001)):
        ours = make_vocab(list(counts), list(counts.values()), min_freq, size)
        theirs = data.make_vocab(counts, min_freq=min_freq, max_vocab=size)
        assert [w for w in ours if w != 'xxfake'] == [w for w in theirs if w != 'xxfake']
        assert len(ours) % 8 == 0 and ours == make_vocab(counts, min_freq=min_freq, max_vocab=size)

def test_numericalize_equals_fastai(tok, reviews):
    data = pytest.importorskip('fastai.text.data')
    docs = list(tok(reviews[:40]))
    vocab = make_vocab(Counter(t for d in docs[:20] for t in d))
    theirs = data.Numericalize(vocab=vocab)
    for d in docs: assert numericalize(d, vocab) == theirs(d).tolist()
    with pytest.raises(CourseError, match='outside'): denumericalize([-1], vocab)

def test_padding_equals_torch():
    import torch
    from torch.nn.utils.rnn import pad_sequence
    rows = [[5, 6, 7], [8], [], [9, 10]]
    for side,torch_side in (('end', 'right'), ('start', 'left')):
        theirs = pad_sequence([torch.tensor(r, dtype=torch.int64) for r in rows], batch_first=True, padding_value=1, padding_side=torch_side)
        assert pad(rows, side=side).tolist() == theirs.tolist()
    assert attention_mask(pad(rows)).sum(1).tolist() == [3, 1, 0, 2]
    assert pad([]).shape == (0, 0) and pad(rows, 5).shape == (4, 5)
    assert truncate([1, 2, 3], 0, 'end') == [] and truncate([1, 2], 5, 'end') == [1, 2]

@pytest.mark.parametrize('text', [
    'It "really" DIDN\'T work!!! No no no (sorry).', "I can't say it's 'great'; they'd agree: 10/10.", 'A well-known film, of the 1980s.\n\nIt cannot miss…', "The actors' work... costs $5, 100%!".replace('...', '…')])
def test_detokenize_gives_the_text_back(tok, text): assert detokenize(tok.tokenize(text)) == text

def test_detokenize_reviews(tok, reviews):
    share = total = 0
    for t in reviews[:300]:
        back, said = (Counter(x.split()) for x in (detokenize(tok.tokenize(t)), html.unescape(t.replace('<br />', '\n').replace('...', ' …'))))
        share, total = share + (back & said).total(), total + said.total()
    assert share/total > .96

def test_detokenize_takes_any_tokens():
    rng = random.Random(0)
    vocab = special_tokens + ['a', '.', '"', "'", 'n\'t', '-', '3', '▁', '\n\n', '9999999', '²']
    for _ in range(2000): assert 'xx' not in detokenize(rng.choices(vocab, k=12))

@pytest.mark.parametrize('kind', ['bpe', 'wordpiece', 'unigram'])
def test_subwords(kind, reviews, tmp_path):
    s = SubwordTokenizer.train(reviews[:200], kind, 1500)
    assert s.vocab[:len(special_tokens)] == special_tokens and len(s.vocab) <= 1500
    toks = s.tokenize("This MOVIE wasn't unwatchably bad!!!")
    assert toks[0] == BOS and detokenize(s.join(toks)) == "This MOVIE wasn't unwatchably bad!!!"
    assert numericalize(toks, s.vocab) == [s.model.token_to_id(t) for t in toks]
    s.save(tmp_path/'s.json')
    for again in (SubwordTokenizer.load(tmp_path/'s.json'), pickle.loads(pickle.dumps(s))): assert again.tokenize(reviews[300]) == s.tokenize(reviews[300]) and again.name == s.name

def test_subword_faults(tmp_path):
    with pytest.raises(CourseError, match='too small'): SubwordTokenizer.train(['some text'], 'bpe', 10)
    with pytest.raises(CourseError, match='unknown kind'): SubwordTokenizer.train(['some text'], 'words')
    with pytest.raises(CourseError, match='string'): SubwordTokenizer.train([None])
    with pytest.raises(CourseError, match='no subword tokenizer'): SubwordTokenizer.load(tmp_path/'missing.json')
