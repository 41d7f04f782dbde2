"What a reader finds in the notebooks: lessons that show more than they export and ask for something, fastai's tutorial as it is written"
import json, re, sys
from pathlib import Path
import pytest

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'tools'))
import lessons

every_lesson = pytest.mark.parametrize('path', lessons.lessons(), ids=lambda p: p.stem)
notebooks = sorted(p for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts)

@every_lesson
def test_a_lesson_is_a_lesson(path):
    "The bounds stand in `faults`"
    assert lessons.faults(lessons.report(path)) == []

def test_the_table_is_todays():
    guide = (root/'CONTRIBUTING.md').read_text('utf8')
    assert guide == lessons.with_table(guide, [*map(lessons.report, lessons.lessons())]), 'python tools/lessons.py --write'

def test_every_drawing_is_shown():
    shown = {lessons.called(c) for p in lessons.lessons() for c in lessons.calls(p)}
    assert lessons.drawings() <= shown

@pytest.mark.parametrize('path', lessons.library(), ids=lambda p: p.stem)
def test_no_line_of_the_library_is_wider_than_140_columns(path):
    assert not lessons.too_wide(path, lesson=False)

def code(*lines): return dict(cell_type='code', source='\n'.join(lines), metadata={})
def text(*lines): return dict(cell_type='markdown', source='\n'.join(lines))

def counted(folder, *cells):
    (folder/'some.ipynb').write_text(json.dumps(dict(cells=cells)))
    return lessons.report(folder/'some.ipynb')

def test_a_lesson_is_counted(tmp_path):
    found = counted(tmp_path, text('| Time | 30 minutes to study; 2 for the machine |'), code('#| export', *['x = 1']*11), code('y'*101, 'z'),
                    code('def f(): raise NotImplementedError', 'check(f)', "Help('f')"), code("driven = Quiz((1, 2), (3, 4))", 'driven.score'),
                    code("Quiz(('a', {}, 'b'), ('c', {}, 'd'))"), code("Guess('How many?', 3)", 'display(lstm_cell())', '%time f()'))
    assert found == dict(lesson='some', study=30, machine=2, cells=7, median_cell=2.5, longest=12, share=12/23, exercises=1, questions=2, guesses=1,
                         diagrams=1, words=9/23, wide=1, unfolded=1, lines=23, exported=12)
    assert len(lessons.faults(found)) == 5

@pytest.mark.parametrize('line,study,machine', [
    ('90 minutes to study, with the exercises; 2 for the machine, a laptop CPU', 90, 2), ('45 minutes to study; 1 for the machine', 45, 1), ('it depends', None, None)])
def test_times_are_read(line, study, machine): assert lessons.times(line) == dict(study=study, machine=machine)

@pytest.mark.parametrize('path', notebooks, ids=lambda p: p.stem)
def test_one_word_for_one_thing(path):
    prose = ' '.join(''.join(c['source']) for c in json.loads(path.read_text('utf8'))['cells'] if c['cell_type'] == 'markdown')
    assert not re.findall(r'\b(?:(?:this|next|last|each|other|earlier|later) rooms?|[Rr]ooms? \d|at rest)\b.{0,40}|\[room.{0,40}', prose), 'a lesson is a lesson, a saved model is a saved model'

# fastai's text tutorial, its statements in their order: https://docs.fast.ai/tutorial.text.html

tutorial = '''
path = untar_data(URLs.IMDB)
dls = TextDataLoaders.from_folder(path, valid='test')
dls.show_batch(
learn = text_classifier_learner(dls, AWD_LSTM, drop_mult=0.5, metrics=accuracy)
learn.fine_tune(
learn.show_results(
learn.predict("I really liked that movie!")
blocks=(TextBlock.from_folder(path), CategoryBlock)
get_items=get_text_files
get_y=parent_label
splitter=GrandparentSplitter(valid_name='test')
dls_lm = TextDataLoaders.from_folder(path, is_lm=True, valid_pct=0.1)
dls_lm.show_batch(
learn = language_model_learner(dls_lm, AWD_LSTM, metrics=[accuracy, Perplexity()], path=path, wd=0.1).to_fp16()
learn.fit_one_cycle(1, 1e-2)
learn.save('1epoch')
learn = learn.load('1epoch')
learn.unfreeze()
learn.fit_one_cycle(
learn.save_encoder('finetuned')
preds = [learn.predict(TEXT, N_WORDS, temperature=0.75) for _ in range(N_SENTENCES)]
dls_clas = TextDataLoaders.from_folder(path, valid='test', text_vocab=dls_lm.vocab)
learn = text_classifier_learner(dls_clas, AWD_LSTM, drop_mult=0.5, metrics=accuracy)
learn = learn.load_encoder('finetuned')
learn.fit_one_cycle(1, 2e-2)
learn.freeze_to(-2)
learn.fit_one_cycle(1, slice(1e-2/(2.6**4), 1e-2))
learn.freeze_to(-3)
learn.fit_one_cycle(1, slice(5e-3/(2.6**4), 5e-3))
learn.unfreeze()
learn.fit_one_cycle(2, slice(1e-3/(2.6**4), 1e-3))
'''.strip().splitlines()

def test_the_tutorial_has_the_lines_of_fastais_in_their_order():
    "`nbdev-test` runs them; here nobody may have bent them"
    plain = lambda s: re.sub(r'\s+', '', s)
    code = plain(''.join(lessons.source(c) for c in lessons.code_cells(root/'nbs/tutorials/05_imdb_as_in_fastai.ipynb')))
    place = 0
    for line in tutorial:
        found = code.find(plain(line), place)
        assert found >= 0, line
        place = found + 1
    assert code.startswith('fromulmfit_course.allimport*') and 'fastai.text' not in code
