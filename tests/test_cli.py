"Whole runs through the command, as a user types it"
import json, os, shutil, subprocess, sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
import numpy as np, pandas as pd, pytest
from ulmfit_course import cli, speedrun, workflows
from ulmfit_course.classifier import train_classifier
from ulmfit_course.core import CourseError, command_line
from ulmfit_course.data import sample_rows, split
from ulmfit_course.evaluation import predictions
from ulmfit_course.inference import load_bundle, save_bundle
from ulmfit_course.learners import text_classifier_learner
from ulmfit_course.loaders import classifier_dataloaders
from ulmfit_course.models import load_pretrained, pretrained_dir, tokenizer_name
from ulmfit_course.readers import imdb, rotten_tomatoes
from ulmfit_course.recipes import ClassifierRecipe
from ulmfit_course.streams import corpus_streams
from ulmfit_course.vocabulary import pad

root = Path(__file__).resolve().parent.parent

@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('cli')

def run(*words, cwd, stdin='', fresh=False):
    "The command: exit status, standard output, standard error; in this process, which has imported what it needs, or in a `fresh` one"
    env, words = dict(ULMFIT_COURSE_PROFILE='tiny', ULMFIT_COURSE_HOME=str(cwd)), [*map(str, words)]
    if fresh:
        r = subprocess.run([sys.executable, '-c', 'import sys; from ulmfit_course.cli import main; sys.exit(main())', *words], capture_output=True, text=True, cwd=cwd, input=stdin, env=os.environ | env)
        return r.returncode, r.stdout, r.stderr
    with pytest.MonkeyPatch.context() as m, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        m.chdir(cwd)
        for k,v in env.items(): m.setenv(k, v)
        m.setattr(sys, 'stdin', StringIO(stdin)); m.setattr(sys, 'argv', ['ulmfit-course', *words])
        try: status = cli.main()
        except SystemExit as e: status = e.code
    return status, out.getvalue(), err.getvalue()

@pytest.mark.slow
def test_demo(folder):
    status, out, err = run('demo', '--out', folder/'demo', '--json', cwd=folder, fresh=True)
    assert status == 0 and not err, err
    report = json.loads((folder/'demo'/'report.json').read_text())
    assert report == json.loads(out)
    assert report['profile'] == 'tiny' and report['seconds_total'] > 0 and report['peak_rss_mb'] < 4096
    assert report['lm']['after']['perplexity'] < report['lm']['before']['perplexity'] and len(report['generated']) == 3
    assert [(r['name'], r['n_labels'], r['draws']) for r in report['rows']] == [
        (n, k, d) for k,d in ((50, 3), (60, 1)) for n in ('TF-IDF', 'ULMFiT')] + [('ULMFiT, all layers learn, forwards', 60, 1)]
    for row in report['rows']: assert 0 <= row['least'] <= row['mean'] <= row['most'] <= 1
    assert len(report['predictions']) == 10 and all(len(p['tokens']) == len(p['parts']) for p in report['predictions'])
    page = (folder/'demo'/'report.html').read_text()
    assert 'src="http' not in page and page.count('<img alt="') == 2 and 'color-scheme:light dark' in page

@pytest.mark.slow
def test_a_quick_demo_says_how_far_it_is(folder):
    status, out, err = run('demo', '--out', folder/'quick', '--quick', cwd=folder)
    assert status == 0 and 'all layers learn' not in out + err, err
    assert [name for name in ('the reviews', 'stage 2', 'imdb-small reads, backwards', 'report') if f's left: {name}' not in err] == []
    assert run('demo', '--quick', '--full', '--out', folder/'both', cwd=folder)[0] == 2 and not (folder/'both').exists()

@pytest.mark.slow
def test_demo_accuracy_is_what_evaluate_finds(folder):
    from ulmfit_course.demo import demo_texts
    from ulmfit_course.core import profile
    _, _, test, _ = demo_texts(profile('tiny'))
    test.to_csv(folder/'test.csv', index=False)
    status, out, err = run('evaluate', folder/'demo'/'bundle', '--data', folder/'test.csv', '--json', cwd=folder)
    assert status == 0, err
    found, report = json.loads(out), json.loads((folder/'demo'/'report.json').read_text())
    assert set(found) == {'accuracy', 'precision', 'recall', 'f1', 'n', 'unknown', 'seconds'} and found['unknown'] < 0.1
    assert found['n'] == len(test)
    with_all, = (r['mean'] for r in report['rows'] if (r['name'], r['n_labels']) == ('ULMFiT', 60))
    assert abs(found['accuracy'] - with_all) <= 0.02

def test_the_test_reviews_are_not_trained_on():
    from ulmfit_course.demo import demo_texts
    from ulmfit_course.core import profile
    train, valid, test, unlabelled = demo_texts(profile('cpu'))
    assert not set(test.text) & (set(train.text) | set(valid.text) | set(unlabelled))
    assert len(train) == 1000 and len(test) >= 2000

def test_a_reader_may_stop_early():
    program = f"'{sys.executable}' -c 'import sys; from ulmfit_course.cli import main; sys.exit(main())'"
    r = subprocess.run(f'{program} tokenize - | head -c 5', shell=True, capture_output=True, text=True, input='A fine film. '*20_000)
    assert r.stdout == 'xxbos' and r.stderr == ''

def done(*words, cwd, **kw):
    "What the command answers, which must succeed"
    status, out, err = run(*words, '--json', cwd=cwd, **kw)
    assert status == 0, err
    return json.loads(out)

once = '--epochs', 1, '--bs', 4, '--hold-out', 0.2
def corpus(n, **kw): return ''.join(json.dumps(dict(text=t))+'\n' for t in sample_rows(imdb(), n, **kw).text)

@pytest.fixture(scope='module')
def cards(folder):
    "Stages 1 and 2 from scratch, in both directions: the cards of `wiki` and `lm`"
    (folder/'corpus.jsonl').write_text(corpus(40))
    sizes = ['--emb-sz', 16, '--n-hid', 24, '--max-vocab', 800]
    wiki = done('pretrain', '--corpus', 'corpus.jsonl', '--out', 'wiki/', *sizes, '--both', *once, '--epochs', 2, cwd=folder)
    return wiki, done('finetune-lm', '--model', 'wiki', '--corpus', 'corpus.jsonl', '--out', 'lm', *once, '--both', cwd=folder)

@pytest.fixture(scope='module')
def bundles(folder, cards):
    "Stage 3: what `train` says of a bundle of both directions, where there are models of both, and of a forward one"
    data = split(sample_rows(imdb(), 60), test=0.2)
    data[data.split != 'test'].to_csv(folder/'train.csv', index=False)
    data[data.split == 'test'].to_csv(folder/'held.csv', index=False)
    same = '--model', 'lm', '--data', 'train.csv', '--epochs', 1, 0, 0, 1, '--valid', 0.2
    return done('train', *same, '--out', 'bundle', cwd=folder), done('train', *same, '--out', 'forward', '--forwards', cwd=folder)

def test_stages_from_scratch(folder, cards, bundles):
    assert [card['perplexity'] > 1 for card in cards[0]] == [True, True] and (folder/'wiki-backwards').is_dir()
    for name,card in zip(('lm', 'lm-backwards'), cards[1]):   # what a card claims can be measured again
        again = done('perplexity', name, '--corpus', 'corpus.jsonl', '--hold-out', 0.2, cwd=folder)
        assert again['perplexity'] == pytest.approx(card['perplexity'], rel=.01)
    assert [b['model'] for b in bundles] == ['lm, both', 'lm, fwd']
    found = done('generate', 'lm', '--prompt', 'This film', '--tokens', 5, '--n', 2, '--seed', 1, cwd=folder)
    assert len(found) == 2

@pytest.mark.parametrize('command', [['pretrain', '--start', 'wiki', '--max-vocab', 800], ['finetune-lm', '--model', 'lm', '--reverse']])
def test_a_model_of_one_direction_is_the_start_of_one_of_the_other(folder, cards, command):
    card = done(*command, '--backwards', '--corpus', 'corpus.jsonl', '--out', f'{command[0]}-turned', *once, cwd=folder)
    assert card['parent'] == command[2]
    assert json.loads((folder/f'{command[0]}-turned'/'config.json').read_text('utf8'))['direction'] == 'bwd'

def test_members_answer_as_one(folder, bundles):
    said = []
    for names in (['forward'], ['bundle/members/2-bwd'], ['bundle'], ['forward', '--members', 'bundle/members/2-bwd']):
        found = done('predict', names[0], 'What a film.', 'Never again.', *names[1:], cwd=folder)
        assert [a['label'] in ('neg', 'pos') for a in found] == [True, True]
        said.append([a['p_neg'] for a in found])
    assert said[0] != said[1] and said[2] == said[3] == pytest.approx([sum(p)/2 for p in zip(said[0], said[1])], abs=1e-6)

def test_nothing_held_out_and_several_directions(folder, bundles):
    found = done('train', '--model', 'lm', '--data', 'train.csv', '--out', 'all', '--epochs', 1, 0, 0, 0, '--valid', 0, '--forwards', cwd=folder)
    assert 0 < found.pop('unknown') < 1/3 and found.pop('read').startswith('train.csv: 48 rows')
    assert found == dict(bundle='all', model='lm, fwd', n_labels=len(pd.read_csv(folder/'train.csv')))
    for some in (['--forwards', '--both'], ['--direction', 'bwd', '--both'], ['--backwards', '--direction', 'fwd']):
        status, out, err = run('train', '--model', 'lm', '--data', 'train.csv', '--out', 'bundle', *some, cwd=folder)
        assert status == 2 and 'choose one of --forwards' in err

def test_a_model_is_fine_tuned_in_its_own_direction(folder, cards):
    "Where no direction is named; and the model beside it, where the other one is"
    for name, words, parent, direction in (('own', ['--model', 'lm-backwards'], 'lm-backwards', 'bwd'), ('beside', ['--model', 'lm-backwards', '--forwards'], 'lm', 'fwd')):
        assert done('finetune-lm', *words, '--corpus', 'corpus.jsonl', '--out', name, *once, cwd=folder)['parent'] == parent
        assert load_pretrained(folder/name).direction == direction

def test_stage3_knows_its_settings():
    with pytest.raises(CourseError, match=r"unknown setting 'rate': ClassifierRecipe has epochs, lr, factor, shares, lin_ftrs, window"): train_classifier([], [], 'imdb-small', ClassifierRecipe(), rate=1e-2)

@pytest.mark.parametrize('options, solved', [([], [False, True]), (['--backwards'], [False]), (['--epochs', '1', '0', '0', '0'], [False, False])])
def test_the_second_direction_is_left_to_its_head(tmp_path, monkeypatch, options, solved):
    "With 900 labels `train` trains one direction and solves the other, unless it is told how to train"
    pd.DataFrame(dict(text=['a fine film', 'a poor film']*450, label=['pos', 'neg']*450)).to_csv(tmp_path/'r.csv', index=False)
    asked = []
    def recipe(n, in_domain, second):
        asked.append(usual(n, in_domain, second).lin_ftrs is None)
        return usual(100)   # the head alone, in seconds
    usual = ClassifierRecipe.for_labels
    monkeypatch.setattr(ClassifierRecipe, 'for_labels', recipe)
    args = cli.parser().parse_args(['train', '--model', 'imdb-small', '--data', str(tmp_path/'r.csv'), '--out', str(tmp_path/'b'), '--valid', '0', '--json', *options])
    args.run(args)
    assert asked == solved and (tmp_path/'b'/'members'/'2-bwd').is_dir() == (len(solved) == 2)
    assert json.loads((tmp_path/'b'/'config.json').read_text())['direction'] == ('bwd' if options == ['--backwards'] else 'fwd')

@pytest.mark.slow
def test_speedrun_in_both_directions(folder, cards, bundles):
    "From stage-1 models: stage 2, stage 3 and the test, forward, backward and together"
    status, out, err = run('speedrun', '--model', 'wiki', '--out', 'fast', '--json', cwd=folder)
    assert status == 0, err
    report = json.loads(out)
    assert list(report['seconds']) == ['TF-IDF', 'stage 2 fwd', 'stage 3 fwd', 'stage 2 bwd', 'stage 3 bwd']
    assert [r['name'] for r in report['rows']][1:] == ['ULMFiT, wiki fwd', 'ULMFiT, wiki bwd', 'ULMFiT, both directions']
    assert json.loads((folder/'fast'/'run.json').read_text())['report'] == report
    assert [load_pretrained(folder/'fast'/f'lm-{d}').config['card']['parent'] for d in ('fwd', 'bwd')] == ['wiki', 'wiki-backwards']
    status, out, err = run('evaluate', 'fast/bundle-fwd', '--members', 'fast/bundle-bwd', '--data', 'held.csv', '--json', cwd=folder)
    assert status == 0, err
    assert json.loads(out)['n'] == len(pd.read_csv(folder/'held.csv'))

@pytest.mark.slow
def test_speedrun_with_the_directions_side_by_side(folder, cards, monkeypatch):
    "In processes of their own, where one that fails says why"
    monkeypatch.chdir(folder)
    apart, together = (speedrun.speedrun(out, 'tiny', 'wiki', epochs=(1, 0, 0, 0), quiet=True, at_once=at_once) for out,at_once in (('apart', False), ('together', True)))
    assert [r['name'] for r in together['rows']] == [r['name'] for r in apart['rows']] and together['perplexity'] == pytest.approx(apart['perplexity'], rel=0.02)
    assert sorted(f.name for f in (folder/'together').iterdir()) == ['bundle-bwd', 'bundle-fwd', 'lm-bwd', 'lm-fwd', 'run.json']
    for end in ('', '-backwards'): shutil.copytree(f'wiki{end}', f'odd{end}')
    Path('odd-backwards/model.safetensors').write_bytes(Path('wiki/model.safetensors').read_bytes()[:1000])
    with pytest.raises(CourseError, match='odd-backwards/model.safetensors is broken'): speedrun.speedrun('together', 'tiny', 'odd', epochs=(1, 0, 0, 0), quiet=True, at_once=True)

def test_speedrun_looks_at_its_folders_first(folder, cards, monkeypatch):
    "Before it has read a text"
    monkeypatch.chdir(folder)
    monkeypatch.setattr(speedrun, 'speedrun_texts', None)
    (folder/'theirs'/'lm-bwd').mkdir(parents=True); (folder/'theirs'/'lm-bwd'/'thesis.txt').write_text('mine')
    with pytest.raises(CourseError, match='lm-bwd holds other files'): speedrun.speedrun('theirs', 'tiny', 'wiki', quiet=True)

def test_speedrun_takes_the_whole_data_set_where_there_is_a_gpu(tmp_path, monkeypatch):
    from ulmfit_course.speedrun import speedrun_texts
    from ulmfit_course.core import profile
    for i,r in enumerate(sample_rows(imdb(), 100).itertuples()):
        place = tmp_path/('test' if i >= 90 else 'train')/r.label if i < 95 else tmp_path/'unsup'
        place.mkdir(parents=True, exist_ok=True)
        (place/f'{i}.txt').write_text(r.text, encoding='utf8')
    monkeypatch.setenv('ULMFIT_COURSE_IMDB', str(tmp_path))
    train, looked_at, test, texts = speedrun_texts(profile('gpu'))
    assert [len(train), len(looked_at), len(test), len(texts)] == [30, 60, 5, 35]
    assert not set(test.text) & set(texts) and not set(looked_at.text) & set(texts)

def test_evaluate_names_what_it_cannot_judge(folder, bundles):
    one = pd.DataFrame(dict(text=['Very good.', 'Quite good.'], label=['pos', 'pos']))
    one.to_csv(folder/'good.csv', index=False)
    status, out, err = run('evaluate', 'bundle', '--data', 'good.csv', '--json', cwd=folder)
    assert status == 0 and json.loads(out)['n'] == 2, err
    one.assign(label=['pos', 'maybe']).to_csv(folder/'maybe.csv', index=False)
    status, out, err = run('evaluate', 'bundle', '--data', 'maybe.csv', cwd=folder)
    assert status == 1 and "row 2: label 'maybe'" in err and err.count('\n') == 1

def test_several_text_columns_and_rows_that_are_too_long(folder, cards):
    data = sample_rows(imdb(), 40)
    data = data.assign(title=data.text.str[:20], text=data.text.str[20:300])
    data.to_csv(folder/'titled.csv', index=False)
    status, out, err = run('train', '--model', 'lm', '--data', 'titled.csv', '--text-col', 'title', 'text', '--out', 'titled', '--epochs', 1, 0, 0, 0, '--valid', 0.3, '--json', cwd=folder)
    assert status == 0, err
    assert {'valid', 'tfidf', 'n_labels'} < set(json.loads(out)) and (folder/'titled'/'run.json').exists()
    data.text = [' '.join(f'word{j}' for j in range(400)) if i == 7 else t for i,t in enumerate(data.text)]
    data.to_csv(folder/'long.csv', index=False)
    status, out, err = run('train', '--model', 'lm', '--data', 'long.csv', '--max-tokens', 300, '--out', 'none', cwd=folder)
    assert status == 1 and 'row 8 ' in err and not (folder/'none').exists()

@pytest.fixture(scope='module')
def titled(folder, cards):
    "A bundle of two text columns, and the file that it learned from"
    data = pd.DataFrame(dict(title=['Great', 'Poor']*20, text=[f'I saw it number {i}' for i in range(40)], label=['pos', 'neg']*20))
    data.to_csv(folder/'two_columns.csv', index=False)
    done('train', '--model', 'imdb-small', '--forwards', '--data', 'two_columns.csv', '--text-col', 'title', 'text', '--out', 'columns', '--valid', 0, cwd=folder)
    return data

def test_a_bundle_knows_its_columns(folder, titled):
    both, own = done('evaluate', 'columns', '--data', 'two_columns.csv', '--text-col', 'title', 'text', cwd=folder), done('evaluate', 'columns', '--data', 'two_columns.csv', cwd=folder)
    assert both['accuracy'] == own['accuracy'] == 1
    said = done('predict', 'columns', '--file', 'two_columns.csv', cwd=folder)
    assert [o['label'] for o in said] == list(titled.label) and said[0]['text'] == 'xxfld 1 Great xxfld 2 I saw it number 0'
    titled.rename(columns=dict(title='head', text='body')).to_csv(folder/'renamed.csv', index=False)
    assert done('evaluate', 'columns', '--data', 'renamed.csv', '--text-col', 'head', 'body', cwd=folder)['accuracy'] == 1

@pytest.mark.parametrize('words, says', [
    (['evaluate', 'columns', '--data', 'two_columns.csv', '--text-col', 'text'], 'trained on the columns title, text, and text was named'),
    (['evaluate', 'columns', '--data', 'renamed.csv'], "no column 'title'"),
    (['evaluate', 'forward', '--data', 'two_columns.csv', '--text-col', 'title', 'text'], 'trained on the columns text, and title, text was named'),
    (['predict', 'columns', 'Poor'], 'trained on the columns title, text: give a frame with them, or for each text a row of 2'),
    (['predict', 'columns', '--file', 'two_columns.csv', '--text-col', 'text'], 'trained on the columns title, text, and text was named'),
    (['predict', 'columns', '--members', 'forward', '--file', 'two_columns.csv'], 'other columns')])
def test_other_columns_are_refused(folder, bundles, titled, words, says):
    titled.rename(columns=dict(title='head', text='body')).to_csv(folder/'renamed.csv', index=False)
    status, out, err = run(*words, cwd=folder)
    assert status == 1 and not out and says in err and err.count('\n') == 1, err

def test_a_frame_has_the_columns_of_the_bundle(folder, titled):
    clas = load_bundle(folder/'columns')
    want = list(titled.label)
    assert list(clas.predict_frame(titled).label) == list(clas.predict_frame(titled[['text', 'title']]).label) == want
    assert list(clas.predict_frame([('Great', 'a film'), ('Poor', 'a film')]).label) == ['pos', 'neg']
    for wrong, says in ((titled[['title', 'label']], "no column 'text'"), (titled.rename(columns=dict(title='a', text='b'))[['a', 'b']], "no column 'title'"),
                        (list(titled.text), 'columns title, text'), ([('Great',)], 'a row of 2')):
        with pytest.raises(CourseError, match=says) as e: clas.predict_frame(wrong)
        assert '\n' not in str(e.value)
    assert all((o == clas.to_ids.vocab.index('xxfld')).sum() == 2 for o in clas.to_ids.ids(clas.texts_of(titled)))

# Each tokenizer, from pretrain to ONNX

kinds = 'words', 'characters', 'bpe', 'wordpiece', 'unigram'

@pytest.fixture(scope='module', params=kinds)
def chain(request, folder):
    "One tokenizer all the way, through the command: its kind, the learner that `train` had, and what the sub-commands answered"
    kind, fitted = request.param, []
    short = sample_rows(rotten_tomatoes(), 300)
    short.to_csv(folder/'short.csv', index=False)
    at = lambda name: f'{kind}-{name}'
    same = '--corpus', 'short.csv', '--epochs', 1, '--bs', 8, '--seq-len', 32, '--hold-out', 0.1
    answers = dict(pretrain=done('pretrain', '--tokenizer', kind, '--max-vocab', 400, '--emb-sz', 16, '--n-hid', 24, '--n-layers', 2, '--out', at('wiki'), *same, cwd=folder),
                   finetune=done('finetune-lm', '--model', at('wiki'), '--out', at('lm'), *same, cwd=folder))
    with pytest.MonkeyPatch.context() as m:
        m.setattr(workflows, 'save_bundle', lambda learners, *args, **kw: (fitted.extend(learners), save_bundle(learners, *args, **kw)))
        answers['train'] = done('train', '--model', at('lm'), '--data', 'short.csv', '--out', at('bundle'), '--epochs', 1, 0, 0, 1, '--valid', 0.2, '--force', cwd=folder)
    answers['predict'] = done('predict', at('bundle'), '--force', *short.text[:9], cwd=folder)   # 400 words are few
    answers['generate'] = done('generate', at('lm'), '--prompt', 'A good film', '--tokens', 12, '--n', 2, '--seed', 1, cwd=folder)
    answers['export'] = done('export', at('bundle'), '--out', at('classifier.onnx'), cwd=folder)
    return kind, fitted[0], answers

def test_a_model_knows_its_tokenizer(folder, chain):
    kind, learn, answers = chain
    wiki, lm = (load_pretrained(folder/f'{kind}-{name}') for name in ('wiki', 'lm'))
    clas = load_bundle(folder/f'{kind}-bundle')
    assert len({tokenizer_name(o.config['tokenizer']) for o in (wiki, lm, clas, learn)}) == 1 and lm.config['tokenizer']['kind'] == kind
    text = 'An unwatchable remake, so slow!'
    want = wiki.tokenizer.tokenize(text)
    assert want == lm.tokenizer.tokenize(text) == clas.to_ids.tok.tokenize(text)
    assert run('tokenize', '-', '--model', f'{kind}-lm', stdin=text, cwd=folder)[1].split() == ' '.join(want).split()
    assert (folder/f'{kind}-bundle'/'tokenizer.json').exists() == (kind in kinds[2:])

def test_learner_bundle_and_command_say_the_same(folder, chain):
    kind, learn, answers = chain
    clas, texts = load_bundle(folder/f'{kind}-bundle'), [o['text'] for o in answers['predict']]
    probs = predictions(learn, learn.dls.test_dl(texts))[0]
    assert np.ptp(probs[:, 0]) > 1e-4, 'the answers are not all alike'
    assert np.allclose(clas.probabilities(texts), probs, atol=1e-5) and np.allclose([[o['p_neg'], o['p_pos']] for o in answers['predict']], probs, atol=1e-5)

def test_onnx_says_the_same(folder, chain):
    onnxruntime = pytest.importorskip('onnxruntime')
    kind, learn, answers = chain
    clas, texts = load_bundle(folder/f'{kind}-bundle'), [o['text'] for o in answers['predict']]
    session, ids = onnxruntime.InferenceSession(folder/answers['export'][0]), clas.to_ids.ids(texts)
    got = session.run(None, dict(ids=pad(ids), lens=np.array([len(o) for o in ids])))[0]
    assert np.allclose(got, clas.probabilities(texts), atol=1e-4)

def test_it_writes_text(chain):
    kind, _, answers = chain
    for text in answers['generate']:
        assert text.startswith('A good film') and '▁' not in text and '##' not in text and 'xx' not in text, text
        if kind == 'characters': assert len(text) <= len('A good film') + 12

def test_each_stage_is_measured(chain):
    kind, _, answers = chain
    assert 1 < answers['finetune']['perplexity'] < 400 and answers['finetune']['parent'] == f'{kind}-wiki'
    assert set(answers['train']) == {'bundle', 'read', 'model', 'n_labels', 'unknown', 'valid', 'tfidf'} and answers['train']['model'] == f'{kind}-lm, fwd'

@pytest.mark.parametrize('kind', kinds[1:])
def test_a_tokenizer_of_another_model_is_refused(folder, kind):
    "Before any work: loaders cut in words, a model of something else, if it has been made by the tests above"
    if not (folder/f'{kind}-lm').is_dir(): pytest.skip('no such model here')
    short, ck = pd.read_csv(folder/'short.csv')[:20], load_pretrained(folder/f'{kind}-lm')
    with pytest.raises(CourseError, match=f"'{kind}.*'words en'") as e: text_classifier_learner(classifier_dataloaders(short, short, load_pretrained('imdb-small')), ck)
    assert '\n' not in str(e.value)

# What costs nothing

def test_version(folder):
    import ulmfit_course
    assert run('--version', cwd=folder)[:2] == (0, f'ulmfit-course {ulmfit_course.__version__}\n')
    done = subprocess.run([sys.executable, '-m', 'ulmfit_course', '--version'], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == f'ulmfit-course {ulmfit_course.__version__}\n'

def test_help_answers_at_once():
    "Less than a tenth of a second of work, for nothing heavy is imported"
    code = """if True:
        import sys, time
        start = time.process_time()
        from ulmfit_course.cli import main
        try: main(sys.argv[1:])
        except SystemExit: pass
        print(time.process_time() - start, sorted({'torch', 'fastai', 'spacy', 'pandas', 'numpy'} & set(sys.modules)))"""
    def took(*words):
        *_, last = subprocess.run([sys.executable, '-c', code, *words], capture_output=True, text=True, check=True).stdout.splitlines()
        seconds, heavy = last.split(' ', 1)
        assert heavy == '[]'
        return float(seconds)
    for words in (['--help'], ['train', '--help']): assert min(took(*words) for _ in range(3)) < .1

def test_files_of_one_name_are_told_apart(folder):
    files = [folder/d/'news.txt' for d in ('one', 'two')]
    for f in files:
        f.parent.mkdir()
        f.write_text('\n'.join(f'{f} {i}' for i in range(40)))
    corpus_streams(files, folder/'news', 500, .2)
    files[0].write_text('something else')
    with pytest.raises(CourseError, match='another corpus'): corpus_streams(files, folder/'news', 500, .2)

def test_one_model_is_turned_into_either_direction(folder, cards):
    made = done('finetune-lm', '--model', 'wiki', '--reverse', '--both', '--corpus', 'corpus.jsonl', '--out', 'round', *once, cwd=folder)
    assert [card['parent'] for card in made] == ['wiki', 'wiki']
    assert [load_pretrained(folder/name).direction for name in ('round', 'round-backwards')] == ['fwd', 'bwd']

def test_a_command_can_be_typed_again(folder, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['x', 'pretrain', '--corpus', str(folder/'corpus.jsonl'), '--out', 'lm', '--license', 'CC BY-SA 3.0/4.0'])
    assert command_line() == "ulmfit-course pretrain --corpus corpus.jsonl --out lm --license 'CC BY-SA 3.0/4.0'"

def test_streams_of_another_corpus_are_not_taken(folder, cards):
    (folder/'other.jsonl').write_text(corpus(40, seed=1))
    status, out, err = run('finetune-lm', '--model', 'wiki', '--corpus', 'other.jsonl', '--out', 'lm', *once, cwd=folder)
    assert status == 1 and 'another corpus' in err and err.count('\n') == 1

def test_tokenize_reads_standard_input(folder):
    assert run('tokenize', '-', stdin='A GREAT film!!!', cwd=folder)[1].split() == ['xxbos', 'a', 'xxup', 'great', 'film', 'xxrep', '3', '!']

shipped = ['wiki-small', 'wiki-small-backwards', 'imdb-small', 'imdb-small-backwards']

def test_models_lists_what_ships(folder):
    models = json.loads(run('models', '--json', cwd=folder)[1])
    assert set(shipped) <= set(models)

@pytest.mark.slow
@pytest.mark.parametrize('model', ['wiki-small', 'imdb-small-backwards'])   # one of each kind: the other two take two minutes more
def test_what_a_card_claims_is_found_again(folder, model):
    from ulmfit_course.models import list_models
    status, out, err = run('perplexity', model, '--json', cwd=folder)
    assert status == 0, err
    found, card = json.loads(out), list_models()[model]
    assert found['tokens'] == card['valid_tokens'] and card['perplexity'] < 100
    assert [found[k] for k in ('perplexity', 'accuracy')] == pytest.approx([card['perplexity'], card['accuracy']], rel=1e-3)

@pytest.mark.parametrize('words, says', [
    (['evaluate', 'nowhere', '--data', 'x.csv'], 'nowhere'),
    (['finetune-lm', '--model', 'imdb-small', '--reverse', '--corpus', 'x.txt', '--out', 'y'], 'or name the other --direction'),
    (['pretrain', '--start', 'wiki-small', '--emb-sz', 400, '--corpus', 'x.txt', '--out', 'y'], 'leave out --emb-sz'),
    (['pretrain', '--start', 'wiki-small', '--tokenizer', 'bpe', '--corpus', 'x.txt', '--out', 'y'], 'leave out --tokenizer'),
    (['pretrain', '--tokenizer', 'letters', '--corpus', 'some.txt', '--hold-out', '0.2', '--out', 'y'], "unknown tokenizer 'letters': choose one of words, characters, bpe, wordpiece, unigram"),
    (['train', '--model', 'wiki-small', '--data', 'no.csv', '--out', 'b'], 'no.csv'),
    (['train', '--model', 'wiki-small', '--data', 'one.csv', '--out', 'b'], 'one class only'),
    (['train', '--model', 'wiki-small', '--data', 'two.csv', '--text-col', 'review', '--out', 'b'], "no column 'review'"),
    (['train', '--model', 'no-model', '--data', 'two.csv', '--out', 'b'], 'no-model'),
    (['generate', 'no-model'], 'no-model'),
    (['train', '--model', 'only', '--backwards', '--data', 'two.csv', '--out', 'b'], 'reads forwards'),
    (['train', '--model', 'only', '--both', '--data', 'two.csv', '--out', 'b'], 'reads forwards'),
    (['finetune-lm', '--model', 'fastai-wiki', '--corpus', 'two.csv', '--both', '--out', 'b'], 'fastai-wiki'),
    (['train', '--model', 'wiki-small', '--data', 'bytes.csv', '--out', 'b'], 'bytes.csv'),
    (['train', '--model', 'wiki-small', '--data', 'empty.csv', '--out', 'b'], 'empty.csv'),
    (['train', '--model', 'wiki-small', '--data', 'gap.csv', '--out', 'b'], 'gap.csv, row 2'),
    (['train', '--model', 'wiki-small', '--data', 'two.csv', '--out', 'mine'], 'holds other files'),
    *[(['train', '--model', 'wiki-small', '--data', 'two.csv', '--out', out], says) for out, says in (('.', 'the folder that you are in'),
        ('one.csv', 'is a file'), ('one.csv/b', 'is a file'), ('x'*300, 'cannot be written'), ('lost', 'leads nowhere'), ('app', 'holds other files'))],
    (['finetune-lm', '--model', 'wiki-small', '--corpus', 'two.csv', '--hold-out', '0', '--out', 'b'], '--hold-out'),
    (['finetune-lm', '--model', 'wiki-small', '--corpus', 'two.csv', '--text-col', 'review', '--out', 'b'], "no column 'review'")])
def test_mistakes_cost_one_line(folder, words, says):
    pd.DataFrame(dict(text=['a', 'b'], label=['x', 'x'])).to_csv(folder/'one.csv', index=False)
    pd.DataFrame(dict(text=['a b', 'b c'], label=['x', 'y'])).to_csv(folder/'two.csv', index=False)
    (folder/'bytes.csv').write_bytes(b'text,label\n\xff\xfe\x00,x\n')
    (folder/'empty.csv').write_text('text,label\n')
    (folder/'some.txt').write_text('\n'.join(f'text {i}' for i in range(40)))
    (folder/'gap.csv').write_text('text,label\na,x\n,y\n')
    (folder/'mine').mkdir(exist_ok=True); (folder/'mine'/'thesis.txt').write_text('mine')
    (folder/'app').mkdir(exist_ok=True); (folder/'app'/'config.json').write_text('{"port": 8080}')
    if not (folder/'lost').is_symlink(): (folder/'lost').symlink_to(folder/'nowhere')
    shutil.copytree(pretrained_dir/'wiki-small', folder/'only', dirs_exist_ok=True)   # there is none of the other direction beside it
    status, out, err = run(*words, cwd=folder)
    assert status == 1 and not out
    assert err.count('\n') == 1 and says in err
    assert not [*folder.glob('b'), *folder.glob('b.*')] and [f.name for f in (folder/'mine').iterdir()] == ['thesis.txt']

# What the machine, its user and its texts may do

def test_nothing_is_lost_where_a_score_cannot_be_had(folder):
    "Single letters: TF-IDF finds no words, and the classifier is kept"
    rows = [(' '.join('acgt'[(i*k) % 4] for k in range(1, 12)), 'xy'[i % 2]) for i in range(40)]
    pd.DataFrame(rows, columns=['text', 'label']).to_csv(folder/'dna.csv', index=False)
    status, out, err = run('train', '--model', 'imdb-small', '--forwards', '--data', 'dna.csv', '--valid', 0.3, '--out', 'dna', '--json', cwd=folder)
    assert status == 0, err
    assert 'TF-IDF finds no words' in json.loads(out)['tfidf'] and 0 <= json.loads(out)['valid']['accuracy'] <= 1
    assert load_bundle(folder/'dna').predict('a c g t')[0] in ('x', 'y')

@pytest.fixture(scope='module')
def greek(folder):
    "Labelled texts of which an English model knows only the marks"
    texts = [f'η ταινία ήταν πολύ {"καλή" if i % 2 else "κακή"} και μεγάλη, αριθμός {i}.' for i in range(40)]
    pd.DataFrame(dict(text=texts, label=['pos', 'neg']*20)).to_csv(folder/'greek.csv', index=False)
    return folder/'greek.csv'

def test_a_language_that_the_model_does_not_know(folder, greek, bundles):
    for words in (['train', '--model', 'imdb-small', '--forwards', '--data', greek, '--out', 'greek'], ['predict', 'bundle', '--file', greek],
                  ['evaluate', 'bundle', '--data', greek], ['perplexity', 'imdb-small', '--corpus', greek]):
        status, out, err = run(*words, cwd=folder)
        assert status == 1 and 'of the words of these texts' in err and '--force' in err, (words, out, err)
    assert not (folder/'greek').exists()
    for words, key in ((['perplexity', 'imdb-small', '--corpus', greek], 'unknown'), (['predict', 'bundle', '--file', greek], 'unknown')):
        status, out, err = run(*words, '--force', '--json', cwd=folder)
        assert status == 0, err
        found = json.loads(out)
        assert (found[0] if isinstance(found, list) else found)[key] > 1/3

def test_two_words_have_a_perplexity(folder):
    (folder/'hi.txt').write_text('Hi\n')
    status, out, err = run('perplexity', 'imdb-small', '--corpus', 'hi.txt', '--json', cwd=folder)
    assert status == 0 and json.loads(out)['perplexity'] > 1 or 'hi' not in err and '--hold-out' not in err and err.count('\n') == 1

def test_what_should_not_happen_costs_a_line_and_keeps_its_traceback(folder, monkeypatch):
    def broken(a): raise RuntimeError('a\x1b[31m surprise\non two lines')
    monkeypatch.setitem(cli.commands, 'models', (broken, *cli.commands['models'][1:]))
    status, out, err = run('models', cwd=folder)
    assert status == 1 and not out and err.count('\n') == 1 and '\x1b' not in err and 'surprise on two lines' in err
    assert 'RuntimeError' in (folder/'last-error.txt').read_text()

@pytest.mark.parametrize('name', ['SIGTERM', 'SIGHUP'])
def test_a_closed_window_stops_as_a_key_does(folder, name):
    code = f"""import os, signal, sys
from ulmfit_course import cli
def slow(a):
    try:
        os.kill(os.getpid(), signal.{name})
        while True: pass
    finally: open({str(folder/name)!r}, 'w').close()   # things were put in order
cli.commands['models'] = (slow, *cli.commands['models'][1:])
signal.signal(signal.{name}, signal.SIG_DFL)   # the tests themselves may run under nohup
sys.exit(cli.main(['models']))"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.count('\n') == 1 and 'stopped' in done.stderr and (folder/name).exists()

def test_a_console_of_another_encoding(folder):
    (folder/'heart.txt').write_text('Great \u2764 \U0001f600 caf\xe9', 'utf8')
    code = 'import sys; from ulmfit_course.cli import main; sys.exit(main())'
    ask = lambda *words: subprocess.run([sys.executable, '-c', code, 'tokenize', *words], cwd=folder, env=os.environ | dict(PYTHONIOENCODING='cp1252'), capture_output=True)
    done = ask('heart.txt')
    assert done.returncode == 0 and b'\\u2764 \\U0001f600 caf\xe9' in done.stdout and not done.stderr
    assert json.loads(ask('heart.txt', '--json').stdout)[-3:] == ['\u2764', '\U0001f600', 'caf\xe9']
    assert b'\\u03b3' in ask('\u03b3.txt').stderr   # a file's name in a message

def test_what_a_text_holds_does_not_steer_the_terminal(folder):
    (folder/'bell.txt').write_text('ding \x07\x1b]0;title\x07 dong')
    status, out, err = run('tokenize', 'bell.txt', cwd=folder)
    assert status == 0 and not {'\x07', '\x1b'} & set(out) and '\\x1b' in out

def test_options_stand_anywhere(folder, bundles):
    first = done('predict', 'bundle', 'A fine film', '--precision', 'float32', cwd=folder)
    assert done('predict', 'bundle', '--precision', 'float32', 'A fine film', cwd=folder) == first
    assert done('predict', '--precision', 'float32', 'bundle', 'A fine film', cwd=folder) == first
    status, out, err = run('predict', 'bundle', '--presicion', 'A fine film', cwd=folder)
    assert status == 2 and 'unrecognized arguments: --presicion' in err

@pytest.mark.parametrize('command', [['evaluate', 'bundle', '--data', 'x.csv'], ['predict', 'bundle', 'A film']])
def test_the_precision_is_the_fastest_unless_one_is_named(command):
    asked = lambda *words: cli.parser().parse_args([*command, *words]).precision
    assert asked() == 'auto' and [asked('--precision', p) for p in ('auto', 'float32', 'bf16', 'int8')] == ['auto', 'float32', 'bf16', 'int8']
    with pytest.raises(SystemExit), redirect_stderr(StringIO()): asked('--precision', 'float16')

def test_export_in_8_bits(folder, bundles):
    "Smaller than in float32, and it says nearly the same"
    onnxruntime = pytest.importorskip('onnxruntime')
    files = [folder/done('export', 'forward', '--out', name, *more, cwd=folder)[0] for name, more in (('full.onnx', ()), ('int8.onnx', ['--int8']))]
    assert files[1].stat().st_size < files[0].stat().st_size
    clas, texts = load_bundle(folder/'forward', precision='float32'), ['A fine film.', 'Never again, what a waste of an evening!']
    ids = clas.to_ids.ids(texts)
    got = onnxruntime.InferenceSession(files[1]).run(None, dict(ids=pad(ids), lens=np.array([len(o) for o in ids])))[0]
    assert np.allclose(got, clas.probabilities(texts), atol=.02)

def test_the_demo_is_quick_or_full():
    with pytest.raises(SystemExit) as e, redirect_stderr(StringIO()) as said: cli.main(['demo', '--quick', '--full'])
    assert e.value.code == 2 and 'choose one of --quick and --full' in said.getvalue()

def test_wrong_usage_is_two(folder):
    assert run('dance', cwd=folder)[0] == 2
    assert run('train', cwd=folder)[0] == 2
    assert run('predict', 'nowhere', cwd=folder)[0] == 2

# The lessons, from an installed package

@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    "A folder with the package as a wheel installs it, without the weights"
    folder = tmp_path_factory.mktemp('installed')
    shutil.copytree(root, folder/'clone', ignore=shutil.ignore_patterns('.*', '*.safetensors', 'runs', 'models', 'build', 'dist', '_build', '*.egg-info'))
    pip = [sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check']
    subprocess.run([*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', folder, folder/'clone'], check=True)
    subprocess.run([*pip, 'install', '--no-deps', '--target', folder/'packages', *folder.glob('*.whl')], check=True)
    shutil.rmtree(folder/'clone')
    return folder

def run_installed(installed, code, *words):
    "Run `code` where only the installed package can be found"
    env = os.environ | dict(PYTHONPATH=str(installed/'packages'))
    return subprocess.run([sys.executable, '-c', code, *map(str, words)], capture_output=True, text=True, cwd=installed, env=env)

def test_installed_package_carries_every_lesson(installed):
    done = run_installed(installed, 'import sys, ulmfit_course.lab as lab; lab.copy_course(sys.argv[1]); print(lab.__file__)', 'lessons')
    assert done.stdout.startswith(str(installed/'packages')), done.stderr
    tracked = [p for part in ('nbs', 'bench/results', 'experiments/results') for p in (root/part).rglob('*') if p.is_file() and '.ipynb_checkpoints' not in p.parts and not p.is_relative_to(root/'nbs/assignments')]
    assert len(tracked) > 20
    assert not [p for p in tracked if (installed/'lessons'/p.relative_to(root)).read_bytes() != p.read_bytes()]

def test_a_teacher_gets_the_assignments_and_a_learner_does_not(installed):
    code = "import sys; from ulmfit_course.cli import main; from ulmfit_course.lab import copy_course; copy_course('of a learner'); sys.exit(main())"
    done = run_installed(installed, code, 'assignments', 'of a teacher')
    assert done.returncode == 0, done.stderr
    teachers, learners = ({p.name for p in (installed/f'of a {who}').rglob('*') if p.is_file()} for who in ('teacher', 'learner'))
    assert {'nbgrader_config.py', '1_tokenizer.ipynb', '5_explain.ipynb', 'comments_hidden.csv'} < teachers
    assert teachers & learners == {'.course.json'} and '00_thirty_minutes.ipynb' in learners

@pytest.mark.parametrize('command, package', [('lab', 'jupyterlab'), ('app', 'voila')])
def test_missing_packages_cost_one_line(installed, command, package):
    done = run_installed(installed, f'import sys; sys.modules[{package!r}] = None; from ulmfit_course.cli import main; sys.exit(main())', command)
    assert done.returncode == 1 and done.stderr == f"ulmfit-course: {package} missing: pip install 'ulmfit-course[lab]'\n"

def test_app_names_what_is_no_bundle(folder):
    status, out, err = run('app', '--model', 'nowhere', '--no-browser', cwd=folder)
    assert status == 1 and err.startswith('ulmfit-course: nowhere is no checkpoint') and err.count('\n') == 1
