"Attributions, reading and calibration against plain loops, and against what a user may do wrong"
import subprocess, sys
import numpy as np, pandas as pd, pytest, torch
from ulmfit_course.core import CourseError
from ulmfit_course.documents import text_classifier
from ulmfit_course.evaluation import calibration, confusion_matrix, expected_calibration_error, top_losses
from ulmfit_course.figures import highlight
from ulmfit_course.interpretation import agreement, evidence, gradient_input, integrated_gradients, leave_one_out, nearest_words, prefix_probs
from ulmfit_course.models import Checkpoint
from ulmfit_course.predictors import TextClassifier

torch.set_num_threads(1)
words = ['xxunk', 'xxpad', 'xxbos', 'film', 'great', 'good', 'awful', 'xxfake']
ids = [2, 3, 4, 5, 6, 3, 5]
sizes = dict(emb_sz=12, n_hid=16, n_layers=2)
methods = leave_one_out, gradient_input, integrated_gradients

def classifier(n_class=3, **kwargs):
    torch.manual_seed(0)
    return text_classifier(len(words), n_class, sizes, **kwargs).eval()

def probabilities(model, ids):
    with torch.no_grad(): return model(torch.tensor(ids)[None])[0].softmax(1)[0].numpy()

def told(call, *words):
    "The call fails with one line that holds these words"
    with pytest.raises(CourseError) as e: call()
    assert '\n' not in str(e.value) and all(w in str(e.value) for w in words), str(e.value)

def test_leave_one_out_against_a_loop():
    model = classifier()
    odds = lambda ids: np.log(p/(1-p)) if (p := probabilities(model, ids)[1]) else 0
    expected = [odds(ids) - odds(ids[:i]+ids[i+1:]) for i in range(len(ids))]
    assert np.allclose(leave_one_out(model, ids, 1, bs=3), expected, atol=1e-4)

def test_leave_one_out_can_be_stopped():
    shares = []
    def stop(share): shares.append(share); raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): leave_one_out(classifier(), ids, 0, bs=2, progress=stop)
    assert shares == [2/7]

@pytest.mark.parametrize('bptt, max_len', [(72, 1440), (3, 1440), (72, 3), (3, 4)])
def test_all_read_as_the_classifier_reads(bptt, max_len):
    model = classifier(bptt=bptt, max_len=max_len)
    read = prefix_probs(model, ids)
    for n in range(1, len(ids)+1): assert np.allclose(read[n-1], probabilities(model, ids[:n]), atol=1e-5)

def test_gradients_reach_over_chunks_but_not_over_the_pooled_end():
    whole, last = gradient_input(classifier(bptt=2), ids, 0), gradient_input(classifier(bptt=72), ids, 0)
    assert np.allclose(whole, last, atol=1e-6) and (whole != 0).all()
    assert np.abs(gradient_input(classifier(max_len=2), ids, 0)[0]) > 0   # read before, though not pooled

def test_two_classes_mirror_each_other():
    model = classifier(2)
    for method in methods: assert np.allclose(method(model, ids, 0), -method(model, ids, 1), atol=1e-4)

def test_the_model_is_left_as_it_was():
    model = classifier().requires_grad_(False)   # as a frozen encoder
    before = {k: v.clone() for k,v in model.state_dict().items()}
    for method in methods: assert np.isfinite(method(model, ids, 0)).all()
    assert all(torch.equal(v, before[k]) for k,v in model.state_dict().items())
    assert all(o.grad is None for o in model.parameters()) and not any(o.requires_grad for o in model.parameters())

@pytest.mark.parametrize('method', [*methods, lambda model, ids, target: prefix_probs(model, ids)])
@pytest.mark.parametrize('wrong, hint', [([], 'TextToIds'), ([[2, 3]], 'TextToIds'), ('great', 'TextToIds'), ([2., 3.], 'TextToIds'), ([2, 8], 'its own vocabulary'), ([-1, 2], 'its own vocabulary')])
def test_what_is_no_text(method, wrong, hint): told(lambda: method(classifier(), wrong, 0), hint)

@pytest.mark.parametrize('method', methods)
def test_a_model_in_training_and_a_class_that_is_none(method):
    told(lambda: method(classifier().train(), ids, 0), 'model.eval()')
    told(lambda: method(classifier(), ids, 3), 'from 0 to 2')
    told(lambda: method(classifier(), ids, -1), 'from 0 to 2')

def test_a_predictor_in_8_bits_can_be_asked_why():
    model = classifier()
    ck = Checkpoint(model.state_dict(), words, dict(arch=sizes, labels=['a', 'b', 'c'], lin_ftrs=50, backwards=False))
    for method in methods: assert np.allclose(method(TextClassifier(ck, precision='int8').model, ids, 0), method(TextClassifier(ck).model, ids, 0))

def test_nothing_to_leave_out(): told(lambda: leave_one_out(classifier(), [2], 0), 'longer')
def test_no_steps(): told(lambda: integrated_gradients(classifier(), ids, 0, steps=0), 'steps')

def test_log_odds_of_a_certain_class_are_finite():
    assert torch.isfinite(evidence(torch.tensor([[200., -200., 0.]]), 0)).all()

def test_highlight_on_the_edges():
    assert '<mark' not in highlight([], [])
    assert '<sup>' not in highlight(['a', 'b'], [0., 0.])
    told(lambda: highlight(['a'], [1., 2.]), 'same text')

def test_tables_of_other_lengths_and_unknown_classes():
    frame, probs = pd.DataFrame(dict(text=['a', 'b'], label=['pos', 'neg'])), np.array([[.1, .9], [.8, .2]])
    assert list(top_losses(frame, probs, ['neg', 'pos']).text) == ['b', 'a']
    told(lambda: top_losses(frame, probs[:1], ['neg', 'pos']), '2 and 1')
    told(lambda: top_losses(frame, probs, ["bad", "good"]), "label 'pos' in row 0 was not seen")
    told(lambda: confusion_matrix(['pos'], ['pos', 'neg'], ['neg', 'pos']), '1 and 2')
    told(lambda: calibration(probs, [0]), '2 and 1')
    told(lambda: calibration(probs, [True, False]), 'indices')
    told(lambda: expected_calibration_error(probs, ['pos', 'neg']), 'indices')
    told(lambda: agreement([1.], [1., 2.]), '1 and 2')

def test_confusion_keeps_a_class_that_nobody_has():
    table = confusion_matrix(['a', 'b', 'b'], ['b', 'b', 'a'], ['a', 'b', 'c'])
    assert table.values.tolist() == [[0, 1, 0], [1, 1, 0], [0, 0, 0]]

def test_calibration_against_a_loop():
    rng = np.random.default_rng(0)
    probs, y = rng.dirichlet(np.ones(4), 300), rng.integers(0, 4, 300)
    probs[:3], y[:3] = [1, 0, 0, 0], 0
    bins = {}
    for q,t in zip(probs, y): bins.setdefault(min(int(q.max()*5), 4), []).append((q.max(), q.argmax() == t))
    expected = sum(abs(sum(c for c,_ in b) - sum(r for _,r in b)) for b in bins.values())/300
    assert np.isclose(expected_calibration_error(probs, y, bins=5), expected) and calibration(probs, y, 5).n.sum() == 300

def test_neighbours():
    rows = torch.tensor([[0., 1], [0, 0], [1, 0], [1, 1], [2, 2.1], [-1, -1], [0, 2], [1, 1]])
    ck = Checkpoint({'0.encoder.weight': rows}, words, {})
    assert list(nearest_words(ck, 'film', 2).word) == ['great', 'awful']   # neither itself nor a special token
    told(lambda: nearest_words(ck, 'Great'), 'try great')
    told(lambda: nearest_words(ck, 'qqq'), 'lower case')

def test_in_a_fresh_process(tmp_path):
    "What is exported stands alone, figures included"
    code = """if True:
        import numpy as np
        from ulmfit_course.interpretation import calibration, reading_figure, reliability_figure
        probs = np.array([[.1, .9], [.7, .3]])
        for fig, alt in (reading_figure(['$a', '<b>'], probs, ['neg', 'pos']), reliability_figure(calibration(probs, [1, 1]))):
            fig.savefig('a.png'); print(alt)"""
    run = subprocess.run([sys.executable, '-W', 'error::UserWarning', '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert 'at the end 0.70' in run.stdout and '1 texts at confidence 0.90, accuracy 1.00' in run.stdout
