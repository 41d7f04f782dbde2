"Writing: the cuts against plain loops, the carried state against reading everything anew, beams against trying all"
import itertools
import pytest, torch
from ulmfit_course.awd_lstm import language_model
from ulmfit_course.core import CourseError, set_seed
from ulmfit_course.generation import beam_search, generate, next_word_probs, sample_tokens, top_k_filter, top_p_filter
from ulmfit_course.generator import TextGenerator
from ulmfit_course.models import Checkpoint, model_of
from test_lm_finetuning import config, words

@pytest.fixture(scope='module')
def ck():
    set_seed(3)
    model = language_model(len(words), config)
    for p in model.parameters(): p.data.mul_(3)  # far from uniform
    return Checkpoint(model.state_dict(), words, dict(arch=config, stage='pretraining', direction='fwd'))

@pytest.fixture
def writer(ck): return TextGenerator(model_of(ck), ck.vocab)

def anew(ck, ids):
    "Log probabilities after `ids`, all of them read again in one pass, without the tokens that are never written"
    model = model_of(ck).eval(); model.reset()
    with torch.no_grad(): logits = model(torch.tensor([ids]))[0][0, -1]
    logits[[0, 1]] = -float('inf')
    return logits.log_softmax(-1)

def test_cuts_against_plain_loops():
    probs = torch.rand(20, 30).softmax(-1)
    for row, k, p in zip(probs, top_k_filter(probs, 4), top_p_filter(probs, 0.6)):
        order = sorted(range(30), key=lambda i: -row[i])
        assert set(k.nonzero()[:, 0].tolist()) == set(order[:4])
        held, kept = 0., set()
        for i in order:
            if held >= 0.6: break
            kept.add(i); held += row[i].item()
        assert set(p.nonzero()[:, 0].tolist()) == kept

def test_probabilities():
    logits = torch.randn(5, 30)
    assert torch.allclose(next_word_probs(logits), logits.softmax(-1), atol=1e-6)
    assert torch.equal(next_word_probs(logits, 0).argmax(-1), logits.argmax(-1))
    assert torch.equal(next_word_probs(logits, top_k=1), next_word_probs(logits, 0))
    entropy = lambda t: -(next_word_probs(logits, t)*next_word_probs(logits, t).log()).sum()
    assert entropy(0.5) < entropy(1.) < entropy(2.)
    for bad in (dict(temperature=-1), dict(top_k=-1), dict(top_p=0), dict(top_p=1.5)):
        with pytest.raises(CourseError): next_word_probs(logits, **bad)

def test_greedy_with_a_carried_state_is_greedy_reading_all_anew(ck, writer):
    prompts = [[2, 3, 4], [2, 9], [2]]
    for prompt, new in zip(prompts, sample_tokens(writer, prompts, 8, temperature=0)):
        text = list(prompt)
        for _ in range(8): text.append(anew(ck, text).argmax().item())
        assert text[len(prompt):] == new

def test_draws_follow_the_probabilities(ck, writer):
    g = torch.Generator().manual_seed(0)
    counts = torch.bincount(torch.tensor(sample_tokens(writer, [[2, 5]], 1, n=8000, generator=g))[:, 0], minlength=len(words))
    expected = 8000*anew(ck, [2, 5]).exp()
    keep = expected > 5
    assert (((counts-expected)**2/expected)[keep]).sum() < 3*keep.sum()  # chi square, mean 1 for each word
    assert not counts[:2].any()

def test_wide_beams_find_the_best_of_all(ck, writer):
    ended = words.index('xxbos')
    best, score = beam_search(writer, [2, 7], 2, beams=len(words)-2)[0]
    total = lambda new: sum(anew(ck, [2, 7, *new[:i]])[new[i]].item() for i in range(len(new)))
    texts = {new[:1] if new[0] == ended else new for new in itertools.product(range(2, len(words)), repeat=2)}
    every = {new: total(new) for new in texts}
    assert tuple(best) == max(every, key=every.get) and score == pytest.approx(max(every.values()), abs=1e-4)
    greedy, (one, _) = sample_tokens(writer, [[2, 7]], 5, temperature=0)[0], beam_search(writer, [2, 7], 5, beams=1)[0]
    assert one == greedy[:len(one)] and (len(one) == 5 or one[-1] == ended)

def test_a_beam_ends_with_its_text(ck):
    ended, weights = words.index('xxbos'), {k: v.clone() for k,v in ck.weights.items()}
    weights['1.decoder.bias'][ended] += 3  # likes to end
    fond = Checkpoint(weights, words, ck.config)
    found = beam_search(TextGenerator(model_of(fond), words), [2, 7], 6, beams=8)
    ends = [new for new,_ in found if new[-1] == ended]
    assert len({len(new) for new in ends}) > 1 and not any(ended in new[:-1] for new,_ in found)
    assert all(len(new) == 6 for new,_ in found if new not in ends)
    for new,score in found:
        assert score == pytest.approx(sum(anew(fond, [2, 7, *new[:i]])[new[i]].item() for i in range(len(new))), abs=1e-4)
    scores = [score for _,score in found]
    assert scores == sorted(scores, reverse=True) and len({tuple(new) for new,_ in found}) == 8
    weights['1.decoder.bias'][ended] += 100  # writes nothing else
    assert beam_search(TextGenerator(model_of(Checkpoint(weights, words, ck.config)), words), [2, 7], 6, beams=1)[0][0] == [ended]

@pytest.mark.parametrize('beams', [0, len(words)-1, 10**6])
def test_more_beams_than_words(writer, beams):
    with pytest.raises(CourseError, match=f'beams={beams}: ask for 1 to {len(words)-2}'): beam_search(writer, [2, 7], 3, beams=beams)

def test_a_typed_control_word_neither_ends_a_text_nor_fills_it(ck):
    for typed in ('a xxbos b', 'a xxpad b', 'a XXEOS b', 'a x&#120;bos b', 'a \ud83d b'):
        assert ' b' in generate(ck, typed, 4, seed=0)[0] and len(generate(ck, typed, 4, beams=2)) == 1

def test_generate(ck):
    one = generate(ck, 'a b', 6, seed=4)
    assert one == generate(ck, 'a b', 6, seed=4) and len(one) == 1 and one[0].startswith('A b')
    assert len(generate(ck, ['a', 'b c'], 3, n=2, seed=0)) == 4 and generate(ck, []) == []
    assert len({*generate(ck, 'a', 6, n=4, seed=1)}) > 1
    for kw in (dict(n_tokens=0), dict(n=0), dict(beams=-1), dict(beams=2, n=3)):
        with pytest.raises(CourseError): generate(ck, 'a', **kw)
    with pytest.raises(CourseError, match='backward'): generate(Checkpoint(ck.weights, words, dict(ck.config, direction='bwd')), 'a')
    with pytest.raises(CourseError, match='no-such'): generate('no-such', 'a')
