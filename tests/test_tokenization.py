"The tokenizer against fastai's own: real reviews, made-up traps, random mixtures; and whatever a notebook cell cannot show"
import html, multiprocessing as mp, pickle, random, time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import pytest

from ulmfit_course.core import CourseError
from ulmfit_course.detokenization import detokenize
from ulmfit_course.fast_tokens import WordCache
from ulmfit_course.subwords import SubwordTokenizer
from ulmfit_course.tokenization import CharTokenizer, WordTokenizer, apply_rules, lowercase, replace_maj, text_rules
from ulmfit_course.vocabulary import BOS, attention_mask, denumericalize, make_vocab, numericalize, pad, special_tokens, truncate

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
    return [(t, o, list(r)) for t,o,r in zip(texts, ours(texts), theirs(texts), strict=True) if o != list(r)]

def test_traps(tok, fastai_tok): assert different(traps, tok, fastai_tok) == []

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
    plain = WordTokenizer()
    plain.cache = lambda t: [o.text.replace(' ', '▁') for o in plain.spacy(apply_rules(t))]
    assert different(traps + reviews[:100], plain, fastai_tok) == []

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
    small.cache = WordCache(small, cap=50)
    assert different(reviews[:50], small, fastai_tok) == []
    assert len(small.cache.chunks) == 50 and len(small.cache.split.words) == 50

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
    small.cache = WordCache(small, cap=10)
    assert WordTokenizer().name == small.name

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
